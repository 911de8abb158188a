"""Reads data in each form that `fit` takes into memory."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from fastbat_tf.data.indexing import is_labeled_dict, split_index
from fastbat_tf.data.registry import MEMORY_LIMIT
from fastbat_tf.errors import InputError

# What else than labels and images a rank is taken for.
_IMAGES, _EXAMPLE = 4, 3


class LabeledImages(NamedTuple):
    """Images and labels in memory: a batch, or a whole data set.

    Attributes:
        images: Array `(examples, height, width, channels)` of any type.
        labels: Array `(examples, ...)` in any form that
            `fastbat_tf.data.classes.as_classes` takes.
        is_weighted: Whether there were sample weights. Measuring counts each
            example once, so they are not kept.
    """

    images: np.ndarray
    labels: np.ndarray
    is_weighted: bool


def read_examples(dataset: Any) -> LabeledImages:
    """Reads labeled images in any form that `fit` takes into memory.

    Args:
        dataset: A pair `(images, labels)` of arrays or tensors, or a
            `tf.data.Dataset`, a `keras.utils.PyDataset`, a generator or any
            other iterable of such batches. Sample weights may follow the
            labels. A dict with `image` and `label`, as TensorFlow Datasets
            makes it, stands for the pair, and the dict that
            `fastbat_tf.with_index` makes for the images.

    Returns:
        A `LabeledImages` of all examples, in their order.

    Raises:
        InputError: If it is something else, or endless, or empty.

    Example:

    >>> dataset = tf.data.Dataset.from_tensors((np.ones((2, 8, 8, 3)), [3, 5]))
    >>> read_examples(dataset).labels
    array([3, 5], dtype=int32)
    """
    batches = [_read_batch(element) for element in _elements(dataset)]
    if not batches:
        raise InputError(
            "The data set is expected to hold at least one batch. "
            "Received: batches=0"
        )
    for name in ("images", "labels"):
        shapes = {getattr(batch, name).shape[1:] for batch in batches}
        if len(shapes) > 1:
            first, other, *_ = sorted(shapes)
            raise InputError(
                f"The {name} of all batches are expected to have one shape. "
                f"Received: {name}.shape=(batch, {_sizes(first)}) and "
                f"(batch, {_sizes(other)})"
            )
    return LabeledImages(
        np.concatenate([batch.images for batch in batches]),
        np.concatenate([batch.labels for batch in batches]),
        any(batch.is_weighted for batch in batches),
    )


def _sizes(shape):
    return ", ".join(map(str, shape))


def _elements(dataset):
    """Yields the elements of a data set; that of arrays is the whole."""
    if isinstance(dataset, tf.data.Dataset):
        count = int(dataset.cardinality())
        if count == tf.data.INFINITE_CARDINALITY:
            raise InputError(
                "The data set is expected to be finite; call its method "
                "`take`. Received: cardinality=infinite"
            )
        elements = dataset.as_numpy_iterator()
        return elements if count >= 0 else _limited(elements)
    if isinstance(dataset, keras.utils.PyDataset):
        return (dataset[number] for number in range(_count(dataset)))
    if isinstance(dataset, tuple | list) or is_labeled_dict(dataset):
        return [dataset]
    is_array = hasattr(dataset, "shape") or isinstance(dataset, str | dict)
    if is_array or not isinstance(dataset, Iterable):
        raise InputError(
            "The data set is expected to be a pair (images, labels), or "
            "batches of them: a tf.data.Dataset, a keras.utils.PyDataset or a "
            f"generator. Received: dataset={describe(dataset)}"
        )
    return _limited(dataset)


def _count(dataset):
    """The number of batches of a `PyDataset`."""
    try:
        count = dataset.num_batches
    except NotImplementedError:
        count = None
    if count is None:
        raise InputError(
            "The PyDataset is expected to be finite: `__len__` returns the "
            "number of batches. "
            f"Received: dataset={describe(dataset)} without a length"
        )
    return count


def _limited(elements):
    """Ends data that do not know their length before they fill the memory."""
    size = 0
    for element in elements:
        size += sum(
            getattr(part, "nbytes", 0) for part in keras.tree.flatten(element)
        )
        if size > MEMORY_LIMIT:
            raise InputError(
                "Data of unknown length are expected to end within "
                f"{MEMORY_LIMIT / 1e9:g} GB; read more of them into arrays, "
                "or state the length of a tf.data.Dataset with "
                "tf.data.experimental.assert_cardinality. "
                f"Received: {size / 1e9:.3g} GB, and more"
            )
        yield element


def _read_batch(element):
    images, labels, weights = _split(element)
    images = _as_array("images", _only_input(images))
    labels = _as_array("labels", labels)
    if images.ndim <= 2 and labels.ndim in (_EXAMPLE, _IMAGES):
        raise InputError(
            "The images are expected first: (images, labels). Received: "
            f"images.shape={images.shape}, labels.shape={labels.shape}"
        )
    if images.ndim == _EXAMPLE and labels.ndim == 0:
        raise InputError(
            "Batches of (images, labels) are expected; call "
            "dataset.batch(...). "
            f"Received: images.shape={images.shape}, labels.shape=()"
        )
    if not images.ndim or not labels.ndim or len(images) != len(labels):
        raise InputError(
            "The same number of images and labels is expected. "
            f"Received: images.shape={images.shape}, "
            f"labels.shape={labels.shape}"
        )
    if images.ndim != _IMAGES:
        advice = ""
        if images.ndim == _EXAMPLE:
            advice = "; gray images have one channel, images[..., None]"
        raise InputError(
            "Images of shape (examples, height, width, channels) are "
            f"expected{advice}. Received: images.shape={images.shape}"
        )
    return LabeledImages(images, labels, weights is not None)


def _split(element):
    """Splits a batch into images, labels and weights."""
    if isinstance(element, tuple | list) and not 1 <= len(element) <= 3:
        raise InputError(
            "A pair (images, labels) is expected, or with sample weights "
            "(images, labels, sample_weight). "
            f"Received: {len(element)} parts"
        )
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(element)
    if labels is None and is_labeled_dict(images):
        images, labels = images["image"], images["label"]
    if labels is None:
        raise InputError(
            "Labels are expected beside the images, as a pair (images, labels) "
            'or a dict with "image" and "label". '
            f"Received: {describe(images)}"
        )
    return images, labels, weights


def _only_input(inputs):
    """Takes the images out of a dict or list that holds nothing else."""
    inputs, _ = split_index(inputs)
    parts = list(inputs.values()) if isinstance(inputs, dict) else inputs
    is_structure = isinstance(inputs, dict) or (
        isinstance(inputs, list | tuple)
        and all(len(getattr(part, "shape", ())) == _IMAGES for part in inputs)
    )
    if not is_structure:
        return inputs
    if len(parts) == 1:
        return parts[0]
    raise InputError(
        "Images are expected as one array; to measure a model of several "
        "inputs, pass a function of the images that fixes the others. "
        f"Received: images={describe(inputs)}"
    )


def _as_array(name, value):
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        array = None
    if array is None or array.dtype.kind == "O":
        raise InputError(
            f"The {name} are expected as one array. "
            f"Received: {name}={describe(value)}"
        )
    return array


def describe(value):
    """What a value is, in few words."""
    if isinstance(value, dict):
        return f"dict with {', '.join(map(str, value)) or 'no keys'}"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} of {len(value)}"
    if isinstance(value, str | int | float):
        return repr(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    kind = type(value).__name__
    shape = getattr(value, "shape", None)
    return kind if shape is None else f"{kind} of shape {tuple(shape)}"
