"""Splits of a data set: in memory, as image files, or as TFRecord files.

All of them have an attribute `size`, the number of examples, and the methods

* `first(count)`, which reads the first examples as `Examples`,
* `read(indices)`, which reads the examples at some indices as `Examples`,
* `beginning(count)`, which returns the first examples as a split of its kind.
"""

import contextlib
import copy
import functools
import re
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fastbat_tf.data import image_files
from fastbat_tf.data.registry import MEMORY_LIMIT, Reading
from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError
from fastbat_tf.runtime import display

# The number of TFRecord files that are read in turn, and the number of records
# that are shuffled at a time, encoded (about 0.5 GB of ImageNet).
FILES_AT_A_TIME = 32
SHUFFLED_RECORDS = 4096


class Examples(NamedTuple):
    """Images and labels in memory.

    Attributes:
        images: uint8 array `(examples, height, width, channels)`.
        labels: int32 array `(examples,)`.
    """

    images: np.ndarray
    labels: np.ndarray

    @property
    def size(self):
        return len(self.labels)

    def first(self, count):
        return Examples(self.images[:count], self.labels[:count])

    beginning = first

    def read(self, indices):
        return Examples(self.images[indices], self.labels[indices])

    def reader(self):
        """Returns a function from indices to images and labels, in a graph."""
        images, labels = tf.constant(self.images), tf.constant(self.labels)
        return lambda indices: (
            tf.gather(images, indices),
            tf.gather(labels, indices),
        )


class Stream:
    """A split that is too large for memory.

    Attributes:
        size: Integer, the number of examples.
        reading: The `fastbat_tf.data.Reading` of the files.
        labels: int32 array `(examples,)`.
    """

    size: int
    reading: Reading
    labels: np.ndarray

    @property
    def image_shape(self):
        """`(height, width, channels)` of the images."""
        return self.reading.shape

    def check_fits(self, name, count):
        """Raises an `InputError` if a part is too large for memory.

        Args:
            name: Name of the setting that is the size of the part.
            count: Integer, the number of examples; 0 for all.
        """
        most = MEMORY_LIMIT // int(np.prod(self.image_shape))
        if (count or self.size) > most:
            raise InputError(
                f"This data set is streamed; `{name}` is expected in "
                f"[1, {min(most, self.size)}], the part of its {self.size} "
                f"images that fits in memory. Received: {name}={count}"
            )

    def read(self, indices) -> Examples:
        """Reads the examples at some indices."""
        raise NotImplementedError

    def first(self, count):
        return self.read(np.arange(count))


class Files(Stream):
    """A split of image files.

    Args:
        paths: Sequence of paths.
        labels: Sequence of integers.
        reading: The `fastbat_tf.data.Reading` with which they are decoded.
    """

    def __init__(self, paths, labels, reading):
        self.paths = [str(path) for path in paths]
        self.labels = np.asarray(labels, np.int32)
        self.size = len(self.labels)
        self.reading = reading

    def at(self, indices):
        """Returns the `Files` at some indices."""
        paths = [self.paths[index] for index in indices]
        labels = self.labels[indices]
        return Files(paths, labels, self.reading)

    def beginning(self, count):
        return self.at(range(count))

    def read(self, indices):
        return self.at(indices).load()

    def load(self, skip_unreadable=False):
        """Reads the files as `Examples`.

        Args:
            skip_unreadable: Whether to skip files that cannot be read.
                Defaults to False.

        Raises:
            InputError: If a file cannot be read, and is not skipped.
        """
        images, readable = self._read(skip_unreadable, keep=True)
        return Examples(images, self.labels[readable])

    def check(self, skip_unreadable=False):
        """Decodes each file once; returns the readable ones as `Files`.

        Args:
            skip_unreadable: Whether to skip files that cannot be read.
                Defaults to False.

        Raises:
            InputError: If a file cannot be read, and is not skipped.
        """
        _, readable = self._read(skip_unreadable, keep=False)
        return self.at(np.flatnonzero(readable))

    def _read(self, skip_unreadable, keep):
        return image_files.read(self.paths, self.reading, skip_unreadable, keep)

    def reader(self):
        """Returns a function from indices to images and labels, in a graph."""
        paths, labels = tf.constant(self.paths), tf.constant(self.labels)
        result = tf.TensorSpec(self.image_shape, tf.uint8)

        # No Python code: a `tf.data` thread that is running it when the
        # interpreter exits never ends.
        def decode(path):
            encoded = tf.io.read_file(path)
            return image_files.decode(encoded, self.reading)

        def read(indices):
            chosen = tf.gather(paths, indices)
            images = tf.map_fn(decode, chosen, fn_output_signature=result)
            return images, tf.gather(labels, indices)

        return read


