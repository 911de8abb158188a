"""Splits of a data set: in memory, as image files, or as TFRecord files.

All three have `size`, the number of their examples, `first(count)` and
`read(places)`, which give `Examples`, and `beginning(count)`, which gives a
split of its own kind.
"""

import contextlib
import copy
import functools
import re
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fastbat_tf.data import MEMORY_LIMIT, Reading, image_files
from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError
from fastbat_tf.runtime import display

# Of TFRecord files: so many are read in turn, and so many of their records are
# shuffled at a time, still encoded (of ImageNet about 0.5 GB).
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

    def read(self, places):
        return Examples(self.images[places], self.labels[places])

    def reader(self):
        """A function from places to images and labels, for `tf.data`."""
        images, labels = tf.constant(self.images), tf.constant(self.labels)
        return lambda places: (
            tf.gather(images, places),
            tf.gather(labels, places),
        )


class Stream:
    """A split that is too large for the memory.

    Attributes:
        size: Integer, the number of examples.
        reading: The `fastbat_tf.data.Reading` of its files.
        labels: int32 array `(examples,)`.
    """

    size: int
    reading: Reading
    labels: np.ndarray

    @property
    def image_shape(self):
        """`(height, width, channels)`."""
        return self.reading.shape

    def check_fits(self, name, count):
        """Refuses a part that is too large for the memory.

        Args:
            name: The setting that says how large it is.
            count: Integer, the number of examples; 0 for all.
        """
        most = MEMORY_LIMIT // int(np.prod(self.image_shape))
        if (count or self.size) > most:
            raise InputError(
                f"This data set is streamed; `{name}` is expected in "
                f"[1, {min(most, self.size)}], what can be held in memory of "
                f"its {self.size} images. Received: {name}={count}"
            )

    def read(self, places) -> Examples:
        """The `Examples` at these places."""
        raise NotImplementedError

    def first(self, count):
        return self.read(np.arange(count))


class Files(Stream):
    """Image files.

    Args:
        paths: Sequence of paths.
        labels: Sequence of integers.
        reading: The `fastbat_tf.data.Reading` by which they are decoded.
    """

    def __init__(self, paths, labels, reading):
        self.paths = [str(path) for path in paths]
        self.labels = np.asarray(labels, np.int32)
        self.size = len(self.labels)
        self.reading = reading

    def at(self, places):
        """The `Files` at these places."""
        paths = [self.paths[place] for place in places]
        labels = self.labels[places]
        return Files(paths, labels, self.reading)

    def beginning(self, count):
        return self.at(range(count))

    def read(self, places):
        return self.at(places).load()

    def load(self, skip_unreadable=False):
        """The readable ones as `Examples`."""
        images, readable = self._read(skip_unreadable, keep=True)
        return Examples(images, self.labels[readable])

    def check(self, skip_unreadable=False):
        """The readable ones as `Files`."""
        _, readable = self._read(skip_unreadable, keep=False)
        return self.at(np.flatnonzero(readable))

    def _read(self, skip_unreadable, keep):
        return image_files.read(self.paths, self.reading, skip_unreadable, keep)

    def reader(self):
        """A function from places to images and labels, for `tf.data`."""
        paths, labels = tf.constant(self.paths), tf.constant(self.labels)
        result = tf.TensorSpec(self.image_shape, tf.uint8)

        # No Python code: a thread of `tf.data` that is in it when the
        # interpreter ends never ends itself.
        def decode(path):
            encoded = tf.io.read_file(path)
            return image_files.decode(encoded, self.reading)

        def read(places):
            chosen = tf.gather(paths, places)
            images = tf.map_fn(decode, chosen, fn_output_signature=result)
            return images, tf.gather(labels, places)

        return read


