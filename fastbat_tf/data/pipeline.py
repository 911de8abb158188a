"""Makes training batches from a split of a data set."""

from typing import Any, NamedTuple

import tensorflow as tf

from fastbat_tf.data import cutmix, sources
from fastbat_tf.data.augmentation import augment, to_pixels
from fastbat_tf.data.extra import WithExtra
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
    mixed_classes=None,
):
    """Makes endless shuffled and augmented training batches.

    Batch k is a pure function of (seed, k). Each epoch has its own permutation
    of the examples and `examples.size // batch_size` batches of equal shape;
    which examples it omits depends on the permutation. With extra images, see
    `fastbat_tf.data.extra.WithExtra`. The augmentation is keyed by epoch and
    batch.

    Args:
        examples: A split of `fastbat_tf.data.sources`: `Examples`, `Files` or
            `TFRecords`; or a `fastbat_tf.data.extra.WithExtra`.
        batch_size: Integer.
        seed: Integer.
        augmentation: A `fastbat_tf.data.Augmentation`. Defaults to None.
        first_batch: Integer, the number of batches to skip. Defaults to 0.
        with_index: Whether the images are a dict `{"images": images, "index":
            index}` with their indices in `examples`, int32 `(batch_size,)`.
            Defaults to False.
        rows: A range, the rows of each batch that this worker trains on, with
            the images that a single process has there. Defaults to None: all.
        mixed_classes: Integer, the number of classes, if CutMix mixes the
            images and labels of each batch. Defaults to None: it does not.

    Returns:
        A `tf.data.Dataset` of `(images, labels)`: float32 `(batch_size,
        height, width, channels)` in [0, 1], and int32 `(batch_size,)`, or with
        `mixed_classes` float32 `(batch_size, mixed_classes)`; with `rows`, as
        many as these.

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
        return _of_records(
            examples,
            batches,
            batch_size,
            seed,
            crop=augmentation is not None,
            first_batch=first_batch,
            rows=rows,
            mixed_classes=mixed_classes,
        )
    read = examples.reader()
    rows = range(batch_size) if rows is None else rows

    def make_batch(epoch, batch, chosen):
        images, labels, index = read_rows(
            read,
            tf.ensure_shape(chosen, (batch_size,)),
            Draws(seed, epoch, batch),
            first=rows.start,
            count=len(rows),
            augmentation=augmentation,
            mixed_classes=mixed_classes,
        )
        images = to_pixels(images)
        if with_index:
            images = {"images": images, "index": index}
        return images, labels

    if isinstance(examples, WithExtra):
        chosen = examples.orders(batch_size, seed, batches, first_batch)
    else:
        chosen = _orders(examples.size, batch_size, seed, first_batch)
    dataset = chosen.map(make_batch, tf.data.AUTOTUNE, deterministic=True)
    return endless(dataset.prefetch(tf.data.AUTOTUNE))


def _orders(count, batch_size, seed, first_batch):
    """Makes the numbers of epoch and batch, and the indices of the batch."""
    batches = count // batch_size

    def shuffled_epoch(epoch):
        chosen = epoch_order(count, batch_size, seed, epoch)
        epochs = tf.repeat(epoch, batches)
        numbers = tf.range(batches, dtype=tf.int64)
        return tf.data.Dataset.from_tensor_slices((epochs, numbers, chosen))

    epochs = tf.data.Dataset.range(first_batch // batches, tf.int64.max)
    return epochs.flat_map(shuffled_epoch).skip(first_batch % batches)


def read_rows(
    read,
    order,
    draws,
    *,
    first,
    count,
    augmentation=None,
    mixed_classes=None,
):
    """Reads, augments and mixes some rows of a batch.

    Args:
        read: Function from indices to images and labels.
        order: int32 tensor `(batch_size,)`, the indices of the whole batch.
        draws: The `Draws` of the batch.
        first: Integer or scalar tensor, the first row.
        count: Integer, the number of rows.
        augmentation: A `fastbat_tf.data.Augmentation`. Defaults to None.
        mixed_classes: Integer, the number of classes if CutMix mixes the rows.
            Defaults to None.

    Returns:
        uint8 images, labels, and the indices of the images: `count` of each.
    """
    size = order.shape[0]

    def augmented(first):
        rows, own = order, draws
        if count < size:
            rows = tf.gather(order, (first + tf.range(count)) % size)
            own = DrawsOfRows(draws, first, size)
        images, labels = read(rows)
        return augment(images, own, augmentation), labels, rows

    images, labels, index = augmented(first)
    if mixed_classes:
        # The batch is in random order, so that any other row will do.
        away = size // 2
        if count < size:
            others, other_labels, _ = augmented(first + away)
        else:
            others, other_labels = (
                tf.roll(part, -away, 0) for part in (images, labels)
            )
        images, labels = cutmix.mix(
            images,
            labels,
            others,
            other_labels,
            draws=DrawsOfRows(draws, first, size),
            classes=mixed_classes,
        )
    return images, labels, index


class DrawsOfRows(NamedTuple):
    """The draws of some rows of a batch.

    Attributes:
        draws: The `Draws` of the batch.
        first: Integer or scalar tensor, the first row. After the last row of
            the batch comes its first one again.
        batch_size: Integer, the rows of the batch.
    """

    draws: Draws
    first: Any
    batch_size: int

    def uniform(self, name, shape, *arguments):
        whole = self.draws.uniform(
            name, (self.batch_size, *shape[1:]), *arguments
        )
        rows = (self.first + tf.range(shape[0])) % self.batch_size
        return tf.ensure_shape(tf.gather(whole, rows), shape)


def batches_per_epoch(examples, batch_size, with_index=False):
    """The number of batches of an epoch.

    Extra images do not change it.

    Args:
        examples: What `training_batches` takes.
        batch_size: Integer.
        with_index: Whether the indices of the images are needed. Defaults to
            False.

    Returns:
        Integer.

    Raises:
        InputError: If there are fewer examples than a batch, or if `TFRecords`
            are read with an index.
    """
    own = examples.split if isinstance(examples, WithExtra) else examples
    batches = own.size // batch_size
    if not batches:
        raise InputError(
            "The training split is expected to hold at least one batch, but "
            f"has {own.size} images. Received: batch_size={batch_size}"
        )
    if with_index and isinstance(examples, sources.TFRecords):
        raise InputError(
            "The method keeps a state for each image, but images in TFRecord "
            "files have no index; expected a data set in memory, or of image "
            "files. Received: with_index=True"
        )
    return batches


def _of_records(
    examples,
    batches,
    batch_size,
    seed,
    *,
    crop,
    first_batch,
    rows,
    mixed_classes,
):
    """Makes batches of TFRecords, which are read one by one."""
    rows = range(batch_size) if rows is None else rows
    # The partners of mixed rows may be those of another worker.
    decoded = range(batch_size) if mixed_classes else rows
    images = examples.training_images(
        batches,
        batch_size,
        seed,
        crop=crop,
        first_batch=first_batch,
        rows=decoded if len(decoded) < batch_size else None,
    )

    def make_batch(number, batch):
        images, labels = batch
        if mixed_classes:
            images, labels, _ = read_rows(
                lambda index: (
                    tf.gather(images, index),
                    tf.gather(labels, index),
                ),
                tf.range(batch_size),
                Draws(seed, number // batches, number % batches),
                first=rows.start,
                count=len(rows),
                mixed_classes=mixed_classes,
            )
        return to_pixels(images), labels

    dataset = images.batch(len(decoded), drop_remainder=True)
    dataset = dataset.enumerate(first_batch).map(make_batch, tf.data.AUTOTUNE)
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
