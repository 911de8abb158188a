"""Reads data sets into memory, or as streams if they are too large."""

import pathlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fastbat_tf.data import archives, folder, prepared, splitting
from fastbat_tf.data.options import DataConfig
from fastbat_tf.data.registry import MEMORY_LIMIT
from fastbat_tf.data.sources import Examples, Files, Stream
from fastbat_tf.errors import InputError
from fastbat_tf.runtime import display

EMBEDDED = pathlib.Path(__file__).parent

# Images and labels.
Arrays = tuple[np.ndarray, np.ndarray]


class Splits(NamedTuple):
    """The three splits of a data set, each `Examples` or a `Stream`."""

    train: Examples | Stream
    validation: Examples | Stream
    test: Examples | Stream


def load(name, data_dir=None, validation_share=0.1, **settings):
    """Reads a data set.

    Args:
        name: A key of `fastbat_tf.data.DATASETS`.
        data_dir: The directory of the data, as docs/data.md says. Defaults to
            None, the default of TensorFlow Datasets.
        validation_share: Float in (0, 1), the share of the training split that
            becomes the validation split, by the data set's rule. Defaults to
            0.1.
        **settings: Other attributes of `DataConfig`, such as `image_size`.

    Returns:
        The `Splits`.

    Raises:
        InputError: If the data set is unknown, or cannot be read.

    Example:

    >>> load("cifar10_mini").validation.images.shape
    (400, 32, 32, 3)
    """
    return load_splits(DataConfig(name, data_dir, validation_share, **settings))


def load_data(
    name: str,
    data_dir: str | None = None,
    *,
    validation_share: float = 0.1,
    image_size: int | None = None,
) -> tuple[Arrays, Arrays, Arrays]:
    """Reads a data set as NumPy arrays.

    Args:
        name: A key of `fastbat_tf.data.DATASETS`, such as `"cifar10_mini"`,
            5,000 images of CIFAR-10 that come with this package.
        data_dir: The directory of the data, as docs/data.md says. Defaults to
            None, the default of TensorFlow Datasets.
        validation_share: Float in (0, 1), the share of the training split that
            becomes the validation split, by the data set's rule. Defaults to
            0.1.
        image_size: Integer, the height and width to which images are resized;
            only for `"folder"`, where it is required. Defaults to None.

    Returns:
        Three pairs `(images, labels)`, for training, validation and test.
        Images are float32 arrays `(examples, height, width, channels)` in
        [0, 1], and labels int32 arrays `(examples,)`.

    Raises:
        InputError: If the data set is unknown, cannot be read, or is too large
            for memory.

    Example:

    >>> (images, labels), validation, test = fb.load_data("cifar10_mini")
    >>> images.shape, images.dtype, float(images.max())
    ((3600, 32, 32, 3), dtype('float32'), 1.0)
    """
    splits = load(name, data_dir, validation_share, image_size=image_size)
    train, validation, test = (_as_arrays(split, name) for split in splits)
    return train, validation, test


def _as_arrays(split, name):
    if isinstance(split, Stream):
        raise InputError(
            "`load_data` expects a data set of at most "
            f"{MEMORY_LIMIT // 10**9} GB, as uint8. Larger ones are streamed: "
            f"see `fastbat_tf.data.loading.load`. Received: name={name}"
        )
    return split.images / np.float32(255), split.labels


def import_libraries(settings):
    """Imports what reads the data of a `DataConfig`, before bars are drawn.

    TensorFlow Datasets replaces Python's `import`, in all threads, while it is
    imported, and the thread that draws bars would end with an error.
    """
    if settings.spec.source == "tfds":
        import tensorflow_datasets  # noqa: F401


def load_splits(settings):
    """Reads the `Splits` of a `DataConfig`; raises what `load` raises."""
    return Splits(*_load_training(settings), load_test(settings))


def load_test(settings):
    """Reads the test split of a `DataConfig`; raises what `load` raises."""
    spec = settings.spec
    if spec.source == "embedded":
        return _read_sheet(settings.dataset, "test", spec)
    if spec.source == "tfds":
        builder = prepared.get(settings.dataset, settings.data_dir)
        return prepared.read(builder, spec.test_split, spec)
    paths, labels, _ = _list(settings, "test")
    files = Files(paths, labels, spec.reading)
    return _load_files(settings, "test", files)