class Records(Stream):
    """JPEG images in the TFRecord files of TensorFlow Datasets.

    Args:
        builder: The `tfds.core.DatasetBuilder`, prepared.
        split: Such as `"train[:900]"`.
        reading: The `fastbat_tf.data.Reading` of the test images.
        num_classes: Integer.
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
        """A record as its encoded image and its label."""
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
        """Reads the whole split, but decodes no image."""
        with refuse_broken(self):
            labels = self._in_order().map(lambda record: self._parse(record)[1])
            return np.array(list(labels.as_numpy_iterator()), np.int32)

    def read(self, places):
        """The images at these places, given in ascending order."""
        wanted = np.zeros(self.size, bool)
        wanted[places] = True
        wanted = tf.constant(wanted)

        def decode(_, record):
            encoded, label = self._parse(record)
            return image_files.decode(encoded, self.reading), label

        chosen = self._in_order().enumerate()
        chosen = chosen.filter(lambda place, _: wanted[place])
        decoded = chosen.take(len(places)).map(decode, tf.data.AUTOTUNE)
        images = np.empty((len(places), *self.image_shape), np.uint8)
        labels = np.empty(len(places), np.int32)
        with refuse_broken(self):
            with display.task("reading images", len(images)) as task:
                for place, example in enumerate(decoded.as_numpy_iterator()):
                    images[place], labels[place] = example
                    task.update(place + 1, count=f"{place + 1}/{len(images)}")
        return Examples(images, labels)

    def _in_order(self):
        files = tf.data.Dataset.from_tensor_slices(tuple(self._files))
        return self._whole(files.flat_map(_read_file))

    def _whole(self, records):
        """Fails where there are fewer than the files are said to hold."""
        return records.apply(tf.data.experimental.assert_cardinality(self.size))

    def training_images(self, batches, batch_size, seed, crop, first_batch):
        """Endless training images, one by one.

        In each epoch the files are read in another order, many in turn, and
        their records are shuffled block by block.

        Args:
            batches: Integer, the number of batches of an epoch.
            batch_size: Integer.
            seed: Integer.
            crop: Whether the crops are random; centre crops if not.
            first_batch: Integer. The images of the batches before it are read,
                but not decoded.

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
            # Not `Dataset.shuffle`: what it draws depends on the global seed.
            blocks = records.batch(SHUFFLED_RECORDS).enumerate().prefetch(1)
            records = blocks.flat_map(
                lambda block, records: _shuffled_block(draws, block, records)
            )
            records = self._whole(records).take(count).enumerate()
            return records.map(lambda place, record: (epoch, place, record))

        def decode(epoch, place, record):
            encoded, label = self._parse(record)
            if not crop:
                return image_files.decode(encoded, self.reading), label
            draws = Draws(seed, epoch, place)
            image = image_files.decode_resized_crop(
                encoded, self.reading, draws
            )
            return tf.ensure_shape(image, self.image_shape), label

        epochs = tf.data.Dataset.range(first_batch // batches, tf.int64.max)
        images = epochs.flat_map(shuffled_epoch)
        images = images.skip(first_batch % batches * batch_size)
        return images.map(decode, tf.data.AUTOTUNE, deterministic=True)


@contextlib.contextmanager
def refuse_broken(split):
    """Says in one line that a stream met a file that is not whole.

    Args:
        split: `Examples`, of which nothing is read any more, or a `Stream`.
    """
    try:
        yield
    except tf.errors.OpError as error:
        # Others are those of the network, such as too little memory.
        if isinstance(split, Examples) or "IteratorGetNext" not in str(error):
            raise
        raise InputError(
            "The data set cannot be read; expected whole files, of the right "
            f"data set. Received: {reason_of(error)}"
        ) from error


# Where in the program an error of TensorFlow happened.
_PLACE = re.compile(r"Graph execution error|Detected at node|\s|$")


def reason_of(error):
    """What an error says first, without where it happened."""
    text = re.sub(r"\{\{.*?\}\} ?| ?\[Op:.*", "", str(error))
    lines = [line for line in text.splitlines() if not _PLACE.match(line)]
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
