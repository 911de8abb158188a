"""Reads data sets into memory as uint8 arrays."""

import pathlib
import urllib.request
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fastbat_tf import data
from fastbat_tf.errors import InputError

EMBEDDED = pathlib.Path(__file__).parent


class Examples(NamedTuple):
    """Images and labels.

    Attributes:
        images: uint8 array `(examples, height, width, channels)`.
        labels: int32 array `(examples,)`.
    """

    images: np.ndarray
    labels: np.ndarray


class Splits(NamedTuple):
    """The three splits of a data set, each `Examples`."""

    train: Examples
    validation: Examples
    test: Examples


def load(name, data_dir=None, validation_share=0.1):
    """Reads a data set.

    Args:
        name: A key of `fastbat_tf.data.DATASETS`.
        data_dir: Where TensorFlow Datasets keeps prepared data; its own
            default if None.
        validation_share: Float in (0, 1): this last part of the training split
            becomes the validation split.

    Returns:
        The `Splits`.

    Raises:
        InputError: If the data set is unknown or cannot be had.

    Example:

    >>> load("cifar10_mini").validation.images.shape
    (400, 32, 32, 3)
    """
    spec = data.get(name)
    if spec.tfds_name is None:
        train, test = (_read_sheet(name, s, spec) for s in ("train", "test"))
    else:
        train, test = _read_tfds(name, spec, data_dir)
    count = len(train.labels) - round(validation_share * len(train.labels))
    if not 0 < count < len(train.labels):
        raise InputError(
            "`validation_share` leaves no image in one of the splits. "
            f"Received: validation_share={validation_share}"
        )
    head, tail = (
        Examples(train.images[part], train.labels[part])
        for part in (slice(count), slice(count, None))
    )
    return Splits(head, tail, test)


def _read_sheet(name, split, spec):
    file = EMBEDDED / name / f"{split}.png"
    sheet = tf.io.decode_png(file.read_bytes(), channels=3).numpy()
    height, width, channels = spec.image_shape
    rows, columns = sheet.shape[0] // height, sheet.shape[1] // width
    images = sheet.reshape(rows, height, columns, width, channels)
    images = images.transpose(0, 2, 1, 3, 4).reshape(-1, *spec.image_shape)
    # The classes take turns in the sheet.
    labels = np.arange(len(images), dtype=np.int32) % spec.num_classes
    return Examples(images, labels)


def _read_tfds(name, spec, data_dir):
    import tensorflow_datasets as tfds  # Slow, and not needed by the others.

    builder = tfds.builder(spec.tfds_name, data_dir=data_dir)
    try:
        if not builder.is_prepared():
            # Asked first: the downloader itself retries for minutes, and
            # leaves a directory behind.
            urllib.request.urlopen(spec.source_url, timeout=20).close()
        builder.download_and_prepare()
    except (OSError, RuntimeError, tfds.download.DownloadError) as error:
        raise InputError(
            f"The data set {name} is neither prepared nor can it be "
            "downloaded. Expected one of: --data_dir=DIR with "
            f"DIR/{spec.tfds_name.replace(':', '/')} prepared by TensorFlow "
            f"Datasets; a network that reaches {spec.source_url}; "
            "--dataset=cifar10_mini, which needs neither. "
            f"Received: data_dir={pathlib.Path(builder.data_dir).parents[1]}"
        ) from error
    return tuple(
        Examples(split["image"], split["label"].astype(np.int32))
        for split in (
            tfds.as_numpy(builder.as_dataset(split=name, batch_size=-1))
            for name in ("train", "test")
        )
    )
