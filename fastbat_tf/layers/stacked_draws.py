"""Draws for a batch that is a stack of copies, or a part, of the step's batch.

A method may evaluate several versions of its images in one pass, stacked along
the batch axis. Each version must see the draw that the images see in the other
passes of the step, so numbers are drawn for one version, and repeated.

A replica sees a part of the batch. Numbers are drawn for the batch of all
replicas, so that an example sees the same ones on any number of replicas.
"""

import functools
from typing import Any, NamedTuple

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


class Stack(NamedTuple):
    """What the batch of a forward pass is made of.

    Attributes:
        copies: Integer, the number of versions of the images. Defaults to 1.
        size: Integer, the size of the batch. Defaults to None, if it is not
            known before the step runs.
        shard: The `fastbat_tf.replicas.Shard` of the images. Defaults to None,
            for all of the step's images.
    """

    copies: int = 1
    size: int | None = None
    shard: Any = None

    @property
    def is_plain(self):
        """Whether Keras draws as it is meant to."""
        return self.copies == 1 and self.shard is None

    def has_axis(self, size):
        """Whether an axis of this size belongs to the examples of the batch."""
        known = tf.get_static_value(size) if tf.is_tensor(size) else size
        if known is None:
            return True
        return self.size is not None and known > 0 and known % self.size == 0

    def drawn_rows(self, size):
        """The number of rows to draw for an axis of this size."""
        if self.shard is None:
            return size // self.copies
        return self.shard.total * self._rows_of_example(size)

    def spread(self, drawn, size):
        """Makes an axis of this size of the rows that were drawn."""
        if self.shard is not None:
            first = self.shard.first * self._rows_of_example(size)
            rows = size // self.copies
            begin = [first] + [0] * (drawn.shape.rank - 1)
            shape = drawn.shape
            drawn = tf.slice(drawn, begin, [rows, *([-1] * (len(begin) - 1))])
            known = tf.get_static_value(rows) if tf.is_tensor(rows) else rows
            drawn = tf.ensure_shape(drawn, [known, *shape[1:]])
        if self.copies == 1:
            return drawn
        return tf.tile(drawn, [self.copies] + [1] * (drawn.shape.rank - 1))

    def _rows_of_example(self, size):
        # One, unless a layer has merged another axis into that of the batch.
        known = tf.get_static_value(size) if tf.is_tensor(size) else size
        return 1 if None in (known, self.size) else known // self.size


def replacements(find_stack):
    """Returns functions that draw for a stack.

    Args:
        find_stack: Function without arguments that returns the `Stack` of the
            current pass.

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
        stack = find_stack()
        if stack.is_plain or not _has_axes(shape):
            return draw(shape, *args, **kwargs)
        size, *others = tf.unstack(shape) if tf.is_tensor(shape) else shape
        if not stack.has_axis(size):
            return draw(shape, *args, **kwargs)
        part = draw([stack.drawn_rows(size), *others], *args, **kwargs)
        return stack.spread(part, size)

    return drawn


def _has_axes(shape):
    return bool(shape.shape[0] if tf.is_tensor(shape) else len(shape))


def _repeat_dropout(dropout, find_stack):
    @functools.wraps(dropout)
    def drawn(inputs, rate, noise_shape=None, seed=None):
        stack = find_stack()
        own = inputs.shape[0]
        own = tf.shape(inputs)[0] if own is None else own
        size = (noise_shape or [None])[0]
        size = own if size is None else size
        if stack.is_plain or not stack.has_axis(size):
            return dropout(inputs, rate, noise_shape, seed)
        if noise_shape is not None:
            noise_shape = [None, *noise_shape[1:]]
        others = tf.shape(inputs)[1:]
        shape = tf.concat([[stack.drawn_rows(own)], others], 0)
        part = tf.ones(shape, inputs.dtype)
        part = tf.ensure_shape(part, [None, *inputs.shape[1:]])
        mask = dropout(part, rate, noise_shape, seed)
        return inputs * tf.cast(stack.spread(mask, own), inputs.dtype)

    return drawn


def _repeat_shuffle(shuffle, find_stack):
    @functools.wraps(shuffle)
    def drawn(x, axis=0, seed=None):
        copies = find_stack().copies
        size = tf.shape(x)[axis]
        if copies == 1 or not find_stack().has_axis(size):
            return shuffle(x, axis, seed)
        size //= copies
        order = shuffle(tf.range(size), 0, seed)
        orders = order + size * tf.range(copies)[:, tf.newaxis]
        return tf.gather(x, tf.reshape(orders, [-1]), axis=axis)

    return drawn