def _load_training(settings):
    """Reads the training and the validation split."""
    train, validation = _load_whole_training(settings)
    count = settings.training_examples
    if count > train.size:
        raise InputError(
            "`training_examples` is expected to be at most "
            f"{train.size}, the size of the training split. "
            f"Received: training_examples={count}"
        )
    return train.beginning(count) if count else train, validation


def _load_whole_training(settings):
    spec, share = settings.spec, settings.validation_share
    if spec.source == "embedded":
        whole = _read_sheet(settings.dataset, "train", spec)
        return _cut(whole, splitting.last(whole.size, share))
    if spec.source == "tfds":
        builder = prepared.get(settings.dataset, settings.data_dir)
        count = prepared.count(builder, "train")
        kept = splitting.last(count, share)
        if spec.augmentation and spec.augmentation.resized_crop:
            return tuple(
                prepared.read(builder, f"train[{part}]", spec)
                for part in (f":{kept}", f"{kept}:")
            )
        return _cut(prepared.read(builder, "train", spec), kept)
    splits = zip(
        ("train", "validation"), _find_training_files(settings), strict=True
    )
    return tuple(_load_files(settings, split, files) for split, files in splits)


def _find_training_files(settings):
    """The `Files` of the training and the validation split, not yet read."""
    paths, labels, groups = _list(settings, "train")
    files = Files(paths, labels, settings.spec.reading)
    parts = splitting.balanced(labels, settings.validation_share, groups)
    return [files.at(indices) for indices in parts]


def load_sample(settings, count):
    """Reads some images of the training split, always the same ones.

    Only those images are decoded, if the data set is one of files.

    Args:
        settings: The `DataConfig`.
        count: Integer, how many images at most. Classes that have enough of
            them differ by at most one.

    Returns:
        `Examples`, in the order of the data set.

    Raises:
        InputError: What `load` raises.
    """
    if settings.spec.source in ("archive", "folder"):
        files, _ = _find_training_files(settings)
        if settings.training_examples:
            files = files.beginning(settings.training_examples)
        chosen = splitting.sample(files.labels, count)
        return files.at(chosen).load(settings.skip_unreadable)
    train, _ = _load_training(settings)
    return train.read(splitting.sample(train.labels, count))


def _cut(examples, kept):
    return tuple(
        Examples(examples.images[part], examples.labels[part])
        for part in (slice(kept), slice(kept, None))
    )


def _list(settings, split):
    if settings.spec.source == "archive":
        return archives.list_images(settings.dataset, split, settings.data_dir)
    return (
        *folder.list_files(settings.data_dir, split, settings.classes),
        None,
    )


def _load_files(settings, split, files):
    fits = files.size * np.prod(files.image_shape) <= MEMORY_LIMIT
    # A stream is decoded once, too, to find broken files before training.
    loaded = (files.load if fits else files.check)(settings.skip_unreadable)
    skipped = files.size - loaded.size
    if skipped:
        display.warn(
            f"Skipped {skipped} unreadable images of {files.size} of the "
            f"{split} split."
        )
    lost = set(files.labels.tolist()) - set(loaded.labels.tolist())
    # The validation split may lack a class.
    if lost and not (split == "validation" and loaded.size):
        raise InputError(
            f"Each class is expected to have a readable image in the {split} "
            f"split. Received: class={settings.classes[min(lost)]}, "
            f"data_dir={settings.data_dir}"
        )
    return loaded


def _read_sheet(name, split, spec):
    file = EMBEDDED / name / f"{split}.png"
    sheet = tf.io.decode_png(file.read_bytes(), channels=3).numpy()
    height, width, channels = spec.image_shape
    rows, columns = sheet.shape[0] // height, sheet.shape[1] // width
    images = sheet.reshape(rows, height, columns, width, channels)
    images = images.transpose(0, 2, 1, 3, 4).reshape(-1, *spec.image_shape)
    # The classes alternate in the sheet.
    labels = np.arange(len(images), dtype=np.int32) % spec.num_classes
    return Examples(images, labels)
