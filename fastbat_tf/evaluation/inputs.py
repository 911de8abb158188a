"""Reads the model and the data set that an evaluation is given."""

import os
import pathlib
import zlib
from typing import NamedTuple

import keras
import numpy as np

from fastbat_tf.attacks import models
from fastbat_tf.data.classes import as_classes
from fastbat_tf.data.examples import describe, read_examples
from fastbat_tf.data.sources import Stream
from fastbat_tf.errors import InputError
from fastbat_tf.saving import model_files

UNWEIGHTED = "The sample weights are ignored: each example counts once."


def as_network(model, pixel_range=None, default=(0, 1), *, allow_code=False):
    """Does what `fastbat_tf.attacks.models.as_network` does, also for a path.

    Args:
        model: A `keras.Model`, the path of a model, or a callable.
        pixel_range: As for that function. Defaults to None.
        default: As for that function. Defaults to `(0, 1)`.
        allow_code: Whether the file of a path may bring code; see
            `fastbat_tf.saving.model_files.load`. Defaults to `False`.

    Returns:
        What that function returns.

    Raises:
        InputError: If `model` is not a model, or if it is a `RobustClassifier`
            with another pixel range.
    """
    if isinstance(model, str | os.PathLike):
        model = model_files.load(model, allow_code=allow_code)
    elif not callable(model):
        raise InputError(
            "The model is expected to be a keras.Model, a path, or a callable "
            "from images to logits, and to come before the data set. "
            f"Received: model={describe(model)}"
        )
    return models.as_network(model, pixel_range, default)


def check_count(split, max_examples):
    """Rejects a subset that is larger than a split, or than memory allows.

    Args:
        split: `Examples` or a `Stream`.
        max_examples: Integer, the size of the subset; 0 for all examples.

    Raises:
        InputError: If `max_examples` is out of range.
    """
    _check_range(split.size, max_examples)
    if isinstance(split, Stream):
        split.check_fits("max_examples", max_examples)


class Sample(NamedTuple):
    """The examples that an evaluation measures.

    Attributes:
        images: Array `(examples, height, width, channels)`.
        labels: Integer array `(examples,)`.
        index: Integer array `(examples,)`, their indices in the data set.
        description: A sentence about the subset; None for the whole data set.
        notes: Sentences about what was done to the data. Defaults to none.
        classes: Integer, the number of classes, or None if the form of the
            labels does not tell it. Defaults to None.
    """

    images: np.ndarray
    labels: np.ndarray
    index: np.ndarray
    description: str | None
    notes: tuple[str, ...] = ()
    classes: int | None = None


def take(dataset, max_examples, seed):
    """Reads a class-balanced subset of a data set into memory.

    Args:
        dataset: What `read_examples` takes, or a `Stream`. Only the subset of
            a `Stream` is decoded.
        max_examples: Integer, the size of the subset; 0 for all examples.
        seed: Integer.

    Returns:
        A `Sample`.

    Raises:
        InputError: If `dataset` is not a data set, or too small.
    """
    if isinstance(dataset, Stream):
        check_count(dataset, max_examples)
        index, description = choose(dataset.labels, max_examples, seed)
        return Sample(*dataset.read(index), index, description)
    images, labels, is_weighted = read_examples(dataset)
    labels, classes = as_classes(labels, len(images))
    index, description = choose(labels, max_examples, seed)
    notes = (UNWEIGHTED,) if is_weighted else ()
    return Sample(
        images[index], labels[index], index, description, notes, classes
    )


def to_unit(sample, pixels):
    """Maps the images of a `Sample` to [0, 1]; uint8 ones may stay.

    Args:
        sample: A `Sample` with images in `pixels`.
        pixels: A `PixelRange`.

    Returns:
        A `Sample`, with a note if rounding had left pixels outside the range.

    Raises:
        InputError: If they are outside the range by more than that.
    """
    images = pixels.to_unit_array(sample.images)
    notes = sample.notes
    excess = pixels.excess(sample.images)
    if excess > 0:
        notes += (
            f"Pixels that rounding had left outside {pixels}, by at most "
            f"{excess:.2g}, were clipped.",
        )
    return sample._replace(images=images, notes=notes)


def choose(labels, max_examples, seed):
    """Draws a class-balanced subset.

    Args:
        labels: Integer array `(examples,)` or `(examples, 1)`.
        max_examples: Integer, the size of the subset; None or 0 for all
            examples.
        seed: Integer.

    Returns:
        The sorted indices, and a sentence that describes the subset, or None
        for all examples.

    Raises:
        InputError: If there are fewer examples.

    Example:

    >>> choose(np.array([0, 0, 0, 1, 1, 0]), 4, seed=0)[0].tolist()
    [2, 3, 4, 5]
    """
    count = len(labels)
    _check_range(count, max_examples)
    if not max_examples or max_examples == count:
        return np.arange(count), None
    labels = np.asarray(labels).reshape(count, -1)[:, 0]
    shuffled = np.random.default_rng(seed).permutation(count)
    # The rank of each example within its class; examples of rank 0 come first.
    rank = np.empty(count, np.int64)
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        rank[members] = np.arange(len(members))
    by_rank = shuffled[np.argsort(rank[shuffled], kind="stable")]
    return np.sort(by_rank[:max_examples]), (
        f"A class-balanced subset, drawn with seed {seed}: {max_examples} of "
        f"{count} examples."
    )


def _check_range(count, max_examples):
    if max_examples and not 0 < max_examples <= count:
        raise InputError(
            f"`max_examples` is expected in [0, {count}], where {count} is the "
            "size of the data set and 0 stands for all of it. "
            f"Received: max_examples={max_examples}"
        )


def fingerprint(arrays):
    """The CRC-32 checksum of a sequence of arrays."""
    checksum = 0
    for array in arrays:
        checksum = zlib.crc32(np.ascontiguousarray(array), checksum)
    return checksum


def fingerprint_of_model(model):
    """A checksum of a model's weights or files; None for a callable."""
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
