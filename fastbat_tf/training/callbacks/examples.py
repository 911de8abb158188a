"""The examples that callbacks measure a classifier on."""

import numpy as np
import tensorflow as tf

from fastbat_tf.data.indexing import is_labeled_dict
from fastbat_tf.data.sources import Examples
from fastbat_tf.errors import InputError
from fastbat_tf.methods.batch import unpack


def in_unit_range(model, examples):
    """Maps images in the range of a model's pixels to [0, 1].

    Args:
        model: The `RobustClassifier`, or any other model, which takes [0, 1].
        examples: Pair of images `(examples, height, width, channels)` and
            labels, or a `tf.data.Dataset` of batches.

    Returns:
        `Examples` as attacks take them. uint8 images stay as they are: attacks
        divide them by 255.
    """
    if isinstance(examples, tf.data.Dataset):
        examples = read_batches(examples)
    images, labels = examples
    pixel_range = getattr(model, "_pixel_range", None)
    images = np.asarray(images)
    if pixel_range is not None and images.dtype != np.uint8:
        images = pixel_range.to_unit(images)
    return Examples(images, labels)


def read_batches(dataset):
    """Reads a `tf.data.Dataset` of batches of images and labels into arrays.

    Raises:
        InputError: If it is infinite or empty, or holds something else.
    """
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise InputError(
            "The data set is expected to be finite; call its method `take`. "
            "Received: cardinality=infinite"
        )
    spec = dataset.element_spec
    if is_labeled_dict(spec) or (isinstance(spec, tuple) and spec[1:]):
        # Dicts of TensorFlow Datasets, and images with an index.
        dataset = dataset.map(_as_pair)
        spec = dataset.element_spec
    if (
        not isinstance(spec, tuple)
        or len(spec) != 2
        or not all(isinstance(part, tf.TensorSpec) for part in spec)
        or spec[0].shape.rank not in (4, None)
    ):
        raise InputError(
            "The data set is expected to hold batches of (images, labels). "
            f"Received: element_spec={spec}"
        )
    batches = list(dataset.as_numpy_iterator())
    if not batches:
        raise InputError(
            "The data set is expected to hold at least one batch. "
            "Received: batches=0"
        )
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _as_pair(*element):
    batch = unpack(element[0] if len(element) == 1 else element)
    pair = batch.inputs, batch.labels
    return pair if batch.sample_weight is None else (*pair, batch.sample_weight)
