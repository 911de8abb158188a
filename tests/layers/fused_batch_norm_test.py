"""Tests fused normalization and its first and second derivatives."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.layers.fused_batch_norm import fused_batch_norm

EPSILON = 1e-5


def composed(x, gamma, beta):
    """The definition, which TensorFlow can differentiate repeatedly."""
    mean = tf.reduce_mean(x, [0, 1, 2])
    variance = tf.reduce_mean((x - mean) ** 2, [0, 1, 2])
    return (x - mean) * gamma * tf.math.rsqrt(variance + EPSILON) + beta


def fused(x, gamma, beta):
    return fused_batch_norm(x, gamma, beta, EPSILON)[0]


def derivatives(normalize, sources, w, v):
    """First and second derivatives of s = sum(w sin(y)) to x, gamma and beta.

    The second ones are those of the derivative of s to x in the direction v.
    """
    with tf.GradientTape() as outer:
        outer.watch(sources)
        with tf.GradientTape() as tape:
            tape.watch(sources)
            s = tf.reduce_sum(w * tf.sin(normalize(*sources)))
        first = tape.gradient(s, sources)
        directional = tf.reduce_sum(first[0] * v)
    return [*first, *outer.gradient(directional, sources)]


class FusedBatchNormTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(True, False)
    def test_derivatives(self, in_graph):
        random = np.random.default_rng(0)
        x, w, v = random.normal(1.0, 2.0, (3, 8, 5, 4, 6))
        # One channel has gamma 0, and one is constant.
        gamma, beta = random.normal(size=(2, 6))
        gamma[2] = 0.0
        x[..., 3] = 0.25
        arrays = ([x, gamma, beta], w, v)
        expected = derivatives(
            composed, *tf.nest.map_structure(tf.constant, arrays)
        )
        compute = tf.function(derivatives) if in_graph else derivatives
        given = tf.nest.map_structure(
            lambda array: tf.constant(array, tf.float32), arrays
        )
        for ours, theirs in zip(compute(fused, *given), expected, strict=True):
            axes = tuple(range(theirs.shape.rank - 1))
            error = np.abs(ours.numpy() - theirs.numpy()).max(axes)
            scale = np.abs(theirs).max(axes)
            self.assertAllLess(error / (scale + 1e-3), 1e-5)

    def test_what_is_not_implemented_is_refused(self):
        x, gamma = tf.ones((2, 3, 3, 2)), tf.ones(2)
        with tf.GradientTape() as outer:
            outer.watch([x, gamma])
            with tf.GradientTape() as tape:
                tape.watch(gamma)
                s = tf.reduce_sum(fused(x, gamma, gamma) ** 2)
            first = tape.gradient(s, gamma)
        with self.assertRaisesRegex(LookupError, "to gamma and beta"):
            outer.gradient(first, x)

    def test_statistics_are_constants(self):
        x = tf.random.stateless_normal((4, 3, 3, 2), (1, 2))
        gamma, beta = tf.ones(2), tf.zeros(2)
        with tf.GradientTape() as tape:
            tape.watch(x)
            _, mean, variance = fused_batch_norm(x, gamma, beta, EPSILON)
        self.assertAllClose(mean, np.mean(x, (0, 1, 2)))
        self.assertAllClose(variance, np.var(x, (0, 1, 2), ddof=1))
        self.assertIsNone(tape.gradient([mean, variance], x))

    def test_one_value_in_a_channel(self):
        one = [tf.fill((1, 1, 1, 2), 3.0), tf.ones(2), tf.ones(2)]
        results = derivatives(fused, one, tf.ones((1, 1, 1, 2)), one[0])
        for result in results:
            self.assertAllEqual(
                tf.math.is_finite(result), tf.ones_like(result, bool)
            )


if __name__ == "__main__":
    tf.test.main()
