"""From a split of a data set to training batches."""

import tensorflow as tf

from fastbat_tf.data import sources
from fastbat_tf.data.augmentation import augment, to_pixels
from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError


def training_batches(
    examples,
    batch_size,
    seed,
    augmentation=None,
    first_batch=0,
    with_index=False,
):
    """Endless shuffled, augmented training batches.

    Batch k is a pure function of (seed, k): a permutation of the examples per
    epoch, `examples.size // batch_size` batches of it (all batches have one
    shape; which examples an epoch leaves over changes with the permutation),
    and an augmentation keyed by epoch and batch.

    Args:
        examples: `Examples`, `Files` or `Records` of `fastbat_tf.data.sources`.
        batch_size: Integer.
        seed: Integer.
        augmentation: A `fastbat_tf.data.Augmentation`, None for none.
        first_batch: Integer, the number of batches to skip.
        with_index: Whether the images come as `{"images": images, "index":
            index}`, with their places in `examples`, int32 `(batch_size,)`.

    Returns:
        A `tf.data.Dataset` of `(images, labels)`: float32 `(batch_size,
        height, width, channels)` in [0, 1], and int32 `(batch_size,)`.

    Raises:
        InputError: If there is not one batch, or the examples have no places.

    Example:

    ```python
    spec = data.get("cifar10_mini")
    batches = training_batches(
        loading.load("cifar10_mini").train, 128, 37, spec.augmentation
    )
    ```
    """
    batches = batches_per_epoch(examples, batch_size, with_index)
    if isinstance(examples, sources.Records):
        return _from_records(
            examples, batches, batch_size, seed, augmentation, first_batch
        )
    read = examples.reader()

    def shuffled_epoch(epoch):
        chosen = epoch_order(examples.size, batch_size, seed, epoch)
        epochs = tf.repeat(epoch, batches)
        numbers = tf.range(batches, dtype=tf.int64)
        return tf.data.Dataset.from_tensor_slices((epochs, numbers, chosen))

    def make_batch(epoch, batch, chosen):
        chosen = tf.ensure_shape(chosen, (batch_size,))
        images, labels = read(chosen)
        draws = Draws(seed, epoch, batch)
        images = to_pixels(augment(images, draws, augmentation))
        if with_index:
            images = {"images": images, "index": chosen}
        return images, labels

    epochs = tf.data.Dataset.range(first_batch // batches, tf.int64.max)
    chosen = epochs.flat_map(shuffled_epoch).skip(first_batch % batches)
    dataset = chosen.map(make_batch, tf.data.AUTOTUNE, deterministic=True)
    return dataset.prefetch(tf.data.AUTOTUNE)


def batches_per_epoch(examples, batch_size, with_index=False):
    """How many batches an epoch has; arguments as of `training_batches`.

    Raises:
        InputError: If there is not one batch, or the examples have no places.
    """
    batches = examples.size // batch_size
    if not batches:
        raise InputError(
            f"The training split holds {examples.size} images, expected at "
            f"least one batch. Received: batch_size={batch_size}"
        )
    if with_index and isinstance(examples, sources.Records):
        raise InputError(
            "The method remembers every image, and the places of images in "
            "TFRecord files are not known; expected a data set that is "
            "held in memory, or image files. Received: with_index=True"
        )
    return batches


def _from_records(
    records, batches, batch_size, seed, augmentation, first_batch
):
    images = records.training_images(
        batches, batch_size, seed, augmentation is not None, first_batch
    )
    dataset = images.batch(batch_size, drop_remainder=True)
    dataset = dataset.map(
        lambda images, labels: (to_pixels(images), labels), tf.data.AUTOTUNE
    )
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
