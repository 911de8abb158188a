"""What an evaluation is given: a model, a data set, and how much of it."""

import os
import pathlib
import zlib

import keras
import numpy as np
import tensorflow as tf

from fastbat_tf.data.sources import Stream
from fastbat_tf.errors import InputError
from fastbat_tf.saving import model_files
from fastbat_tf.training.pixel_range import PixelRange


def as_network(model, pixel_range=None, default=(0, 1)):
    """A `keras.Model`, the path of a model, or a callable, as a callable.

    Args:
        model: As said.
        pixel_range: The range of the pixels that it takes; None for that of
            a `RobustClassifier`, and `default` for any other model.
        default: As said.

    Returns:
        A callable from images in [0, 1] to logits, and the `PixelRange` of
        the model; a Keras model answers as in inference.

    Raises:
        InputError: If it is no model, or a `RobustClassifier` of another
            range.
    """
    network = _as_callable(model)
    own = getattr(network, "pixel_range", None)
    if pixel_range is None:
        pixel_range = default if own is None else own
    pixel_range = PixelRange.parse(pixel_range)
    if own is not None and PixelRange.parse(own) != pixel_range:
        raise InputError(
            f"`pixel_range` is expected as that of the model, {tuple(own)}. "
            f"Received: pixel_range={tuple(pixel_range)}"
        )
    return pixel_range.wrap(network), pixel_range


def _as_callable(model):
    if isinstance(model, keras.Model):
        return model_files.logits_of(model)
    if isinstance(model, str | os.PathLike):
        return model_files.load(model)
    if not callable(model):
        raise InputError(
            "The model is expected as a keras.Model, a path, or a callable "
            f"from images to logits. Received: model={model!r}"
        )
    return model


def check_count(split, max_examples):
    """Refuses a number of examples that a split cannot give.

    Args:
        split: `Examples` or a `Stream`.
        max_examples: Integer; 0 for all.
    """
    _check_range(split.size, max_examples)
    if isinstance(split, Stream):
        split.check_fits("max_examples", max_examples)


def take(dataset, max_examples, seed):
    """A class-balanced subset of a data set, in memory.

    Args:
        dataset: A pair of arrays, a `tf.data.Dataset` of batches, or a
            `Stream`, of which the subset alone is decoded.
        max_examples: Integer, how many; 0 for all.
        seed: Integer.

    Returns:
        Images, labels, and what `choose` gives.
    """
    if isinstance(dataset, Stream):
        check_count(dataset, max_examples)
        chosen, subset = choose(dataset.labels, max_examples, seed)
        return *dataset.read(chosen), chosen, subset
    images, labels = as_arrays(dataset)
    chosen, subset = choose(labels, max_examples, seed)
    return images[chosen], labels[chosen], chosen, subset


def as_arrays(dataset):
    """A pair of arrays or a `tf.data.Dataset` of batches, as two arrays."""
    if isinstance(dataset, tf.data.Dataset):
        return _read(dataset)
    if not isinstance(dataset, tuple | list) or len(dataset) != 2:
        raise InputError(
            "The data set is expected as a pair (images, labels) or a "
            f"tf.data.Dataset of batches. Received: dataset={type(dataset)}"
        )
    images, labels = (np.asarray(part) for part in dataset)
    if not images.ndim or not labels.ndim or len(images) != len(labels):
        raise InputError(
            "Images and labels are expected in the same number. "
            f"Received: images.shape={images.shape}, "
            f"labels.shape={labels.shape}"
        )
    return images, labels


def _read(dataset):
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise InputError(
            "The data set is expected to end; take a part of it. "
            "Received: cardinality=infinite"
        )
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


def choose(labels, max_examples, seed):
    """A class-balanced subset.

    Args:
        labels: Integer array `(examples,)` or `(examples, 1)`.
        max_examples: Integer, how many; all if None or 0.
        seed: Integer.

    Returns:
        The sorted indices, and a sentence that says so; None for all.

    Example:

    >>> choose(np.array([0, 0, 0, 1, 1, 0]), 4, seed=0)[0].tolist()
    [0, 2, 3, 4]
    """
    count = len(labels)
    _check_range(count, max_examples)
    if not max_examples or max_examples == count:
        return np.arange(count), None
    labels = np.asarray(labels).reshape(count, -1)[:, 0]
    shuffled = np.random.default_rng(seed).permutation(count)
    # Each example's place among those of its class: all first ones come first.
    place = np.empty(count, np.int64)
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        place[members] = np.arange(len(members))
    by_place = shuffled[np.argsort(place[shuffled], kind="stable")]
    return np.sort(by_place[:max_examples]), (
        f"A class-balanced subset, drawn with seed {seed}: {max_examples} of "
        f"{count} examples."
    )


def _check_range(count, max_examples):
    if max_examples and not 0 < max_examples <= count:
        raise InputError(
            f"`max_examples` is expected in [0, {count}], the size of the data "
            f"set; 0 for all. Received: max_examples={max_examples}"
        )


def fingerprint(arrays):
    """A checksum of arrays."""
    checksum = 0
    for array in arrays:
        checksum = zlib.crc32(np.ascontiguousarray(array), checksum)
    return checksum


def fingerprint_of_model(model):
    """A checksum of a model's weights or files; of a callable there is none."""
    if isinstance(model, keras.Model):
        return fingerprint(model.get_weights())
    if isinstance(model, str | os.PathLike):
        path = pathlib.Path(model)
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        checksum = 0
        for file in files:
            if file.is_file():
                checksum = zlib.crc32(file.read_bytes(), checksum)
        return checksum
    return None
