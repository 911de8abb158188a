"""Assertions about data that become one-line errors."""

import functools
import re

import tensorflow as tf

from fastbat_tf.errors import InputError
from fastbat_tf.layers.batch_normalization import inside_xla

# What `require` complains about, in the middle of TensorFlow's message.
_COMPLAINT = re.compile(
    r"(?:Images|Labels|Indices) are expected .*?"
    r"Received: \w+=[^\s\],]+(?:, \w+=[^\s\],]+)*"
)


def require(fits, complaint, get_values):
    """Raises an `InputError` unless a condition holds.

    In a graph, this adds an assertion. XLA drops assertions, so call this
    outside the part that XLA compiles; inside, it does nothing.

    Args:
        fits: Scalar boolean tensor.
        complaint: String that begins with "Images", "Labels" or "Indices are
            expected" and ends with "Received: name={}", with a `{}` for each
            value.
        get_values: Function that returns the list of values, scalar tensors.
            It is called only if the condition does not hold.

    Returns:
        A list of operations for `tf.control_dependencies`. What depends on
        them runs only if the condition holds. Empty when executed eagerly.

    Raises:
        InputError: When executed eagerly, if the condition does not hold.
    """
    if inside_xla():
        return []
    if tf.executing_eagerly():
        if not fits:
            values = (_shortest(value) for value in get_values())
            raise InputError(complaint.format(*values))
        return []

    def fail():  # Inside the branch, so that it costs nothing.
        text = tf.strings.format(complaint, list(get_values()))
        return tf.debugging.Assert(False, [text])

    return [tf.cond(fits, tf.no_op, fail)]


def raises_input_error(function):
    """Wraps a function so that what `require` finds is an `InputError`."""

    @functools.wraps(function)
    def checked(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except tf.errors.OpError as error:
            found = _COMPLAINT.search(error.message)
            if not found:
                raise
            raise InputError(found[0]) from None

    return checked


def _shortest(value):
    """As many digits as tell a number from its neighbors: 1.000002 is not 1."""
    return str(value.numpy()).removesuffix(".0")