class TFRecords(Stream):
    """A split of JPEG images in the TFRecord files of TensorFlow Datasets.

    Args:
        builder: A prepared `tfds.core.DatasetBuilder`.
        split: Name of a split or of a part of it, such as `"train[:900]"`.
        reading: The `fastbat_tf.data.Reading` of the test images.
        num_classes: Integer, the number of classes.
    """

    def __init__(self, builder, split, reading, num_classes):
        files = builder.info.splits[split].file_instructions
        self._files = [
            np.array([getattr(file, name) for file in files])
            for name in ("filename", "skip", "take")
        ]
        self._features = builder.info.features
        self.size = int(self._files[2].sum())
        self.reading = reading
        self.num_classes = num_classes

    def beginning(self, count):
        names, skips, takes = self._files
        takes = np.clip(count - np.cumsum(takes) + takes, 0, takes)
        part = copy.copy(self)
        vars(part).pop("labels", None)
        part._files = [column[takes > 0] for column in (names, skips, takes)]
        part.size = count
        return part

    def _parse(self, record):
        """Parses a record to its encoded image and its label."""
        import tensorflow_datasets as tfds

        example = self._features.deserialize_example(
            record, decoders={"image": tfds.decode.SkipDecoding()}
        )
        label = tf.cast(example["label"], tf.int32)
        known = (label >= 0) & (label < self.num_classes)
        message = f"A label is expected in [0, {self.num_classes})."
        with tf.control_dependencies(
            [tf.debugging.Assert(known, [message, "Received: label=", label])]
        ):
            return example["image"], tf.identity(label)

    @functools.cached_property
    def labels(self):
        """Reads the labels of the whole split without decoding an image."""
        with refuse_broken(self):
            labels = self._in_order().map(lambda record: self._parse(record)[1])
            return np.array(list(labels.as_numpy_iterator()), np.int32)

    def read(self, indices):
        """Reads the examples at some indices, which are in ascending order."""
        wanted = np.zeros(self.size, bool)
        wanted[indices] = True
        wanted = tf.constant(wanted)

        def decode(_, record):
            encoded, label = self._parse(record)
            return image_files.decode(encoded, self.reading), label

        chosen = self._in_order().enumerate()
        chosen = chosen.filter(lambda index, _: wanted[index])
        decoded = chosen.take(len(indices)).map(decode, tf.data.AUTOTUNE)
        images = np.empty((len(indices), *self.image_shape), np.uint8)
        labels = np.empty(len(indices), np.int32)
        with refuse_broken(self):
            with display.task("reading images", len(images)) as task:
                for done, example in enumerate(decoded.as_numpy_iterator()):
                    images[done], labels[done] = example
                    task.update(done + 1, count=f"{done + 1}/{len(images)}")
        return Examples(images, labels)

    def _in_order(self):
        files = tf.data.Dataset.from_tensor_slices(tuple(self._files))
        return self._whole(files.flat_map(_read_file))

    def _whole(self, records):
        """Makes reading fail if the files hold fewer records than stated."""
        return records.apply(tf.data.experimental.assert_cardinality(self.size))

    def training_images(
        self, batches, batch_size, seed, *, crop, first_batch, rows=None
    ):
        """Makes endless training images, one by one.

        Each epoch reads the files in a different order, many in turn, and
        shuffles their records block by block.

        Args:
            batches: Integer, the number of batches of an epoch.
            batch_size: Integer.
            seed: Integer.
            crop: Whether crops are random rather than centered.
            first_batch: Integer, the number of batches to skip. Their images
                are read, but not decoded.
            rows: A range, the rows of each batch that are decoded. Defaults to
                None: all.

        Returns:
            A `tf.data.Dataset` of `(image, label)`, uint8 and int32.
        """
        count = batches * batch_size
        names, skips, takes = (tf.constant(column) for column in self._files)

        def shuffled_epoch(epoch):
            draws = Draws(seed, epoch)
            order = _shuffled(len(self._files[0]), draws.key("files"))
            chosen = [tf.gather(part, order) for part in (names, skips, takes)]
            records = tf.data.Dataset.from_tensor_slices(tuple(chosen))
            records = records.interleave(
                _read_file,
                FILES_AT_A_TIME,
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )
            # Not `Dataset.shuffle`, which depends on the global seed.
            blocks = records.batch(SHUFFLED_RECORDS).enumerate().prefetch(1)
            records = blocks.flat_map(
                lambda block, records: _shuffled_block(draws, block, records)
            )
            records = self._whole(records).take(count).enumerate()
            return records.map(lambda index, record: (epoch, index, record))

        def decode(epoch, index, record):
            encoded, label = self._parse(record)
            if not crop:
                return image_files.decode(encoded, self.reading), label
            draws = Draws(seed, epoch, index)
            image = image_files.decode_resized_crop(
                encoded, self.reading, draws
            )
            return tf.ensure_shape(image, self.image_shape), label

        epochs = tf.data.Dataset.range(first_batch // batches, tf.int64.max)
        images = epochs.flat_map(shuffled_epoch)
        images = images.skip(first_batch % batches * batch_size)
        if rows is not None:
            first, last = rows.start, rows.stop
            images = images.filter(
                lambda _, index, record: (
                    (first <= index % batch_size) & (index % batch_size < last)
                )
            )
        return images.map(decode, tf.data.AUTOTUNE, deterministic=True)


@contextlib.contextmanager
def refuse_broken(split):
    """Raises an `InputError` if a stream meets a damaged file.

    Args:
        split: A `Stream`, or `Examples`, which read no files.
    """
    try:
        yield
    except tf.errors.OpError as error:
        # Other errors are those of the network, such as too little memory.
        if isinstance(split, Examples) or "IteratorGetNext" not in str(error):
            raise
        raise InputError(
            "The data set cannot be read; expected whole files of this data "
            f"set. Received: {reason_of(error)}"
        ) from error


# Lines of a TensorFlow error that locate it in the program.
_LOCATION = re.compile(r"Graph execution error|Detected at node|\s|$")


def reason_of(error):
    """The first line of an error that does not locate it in the program."""
    text = re.sub(r"\{\{.*?\}\} ?| ?\[Op:.*", "", str(error))
    lines = [line for line in text.splitlines() if not _LOCATION.match(line)]
    return lines[0] if lines else type(error).__name__


def _read_file(name, skip, take):
    return tf.data.TFRecordDataset(name).skip(skip).take(take)


def _shuffled(count, key):
    return tf.random.experimental.stateless_shuffle(
        tf.range(count), key, "philox"
    )


def _shuffled_block(draws, block, records):
    key = tf.random.fold_in(
        draws.key("records"), tf.cast(block, tf.int32), "philox"
    )
    order = _shuffled(tf.shape(records)[0], key)
    return tf.data.Dataset.from_tensor_slices(tf.gather(records, order))
