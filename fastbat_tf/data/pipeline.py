"""From uint8 arrays in memory to training batches."""

import tensorflow as tf

from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError

PADDING = 4


def to_pixels(images):
    """uint8 images as float32 in [0, 1]."""
    return tf.cast(images, tf.float32) / 255.0


def random_crop_and_flip(images, draws, padding=PADDING):
    """Pads by zeros, crops to the old size, and flips half of the images.

    Args:
        images: Tensor `(batch, height, width, channels)` of any type.
        draws: The `Draws` of the batch.
        padding: Integer, pixels added on each side.

    Returns:
        A tensor like `images`.
    """
    batch, height, width, _ = images.shape
    top, left = (
        draws.uniform(name, (batch, 1), 0, 2 * padding + 1, tf.int32)
        for name in ("top", "left")
    )
    flip = draws.uniform("flip", (batch, 1), 0, 2, tf.int32) == 1
    sides = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
    padded = tf.pad(images, sides)
    columns = tf.range(width)[tf.newaxis]
    columns = left + tf.where(flip, width - 1 - columns, columns)
    rows = top + tf.range(height)[tf.newaxis]
    cropped = tf.gather(padded, rows, axis=1, batch_dims=1)
    return tf.gather(cropped, columns, axis=2, batch_dims=1)


def training_batches(examples, batch_size, seed, augment=True, first_batch=0):
    """Endless shuffled, augmented training batches.

    Batch k is a pure function of (seed, k): a permutation of the examples per
    epoch, `len(examples) // batch_size` batches of it (all batches have one
    shape; which examples an epoch leaves over changes with the permutation),
    and an augmentation keyed by epoch and batch.

    Args:
        examples: `Examples`.
        batch_size: Integer.
        seed: Integer.
        augment: Whether to crop and flip.
        first_batch: Integer, the number of batches to skip.

    Returns:
        A `tf.data.Dataset` of `(images, labels)`: float32 `(batch_size,
        height, width, channels)` in [0, 1], and int32 `(batch_size,)`.
    """
    count = len(examples.labels)
    batches = count // batch_size
    if not batches:
        raise InputError(
            f"The training split holds {count} images, expected at least one "
            f"batch. Received: batch_size={batch_size}"
        )
    images, labels = tf.constant(examples.images), tf.constant(examples.labels)

    def shuffled_epoch(epoch):
        chosen = epoch_order(count, batch_size, seed, epoch)
        epochs = tf.repeat(epoch, batches)
        numbers = tf.range(batches, dtype=tf.int64)
        return tf.data.Dataset.from_tensor_slices((epochs, numbers, chosen))

    def make_batch(epoch, batch, chosen):
        chosen = tf.ensure_shape(chosen, (batch_size,))
        draws = Draws(seed, epoch, batch) if augment else None
        return pick(images, labels, chosen, draws)

    epochs = tf.data.Dataset.range(first_batch // batches, tf.int64.max)
    chosen = epochs.flat_map(shuffled_epoch).skip(first_batch % batches)
    dataset = chosen.map(make_batch, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.prefetch(tf.data.AUTOTUNE)


def epoch_order(count, batch_size, seed, epoch):
    """The shuffled places of an epoch's examples in the data set.

    Args:
        count: Integer, the number of examples.
        batch_size: Integer, at most `count`.
        seed: Integer.
        epoch: Integer or scalar tensor.

    Returns:
        An int32 tensor `(count // batch_size, batch_size)`.
    """
    # Not `index_shuffle`: it knows few permutations of small data sets.
    order = tf.random.experimental.stateless_shuffle(
        tf.range(count), Draws(seed, epoch).key("shuffle"), "philox"
    )
    batches = count // batch_size
    return tf.reshape(order[: batches * batch_size], (batches, batch_size))


def pick(images, labels, chosen, draws=None):
    """Makes one training batch.

    Args:
        images: uint8 tensor `(examples, height, width, channels)`.
        labels: int32 tensor `(examples,)`.
        chosen: Integer tensor `(batch_size,)` of a static shape.
        draws: The `Draws` of the augmentation, or None for none.

    Returns:
        Images, float32 in [0, 1], and labels.
    """
    picked = tf.gather(images, chosen)
    if draws is not None:
        picked = random_crop_and_flip(picked, draws)
    return to_pixels(picked), tf.gather(labels, chosen)
