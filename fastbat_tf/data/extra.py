"""Training splits with extra images, such as those of a generative network."""

import math
import os

import numpy as np
import tensorflow as tf

from fastbat_tf.data import extra_files
from fastbat_tf.data.sources import Examples
from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError

# Stored images are read in parts of at most so many bytes.
UNIT = 64


class StoredImages:
    """Extra images that stay in their file until a batch needs them.

    The file is mapped into memory, of which the system takes and gives back
    what it likes.

    Args:
        file: The `fastbat_tf.data.extra_files.ExtraFile`, not compressed.
        labels: int32 array `(examples,)`.

    Attributes:
        size: Integer, the number of images.
        labels: The argument.
    """

    def __init__(self, file, labels):
        self._file = file
        self.labels = labels
        self.size = file.size

    def reader(self):
        """Returns a function from indices to images and labels, in a graph."""
        path, member = os.path.abspath(self._file.path), self._file.images
        shape, labels = member.shape[1:], tf.constant(self.labels)
        image = math.prod(shape)
        unit = math.gcd(image, UNIT)
        units = os.path.getsize(path) // unit
        # The image is somewhere in so many units. Those of the last image end
        # within the directory of the archive, which is longer than two units.
        before = member.offset % unit
        parts = tf.range(-(-(before + image) // unit), dtype=tf.int64)

        # No Python code, as in `Files.reader`.
        def read(indices):
            memory = tf.raw_ops.ImmutableConst(
                dtype=tf.uint8, shape=[units, unit], memory_region_name=path
            )
            begins = member.offset + tf.cast(indices, tf.int64) * image
            rows = tf.gather(memory, begins[:, None] // unit + parts)
            rows = tf.reshape(rows, [-1, len(parts) * unit])
            images = tf.reshape(rows[:, before : before + image], [-1, *shape])
            return images, tf.gather(labels, indices)

        return read


class WithExtra:
    """A training split, a part of each batch of which are extra images.

    The images of the split keep their indices; extra image j has the index
    n + j, where n is the size of the split. An epoch has as many batches as
    without extra images, as in the programs of Carmon et al. and of Wang et
    al., where it is as many as the split alone would fill.

    References: Carmon et al., "Unlabeled Data Improves Adversarial
    Robustness", NeurIPS 2019 (arXiv 1905.13736). Gowal et al., "Improving
    Robustness using Generated Data", NeurIPS 2021 (arXiv 2110.09468). Wang et
    al., "Better Diffusion Models Further Improve Adversarial Training", ICML
    2023 (arXiv 2302.04638).

    Args:
        split: `Examples` or `Files`, the original images.
        extra: `Examples` or `StoredImages` of the same shape.
        fraction: Float in (0, 1), the share of extra images in a batch.

    Attributes:
        split, extra, fraction: The arguments.
        size: Integer, the number of images, extra ones included.
        labels: int32 array `(size,)`.
    """

    def __init__(self, split, extra, fraction):
        self.split, self.extra, self.fraction = split, extra, fraction
        self.size = split.size + extra.size
        self.labels = np.concatenate([split.labels, extra.labels])

    def counts(self, batch_size):
        """Returns how many images of the split and of the extra a batch has.

        Raises:
            InputError: If there are too few of one kind.
        """
        extra = extra_files.extra_in_batch(batch_size, self.fraction)
        if extra > self.extra.size:
            raise InputError(
                "`extra_data` is expected to have at least the images of one "
                f"batch, round(extra_fraction * batch_size) = {extra}. "
                f"Received: {self.extra.size} images"
            )
        return batch_size - extra, extra

    def reader(self):
        """Returns a function from indices to images and labels, in a graph."""
        readers = [self.split.reader(), self.extra.reader()]
        first = self.split.size

        def read(indices):
            is_extra = tf.cast(indices >= first, tf.int32)
            own, extra = tf.dynamic_partition(indices, is_extra, 2)
            places = tf.dynamic_partition(tf.range(len(indices)), is_extra, 2)
            parts = zip(
                *(
                    reader(chosen)
                    for reader, chosen in zip(
                        readers, (own, extra - first), strict=True
                    )
                ),
                strict=True,
            )
            images, labels = (
                tf.dynamic_stitch(places, list(part)) for part in parts
            )
            shape = [len(indices)]
            return (
                tf.ensure_shape(images, shape + images.shape[1:]),
                tf.ensure_shape(labels, shape),
            )

        return read

    def orders(self, batch_size, seed, batches, first_batch):
        """Makes the indices of endless batches.

        The images of each kind come in one random order after another. A batch
        may hold the end of one and the begin of the next; so all images of a
        kind are used equally often. The two kinds are shuffled in the batch.

        Args:
            batch_size: Integer.
            seed: Integer.
            batches: Integer, the number of batches of an epoch.
            first_batch: Integer, the number of batches to skip.

        Returns:
            A `tf.data.Dataset` of the number of the epoch, that of the batch in
            the epoch, and the indices, int32 `(batch_size,)`.
        """
        own, extra = self.counts(batch_size)
        kinds = (
            _in_turn(self.split.size, own, seed, "originals", first_batch),
            _in_turn(self.extra.size, extra, seed, "extra", first_batch),
        )

        def join(number, originals, extras):
            epoch, batch = number // batches, number % batches
            indices = tf.concat([originals, self.split.size + extras], 0)
            key = Draws(seed, epoch, batch).key("mixed")
            return epoch, batch, _shuffled(indices, key)

        numbers = tf.data.Dataset.range(first_batch, tf.int64.max)
        return tf.data.Dataset.zip((numbers, *kinds)).map(join)


def add(split, settings, batch_size):
    """Adds the extra images of a `DataConfig` to its training split.

    Args:
        split: `Examples` or `Files`.
        settings: The `DataConfig`.
        batch_size: Integer.

    Returns:
        A `WithExtra`; `split` itself if there are no extra images.

    Raises:
        InputError: If they cannot be read, are too few, or are not those that
            `extra_fingerprint` says.
    """
    if settings.extra_data is None:
        return split
    spec = settings.spec
    file = extra_files.inspect(settings.extra_data, spec.image_shape)
    if file.fingerprint != settings.extra_fingerprint:
        raise InputError(
            "`extra_data` is expected to be the file that the run began with, "
            f"of the fingerprint {settings.extra_fingerprint}. Received: "
            f"extra_data={settings.extra_data}, of {file.fingerprint}"
        )
    if file.images.offset is None:
        images = extra_files.read_images(file)
        extra = Examples(
            images, extra_files.read_labels(file, spec.num_classes)
        )
    else:
        labels = extra_files.read_labels(file, spec.num_classes)
        extra = StoredImages(file, labels)
    mixed = WithExtra(split, extra, settings.extra_fraction)
    mixed.counts(batch_size)
    return mixed


def _in_turn(count, size, seed, name, first_batch):
    """The numbers from 0 to count - 1 in one random order after another.

    Returns:
        A `tf.data.Dataset` of int32 `(size,)`, from a batch on.
    """
    done, skipped = divmod(first_batch * size, count)

    def one_pass(number):
        order = _shuffled(tf.range(count), Draws(seed, number).key(name))
        first = tf.where(number == done, skipped, 0)
        return tf.data.Dataset.from_tensor_slices(order[first:])

    passes = tf.data.Dataset.range(done, tf.int64.max)
    numbers = passes.flat_map(one_pass)
    return numbers.batch(size, drop_remainder=True).prefetch(1)


def _shuffled(values, key):
    return tf.random.experimental.stateless_shuffle(values, key, "philox")
