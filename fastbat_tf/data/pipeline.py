"""Makes training batches from a split of a data set."""

from typing import Any, NamedTuple

import tensorflow as tf

from fastbat_tf.data import sources
from fastbat_tf.data.augmentation import augment, to_pixels
from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError


def training_batches(
    examples,
    batch_size,
    seed,
    *,
    augmentation=None,
    first_batch=0,
    with_index=False,
    rows=None,
):
    """Makes endless shuffled and augmented training batches.

    Batch k is a pure function of (seed, k). Each epoch has its own permutation
    of the examples and `examples.size // batch_size` batches of equal shape;
    which examples it omits depends on the permutation. The augmentation is
    keyed by epoch and batch.

    Args:
        examples: A split of `fastbat_tf.data.sources`: `Examples`, `Files` or
            `TFRecords`.
        batch_size: Integer.
        seed: Integer.
        augmentation: A `fastbat_tf.data.Augmentation`. Defaults to None.
        first_batch: Integer, the number of batches to skip. Defaults to 0.
        with_index: Whether the images are a dict `{"images": images, "index":
            index}` with their indices in `examples`, int32 `(batch_size,)`.
            Defaults to False.
        rows: A range, the rows of each batch that this worker trains on, with
            the images that a single process has there. Defaults to None: all.

    Returns:
        A `tf.data.Dataset` of `(images, labels)`: float32 `(batch_size,
        height, width, channels)` in [0, 1], and int32 `(batch_size,)`; with
        `rows`, as many as these.

    Raises:
        InputError: If there are fewer examples than a batch, or if `TFRecords`
            are read with an index.

    Example:

    ```python
    from fastbat_tf.data import DATASETS, loading

    spec = DATASETS["cifar10_mini"]
    batches = training_batches(
        loading.load("cifar10_mini").train,
        batch_size=128,
        seed=37,
        augmentation=spec.augmentation,
    )
    ```
    """
    batches = batches_per_epoch(examples, batch_size, with_index)
    if isinstance(examples, sources.TFRecords):
        images = examples.training_images(
            batches,
            batch_size,
            seed,
            crop=augmentation is not None,
            first_batch=first_batch,
            rows=rows,
        )
        return _batched(images, batch_size if rows is None else len(rows))
    read = examples.reader()

    def shuffled_epoch(epoch):
        chosen = epoch_order(examples.size, batch_size, seed, epoch)
        epochs = tf.repeat(epoch, batches)
        numbers = tf.range(batches, dtype=tf.int64)
        return tf.data.Dataset.from_tensor_slices((epochs, numbers, chosen))

    def make_batch(epoch, batch, chosen):
        chosen = tf.ensure_shape(chosen, (batch_size,))
        draws = Draws(seed, epoch, batch)
        if rows is not None:
            chosen = chosen[rows.start : rows.stop]
            draws = DrawsOfRows(draws, rows.start, batch_size)
        images, labels = read(chosen)
        images = to_pixels(augment(images, draws, augmentation))
        if with_index:
            images = {"images": images, "index": chosen}
        return images, labels

    epochs = tf.data.Dataset.range(first_batch // batches, tf.int64.max)
    chosen = epochs.flat_map(shuffled_epoch).skip(first_batch % batches)
    dataset = chosen.map(make_batch, tf.data.AUTOTUNE, deterministic=True)
    return endless(dataset.prefetch(tf.data.AUTOTUNE))


class DrawsOfRows(NamedTuple):
    """The draws of some rows of a batch.

    Attributes:
        draws: The `Draws` of the batch.
        first: Integer or scalar tensor, the first row.
        batch_size: Integer, the rows of the batch.
    """

    draws: Draws
    first: Any
    batch_size: int

    def uniform(self, name, shape, *arguments):
        whole = self.draws.uniform(
            name, (self.batch_size, *shape[1:]), *arguments
        )
        rows = whole[self.first : self.first + shape[0]]
        return tf.ensure_shape(rows, shape)


def batches_per_epoch(examples, batch_size, with_index=False):
    """The number of batches of an epoch.

    Args:
        examples: A split of `fastbat_tf.data.sources`: `Examples`, `Files` or
            `TFRecords`.
        batch_size: Integer.
        with_index: Whether the indices of the images are needed. Defaults to
            False.

    Returns:
        Integer.

    Raises:
        InputError: If there are fewer examples than a batch, or if `TFRecords`
            are read with an index.
    """
    batches = examples.size // batch_size
    if not batches:
        raise InputError(
            "The training split is expected to hold at least one batch, but "
            f"has {examples.size} images. Received: batch_size={batch_size}"
        )
    if with_index and isinstance(examples, sources.TFRecords):
        raise InputError(
            "The method keeps a state for each image, but images in TFRecord "
            "files have no index; expected a data set in memory, or of image "
            "files. Received: with_index=True"
        )
    return batches


def _batched(images, batch_size):
    dataset = images.batch(batch_size, drop_remainder=True)
    dataset = dataset.map(
        lambda images, labels: (to_pixels(images), labels), tf.data.AUTOTUNE
    )
    return endless(dataset.prefetch(tf.data.AUTOTUNE))


def endless(dataset):
    """Says that a data set never ends.

    Otherwise, the workers of a `MultiWorkerMirroredStrategy` would ask each
    other before each batch whether there is one, and batches would have no
    static shape.
    """
    return dataset.apply(
        tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
    )


def epoch_order(count, batch_size, seed, epoch):
    """The shuffled indices of an epoch's examples.

    Args:
        count: Integer, the number of examples.
        batch_size: Integer, at most `count`.
        seed: Integer.
        epoch: Integer or scalar tensor.

    Returns:
        An int32 tensor `(count // batch_size, batch_size)`.
    """
    # `index_shuffle` has too few permutations of small data sets.
    order = tf.random.experimental.stateless_shuffle(
        tf.range(count), Draws(seed, epoch).key("shuffle"), "philox"
    )
    batches = count // batch_size
    return tf.reshape(order[: batches * batch_size], (batches, batch_size))
