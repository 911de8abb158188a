"""A batch of data, in each form in which Keras passes it."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from fastbat_tf.data.indexing import is_labeled_dict, split_index
from fastbat_tf.errors import InputError

INDEX_IS_MISSING = (
    "The method remembers every example; expected batches that say which "
    "examples they hold: images in memory, fastbat_tf.with_index(dataset), or "
    '{"images": images, "index": index} with their indices in the data set. '
    "Received: index=None"
)


class Batch(NamedTuple):
    """The parts of one batch of data.

    Attributes:
        inputs: The images, or whatever else the classifier takes, such as a
            dict of several inputs.
        labels: Labels as the loss expects them, or None.
        sample_weight: Tensor `(batch,)`, the weight of each example in the
            loss, or None.
        index: Integer tensor `(batch,)`, the index of each example in the data
            set, or None.
    """

    inputs: Any
    labels: Any = None
    sample_weight: Any = None
    index: Any = None


def unpack(data, needs_index=False):
    """Unpacks a batch, in each form in which Keras passes it.

    Args:
        data: Images, labels and sample weights, as a tuple. The images may be
            `{"images": images, "index": index}`. Or a dict with `image` and
            `label`, as TensorFlow Datasets makes it; only these two are used.
        needs_index: Whether the indices are needed. Defaults to False.

    Returns:
        A `Batch`.

    Raises:
        InputError: If the indices are needed and missing.
    """
    inputs, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    if labels is None and is_labeled_dict(inputs):
        inputs, labels = inputs["image"], inputs["label"]
    inputs, index = split_index(inputs)
    if index is not None:
        index = tf.convert_to_tensor(index)
    if needs_index and index is None:
        raise InputError(INDEX_IS_MISSING)
    return Batch(inputs, labels, sample_weight, index)
