"""Reads data sets that TensorFlow Datasets has prepared."""

import contextlib
import io
import pathlib
import urllib.request

import numpy as np
import tensorflow as tf
from google.protobuf import json_format

from fastbat_tf import data
from fastbat_tf.data.sources import Examples, TFRecords, reason_of
from fastbat_tf.errors import InputError
from fastbat_tf.runtime import display

# The errors of TensorFlow Datasets for directories that are incomplete, hold
# something else, or were written by another version.
UNREADABLE = (
    AssertionError,
    AttributeError,
    KeyError,
    OSError,
    TypeError,
    ValueError,
    json_format.Error,
    tf.errors.OpError,
)


def get(name, data_dir):
    """Returns the builder of a data set, after preparing it if necessary.

    Args:
        name: A key of `fastbat_tf.data.DATASETS`.
        data_dir: The directory of TensorFlow Datasets; None for its default.

    Returns:
        A `tfds.core.DatasetBuilder`.

    Raises:
        InputError: If the data are not prepared and cannot be downloaded, or if
            the directory holds another data set.
    """
    import tensorflow_datasets as tfds  # Slow, and not always needed.

    spec = data.get(name)
    builder = find(name, data_dir)
    try:
        if not builder.is_prepared() and spec.source_url:
            # Checked first, since the downloader retries for minutes, and
            # leaves a directory behind.
            urllib.request.urlopen(spec.source_url, timeout=20).close()
        if not builder.is_prepared():
            _prepare(builder, spec.tfds_name)
    except (
        AssertionError,
        ImportError,
        OSError,
        RuntimeError,
        tfds.download.DownloadError,
    ) as error:
        others = "--dataset=cifar10_mini, which needs neither"
        network = f"a network that reaches {spec.source_url}; "
        if not spec.source_url:
            network = "the files that docs/data.md names, to prepare them; "
        raise InputError(
            f"The data set {name} is not prepared, and cannot be downloaded. "
            "Expected one of: --data_dir=DIR with "
            f"DIR/{spec.tfds_name.replace(':', '/')} prepared by TensorFlow "
            f"Datasets; {network}{others}. "
            f"Received: {_found(pathlib.Path(builder.data_dir).parents[1])}"
        ) from error
    held = f"{builder.name}:{builder.version}"
    if held != spec.tfds_name:
        raise InputError(
            f"{builder.data_dir} is expected to hold {spec.tfds_name}. "
            f"Received: dataset={held}"
        )
    return builder


def find(name, data_dir):
    """Returns the builder of a data set, which need not be prepared.

    Args:
        name: A key of `fastbat_tf.data.DATASETS`.
        data_dir: The directory of TensorFlow Datasets; None for its default.

    Returns:
        A `tfds.core.DatasetBuilder`.

    Raises:
        InputError: If the directory holds something else.
    """
    import tensorflow_datasets as tfds

    wanted = data.get(name).tfds_name
    try:
        return tfds.builder(wanted, data_dir=data_dir)
    except UNREADABLE as error:
        raise _refuse(wanted, data_dir, error) from error


def _prepare(builder, name):
    """Downloads and prepares a data set, and shows our own progress."""
    import tensorflow_datasets as tfds

    size = builder.info.download_size
    what = f"{name} ({size})" if size else name
    display.log(f"Downloading and preparing {what} in {builder.data_dir} ...")
    tfds.disable_progress_bar()
    with (
        display.task(f"preparing {name}"),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        builder.download_and_prepare()


def _found(data_dir):
    """Describes a directory, and the data sets and versions in it."""
    names = sorted(
        f"{file.parts[-3]}/{file.parts[-2]}"
        for file in data_dir.glob("*/*/dataset_info.json")
    )
    found = f", which holds {', '.join(names)}" if names else ""
    return f"data_dir={data_dir}{found}"


def count(builder, split):
    """The number of examples of a split."""
    return builder.info.splits[split].num_examples


def read(builder, split, spec):
    """Reads a split.

    Args:
        builder: A builder that `get` returned.
        split: The name of the split, or a part of it such as `"train[:900]"`.
        spec: The `DatasetSpec`.

    Returns:
        `TFRecords` if training images are cropped when they are decoded, and
        `Examples` otherwise.

    Raises:
        InputError: If the files are damaged, or hold another data set.
    """
    import tensorflow_datasets as tfds

    try:
        if spec.augmentation and spec.augmentation.resized_crop:
            return TFRecords(builder, split, spec.reading, spec.num_classes)
        examples = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1))
        images, labels = examples["image"], examples["label"]
    except UNREADABLE as error:
        raise _refuse(spec.tfds_name, builder.data_dir, error) from error
    if images.dtype != np.uint8 or images.shape[1:] != spec.image_shape:
        raise InputError(
            f"The images of {spec.tfds_name} are expected to be uint8 of shape "
            f"{spec.image_shape}. Received: images.shape={images.shape}, "
            f"data_dir={builder.data_dir}"
        )
    if not 0 <= labels.min() <= labels.max() < spec.num_classes:
        raise InputError(
            f"The labels of {spec.tfds_name} are expected in [0, "
            f"{spec.num_classes}). Received: range=({labels.min()}, "
            f"{labels.max()}), data_dir={builder.data_dir}"
        )
    return Examples(images, labels.astype(np.int32))


def _refuse(name, directory, error):
    return InputError(
        f"The data set {name} cannot be read; expected whole files, prepared "
        f"by TensorFlow Datasets. Received: data_dir={directory} "
        f"({reason_of(error)})"
    )
