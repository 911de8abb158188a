"""Draws for a batch that is a stack of copies of the step's batch.

A method may evaluate several versions of its images in one pass, stacked along
the batch axis. Each version must see the draw that the images see in the other
passes of the step, so numbers are drawn for one version, and repeated.
"""

import functools

import tensorflow as tf
from keras.src.backend.tensorflow import random

# They take the shape of the result as their first argument.
_SHAPED = (
    "beta",
    "binomial",
    "gamma",
    "normal",
    "randint",
    "truncated_normal",
    "uniform",
)


def replacements(find_stack):
    """Returns functions that draw for a stack.

    Args:
        find_stack: Function without arguments that returns the number of
            versions in the current pass, and the size of its batch, or None if
            it is unknown.

    Returns:
        Dict of functions. The keys are the module, and the name of the function
        that each replaces.
    """
    found = {
        name: _repeat(getattr(random, name), find_stack) for name in _SHAPED
    }
    found["dropout"] = _repeat_dropout(random.dropout, find_stack)
    found["shuffle"] = _repeat_shuffle(random.shuffle, find_stack)
    return {(random, name): draw for name, draw in found.items()}


def _repeat(draw, find_stack):
    @functools.wraps(draw)
    def drawn(shape, *args, **kwargs):
        copies, batch = find_stack()
        if copies == 1:
            return draw(shape, *args, **kwargs)
        size, *others = tf.unstack(shape) if tf.is_tensor(shape) else shape
        if not _is_stack(size, batch):
            return draw(shape, *args, **kwargs)
        part = draw([size // copies, *others], *args, **kwargs)
        return _tile(part, copies)

    return drawn


def _repeat_dropout(dropout, find_stack):
    @functools.wraps(dropout)
    def drawn(inputs, rate, noise_shape=None, seed=None):
        copies, batch = find_stack()
        size = (noise_shape or [None])[0]
        size = tf.shape(inputs)[0] if size is None else size
        if copies == 1 or not _is_stack(size, batch):
            return dropout(inputs, rate, noise_shape, seed)
        if noise_shape is not None:
            noise_shape = [None, *noise_shape[1:]]
        part = tf.ones_like(inputs[: tf.shape(inputs)[0] // copies])
        mask = dropout(part, rate, noise_shape, seed)
        return inputs * tf.cast(_tile(mask, copies), inputs.dtype)

    return drawn


def _repeat_shuffle(shuffle, find_stack):
    @functools.wraps(shuffle)
    def drawn(x, axis=0, seed=None):
        copies, batch = find_stack()
        size = tf.shape(x)[axis]
        if copies == 1 or not _is_stack(size, batch):
            return shuffle(x, axis, seed)
        size //= copies
        order = shuffle(tf.range(size), 0, seed)
        orders = order + size * tf.range(copies)[:, tf.newaxis]
        return tf.gather(x, tf.reshape(orders, [-1]), axis=axis)

    return drawn


def _is_stack(size, batch):
    """Whether an axis of this size belongs to the examples of the batch."""
    known = tf.get_static_value(size) if tf.is_tensor(size) else size
    if known is None:
        return True
    return batch is not None and known > 0 and known % batch == 0


def _tile(part, copies):
    return tf.tile(part, [copies] + [1] * (part.shape.rank - 1))
