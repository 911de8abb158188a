"""How a Keras loss reduces the values of a batch to one."""

import keras
import tensorflow as tf
from keras.src.losses.loss import apply_mask

from fastbat_tf import replicas


def weigh_ignored(loss, labels, sample_weight):
    """Gives no weight to the labels that a loss ignores.

    As in Keras, a mean is then over the other examples.

    Args:
        loss: A `keras.losses.Loss`, perhaps with an `ignore_class`.
        labels: Labels, as the loss expects them.
        sample_weight: Float tensor `(batch,)`, or None.

    Returns:
        Float tensor `(batch,)` or `(batch, 1)`; `sample_weight` itself if the
        loss ignores no class.
    """
    ignored = getattr(loss, "ignore_class", None)
    if ignored is None:
        return sample_weight
    labels = tf.cast(tf.reshape(labels, [-1]), tf.int64)
    return apply_mask(
        sample_weight,
        tf.not_equal(labels, ignored),
        dtype="float32",
        reduction=loss.reduction,
    )


def shard(loss, images, labels, sample_weight):
    """Finds the part of the batch that this replica has.

    Args:
        loss: A `keras.losses.Loss`.
        images: Tensor `(batch, ...)`, the images of this replica.
        labels: Labels, as the loss expects them.
        sample_weight: Float tensor `(batch,)`, or None.

    Returns:
        A `fastbat_tf.replicas.Shard`, or None if there is one replica.
    """
    if replicas.count() == 1:
        return None
    weights = weigh_ignored(loss, labels, sample_weight)
    divisor = _divisor(loss, labels, weights)
    return replicas.shard(images, divisor, _adds_up(loss))


def _divisor(loss, labels, sample_weight):
    """Returns what a mean divides by, if not by the number of examples."""
    if loss.reduction == "mean_with_sample_weight":
        return None if sample_weight is None else tf.reduce_sum(sample_weight)
    ignored = getattr(loss, "ignore_class", None)
    if ignored is None or _adds_up(loss):
        return None
    labels = tf.cast(tf.reshape(labels, [-1]), tf.int64)
    counted = tf.not_equal(labels, ignored)
    return tf.reduce_sum(tf.cast(counted, keras.config.floatx()))


def _adds_up(loss):
    return loss.reduction in ("sum", "none", None)
