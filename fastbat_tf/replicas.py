"""The part of a batch that a replica has, and what replicas tell each other.

A replica of a `tf.distribute.Strategy` sees some of the examples of a batch.
What it computes is scaled here, and only here, so that all replicas together
compute what one device computes of the whole batch:

* The gradients of the replicas are averaged. Losses are means over a replica's
  own examples, so each is first multiplied by `Shard.weight`.
* Sums, and means that divide by something else than the number of examples,
  are also multiplied by `Shard.reduction`.
"""

from typing import Any, NamedTuple

import tensorflow as tf


class Shard(NamedTuple):
    """The part of a batch that one replica has.

    Attributes:
        first: Integer scalar tensor, the row of its first example in the batch
            of all replicas; zero for a replica without examples.
        batch: Tensor `(examples,)`, with an element for each example of the
            batch of all replicas. Only its shape is used, which XLA knows when
            it compiles.
        weight: Float scalar tensor, the number of the replica's examples as a
            share of what it would be if all replicas had as many. It is zero
            for a replica without examples. Defaults to None, for 1.
        reduction: Float scalar, the factor of the replica's reduced loss, in
            addition to `weight`. Defaults to None, for 1.
    """

    first: Any
    batch: Any
    weight: Any = None
    reduction: Any = None

    @property
    def total(self) -> Any:
        """The number of examples of all replicas."""
        known = self.batch.shape[0]
        return tf.shape(self.batch)[0] if known is None else known


def count() -> int:
    """Returns the number of replicas; 1 outside of a strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def shard(images: Any, divisor: Any = None, adds_up: bool = False) -> Any:
    """Finds the part of the batch that this replica has.

    If the number of examples is not known before the step runs, or the divisor
    is not their number, the replicas tell each other. So this must not be
    called in what XLA compiles.

    Args:
        images: Tensor `(examples, ...)`, the images of this replica.
        divisor: Float scalar tensor, what the reduced loss is divided by on
            this replica. Defaults to None, for the number of examples.
        adds_up: Boolean, whether the reduced loss is a sum. Defaults to False.

    Returns:
        A `Shard`, or None if there is one replica.
    """
    if count() == 1:
        return None
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    examples = images.shape[0]
    # In a graph, the last batch has its own size only if none is known.
    if tf.executing_eagerly() or examples is None or divisor is not None:
        return _told(images, divisor, adds_up)
    return Shard(
        first=tf.cast(replica, tf.int32) * examples,
        batch=tf.zeros([count() * examples], tf.bool),
        reduction=float(count()) if adds_up else None,
    )


def _told(images, divisor, adds_up):
    own = tf.cast(tf.shape(images)[0], images.dtype)
    own_divisor = own if divisor is None else tf.cast(divisor, own.dtype)
    told = gather(tf.stack([own, own_divisor]))
    counts, divisors = tf.unstack(told, axis=1)
    total = tf.reduce_sum(counts)
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    before = tf.logical_and(tf.range(count()) < replica, own > 0)
    reduction = None
    if adds_up:
        reduction = tf.math.divide_no_nan(total, own)
    elif divisor is not None:
        reduction = tf.math.divide_no_nan(
            own_divisor * total, tf.reduce_sum(divisors) * own
        )
    return Shard(
        first=tf.cast(
            tf.reduce_sum(tf.where(before, counts, tf.zeros_like(counts))),
            tf.int32,
        ),
        batch=tf.zeros([tf.cast(total, tf.int32)], tf.bool),
        weight=tf.math.divide_no_nan(own * count(), total),
        reduction=reduction,
    )


def gather(values: Any) -> Any:
    """Collects the values of all replicas, on all of them.

    It is one sum over the replicas, which is exact: the others add zeros.

    Args:
        values: Float tensor `(n, ...)`, a few numbers.

    Returns:
        A tensor `(replicas, n, ...)`.
    """
    context = tf.distribute.get_replica_context()
    own = tf.equal(tf.range(count()), context.replica_id_in_sync_group)
    own = tf.reshape(own, [-1] + [1] * values.shape.rank)
    placed = tf.where(own, values[tf.newaxis], tf.zeros_like(values))
    return context.all_reduce(tf.distribute.ReduceOp.SUM, placed)


def largest(shard: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Returns the largest values of all replicas.

    Args:
        shard: The `Shard`.
        values: Dict of float scalars of one dtype.
    """
    own = [unless_empty(shard, x, x.dtype.min) for x in values.values()]
    found = tf.reduce_max(gather(tf.stack(own)), 0)
    return dict(zip(values, tf.unstack(found), strict=True))


def sum_over(tensor: Any) -> Any:
    """Sums a tensor, or a list of them, over all replicas."""
    if count() == 1:
        return tensor
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tensor)


def unless_empty(shard: Any, value: Any, other: Any = 0.0) -> Any:
    """Returns a value, or another one on a replica without examples.

    Means over no examples are no numbers.

    Args:
        shard: The `Shard`, or None.
        value: Float tensor, or None.
        other: Number or tensor. Defaults to 0.
    """
    if shard is None or shard.weight is None or value is None:
        return value
    return tf.where(shard.weight > 0, value, tf.cast(other, value.dtype))
