"""Lets Keras' optimizers apply gradients that all replicas have summed."""

import collections
import contextlib
import threading

import tensorflow as tf
from keras.src.backend.tensorflow.optimizer import TFOptimizer

from fastbat_tf import replicas
from fastbat_tf.layers import structure
from fastbat_tf.layers.replacement import Replacement

# How many blocks of `summed_before` an optimizer is in: replicas of a
# MirroredStrategy are traced in threads of their own.
_depths = collections.Counter()
_lock = threading.Lock()


def summed(result, shard, method):
    """Gives a replica's result the mean gradient of all replicas.

    Args:
        result: The `StepResult` of this replica.
        shard: Its `Shard`.
        method: The `Method`.

    Returns:
        A `StepResult`, with the norm of that gradient. If the replica has no
        examples, its other values are zero.
    """
    count, addend = len(result.gradients), result.addend or []
    means = _mean_over_replicas([*result.gradients, *addend], shard)
    norm = tf.linalg.global_norm(means[:count])
    result = result._replace(
        gradients=means[:count],
        addend=means[count:] or None,
        reports={**result.reports, "gradient_norm": norm},
    )
    result = added(result, method)
    return result._replace(
        loss=replicas.unless_empty(shard, result.loss),
        reports={
            name: replicas.unless_empty(shard, tf.convert_to_tensor(value))
            for name, value in result.reports.items()
        },
    )


def added(result, method):
    """Adds what a method keeps apart until replicas have been summed.

    Args:
        result: A `StepResult` with the mean gradients of all replicas.
        method: The `Method`.

    Returns:
        A `StepResult` without an addend.
    """
    if result.addend is None:
        return result
    gradients, reports = method.add(result.gradients, result.addend)
    norm = tf.linalg.global_norm(gradients)
    return result._replace(
        gradients=gradients,
        addend=None,
        reports={**result.reports, **reports, "gradient_norm": norm},
    )


def _mean_over_replicas(gradients, shard):
    indices = [i for i, g in enumerate(gradients) if g is not None]
    means = replicas.sum_over(
        [
            replicas.unless_empty(shard, gradients[i]) / replicas.count()
            for i in indices
        ]
    )
    gradients = list(gradients)
    for i, gradient in zip(indices, means, strict=True):
        gradients[i] = gradient
    return gradients


@contextlib.contextmanager
def statistics_kept(classifier, shard):
    """Keeps moving statistics in a `with` block, if there are no examples.

    The statistics of no examples are no numbers.

    Args:
        classifier: A `keras.Model`.
        shard: The `Shard` of this replica.
    """
    if shard.weight is None:
        yield
        return
    kept = [
        (variable, tf.identity(variable.value))
        for layer in structure.flatten(classifier)
        for variable in layer._non_trainable_variables
        if tf.as_dtype(variable.dtype).is_floating
    ]
    yield
    for variable, old in kept:
        new = tf.convert_to_tensor(variable.value)
        variable.assign(replicas.unless_empty(shard, new, old))


@contextlib.contextmanager
def summed_before(optimizer):
    """Lets an optimizer take gradients in a `with` block as they are.

    Keras would sum them over the replicas. The step has done so before, to clip
    them and to log their norm, and does not send them twice.

    Args:
        optimizer: The Keras optimizer that would sum them: the inner one of a
            `LossScaleOptimizer`, which calls it in threads of its own.
    """
    key = id(optimizer)
    with _lock:
        _depths[key] += 1
    try:
        with _replacement:
            yield
    finally:
        with _lock:
            _depths[key] -= 1
            if not _depths[key]:
                del _depths[key]


def _all_reduce_sum_gradients(optimizer, grads_and_vars):
    if id(optimizer) in _depths:
        return grads_and_vars
    original = _replacement.originals[TFOptimizer, "_all_reduce_sum_gradients"]
    return original(optimizer, grads_and_vars)


_replacement = Replacement(
    {(TFOptimizer, "_all_reduce_sum_gradients"): _all_reduce_sum_gradients}
)
