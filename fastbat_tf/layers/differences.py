"""Compares the derivatives of a function with central differences."""

import numpy as np
import tensorflow as tf

# The step of the differences, and the largest relative error of derivatives
# that are right. Measured: at least 0.16 with `tf.nn.moments` as it is; at most
# 0.005 with right layers, 0.06 in half precision.
_FINE = 2e-3, 2e-2
_COARSE = 0.25, 0.1  # In half precision.


def only_second_are_wrong(function, points, variables=()):
    """Whether first derivatives are right, and second derivatives are wrong.

    With `F(x) = sum(w cos(y(x)))` and a direction v, it compares
    `<dF / dx, v>` with a difference of F, and the gradient of `<dF / dx, v>`,
    to the inputs and the variables, with a difference of that of F. The
    differences need not be precise, since what is looked for is a missing term.

    Args:
        function: Function from a list of float tensors to a list of float
            tensors.
        points: List of float tensors.
        variables: Sequence of `tf.Variable`s. Defaults to none.

    Returns:
        Boolean; False if it cannot be told, because the function has kinks.
    """
    random = np.random.default_rng(0)

    def around_one(x):
        # Not around zero: it is its mean of which `tf.nn.moments` loses sight.
        return tf.cast(1.0 + 0.5 * random.normal(size=x.shape), x.dtype)

    directions = [around_one(x) for x in points]
    outputs = function(points)
    terms = [
        # Outputs of any size are brought to the curved part of the cosine.
        (_widen(around_one(y)), 1.3 / (tf.math.reduce_std(_widen(y)) + 1e-6))
        for y in outputs
    ]

    def gradients(shift, twice=False):
        """Gradients of F at a shifted point, or of `<dF / dx, v>`."""
        moved = [
            x + tf.cast(shift, x.dtype) * v
            for x, v in zip(points, directions, strict=True)
        ]
        sources = [*moved, *variables]
        with tf.GradientTape() as outer:
            outer.watch(moved)
            with tf.GradientTape() as inner:
                inner.watch(moved)
                values = [
                    w * tf.cos(s * _widen(y))
                    for (w, s), y in zip(terms, function(moved), strict=True)
                ]
            first = inner.gradient(values, sources)
            slope = tf.add_n(
                [
                    tf.reduce_sum(_widen(g) * _widen(v))
                    for g, v in zip(first, directions, strict=False)
                    if g is not None
                ]
            )
        if twice:
            return _arrays(outer.gradient(slope, sources), sources)
        total = sum(y.numpy().astype("float64").sum() for y in values)
        return total, _arrays(first, sources)

    half = any(x.dtype.size == 2 for x in (*points, *outputs))
    step, tolerance = _COARSE if half else _FINE

    def differences(h):
        (total, first), (total_before, before) = gradients(h), gradients(-h)
        rates = [(a - b) / (2 * h) for a, b in zip(first, before, strict=True)]
        return (total - total_before) / (2 * h), rates

    slope, rates = differences(step)
    _, closer = differences(step / 2)
    _, first = gradients(0.0)
    products = np.concatenate(
        [
            (g * v.numpy()).ravel()
            for g, v in zip(first, directions, strict=False)
        ]
    )
    if abs(products.sum() - slope) > tolerance * np.abs(products).sum():
        return False  # The gradient is stopped on purpose.
    second = gradients(0.0, twice=True)
    for found, rate, near, g in zip(second, rates, closer, first, strict=True):
        size = max(np.abs(found).mean(), np.abs(rate).mean())
        size += 0.1 * np.abs(g).mean()
        # The median, because a kink spoils the differences of single values.
        error, change = (
            np.median(np.abs(x - rate)) / size for x in (found, near)
        )
        if error > tolerance and change < tolerance / 2:
            return True
    return False


def _widen(x):
    """At least float32."""
    return tf.cast(x, tf.float32) if x.dtype.size == 2 else x


def _arrays(gradients, sources):
    """Gradients in float64, with zeros where there is none."""
    return [
        np.zeros(x.shape)
        if g is None
        else tf.convert_to_tensor(g).numpy().astype("float64")
        for g, x in zip(gradients, sources, strict=True)
    ]
