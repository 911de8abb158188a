"""Gradients through float16: neither lost nor infinite."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.layers import gradient_scaling

# Each is a power of two times a number between 1 and 2.
TENSORS = {
    "small": ([1e-9, -3e-9], 2.0**32),
    "one": ([[1.0], [-0.5]], 8.0),
    "huge": ([-1e30], 2.0**-60),
    "zero": ([0.0, 0.0], 8.0),
    "nan": ([np.nan, 1.0], 8.0),
    "infinite": ([np.inf, 1.0], 8.0),
}


def multiply(x, *factors):
    """Multiplies in float16, one factor at a time."""
    x = tf.cast(x, tf.float16)
    for factor in factors:
        x *= factor
    return tf.cast(tf.reduce_sum(x, [1, 2, 3]), tf.float32)[:, tf.newaxis]


class GradientScalingTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*TENSORS)
    def test_scale(self, name):
        tensor, expected = TENSORS[name]
        found = gradient_scaling.scale_to(8.0, tf.constant(tensor))
        self.assertEqual(found, expected)

    @parameterized.product(graph=(False, True))
    def test_gradients_of_every_size(self, graph):
        """Also where the backward pass is first too large for float16."""

        def gradient(x, upstream, factors):
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(x)
                logits = multiply(x, *factors)
            return gradient_scaling.retried_gradient(tape, logits, upstream, x)

        def exact(upstream, factors):
            factors = np.float16(factors).astype("float64")
            return upstream * np.prod(factors)

        x = tf.fill((2, 2, 2, 1), 1e-6)
        for size in (1e-9, 1.0, 1e9):
            for factors in ((1e-3, 1e-3), (1.0,), (2e4, 100.0), (6e4, 6e4)):
                call = gradient
                if graph:
                    call = tf.function(gradient, autograph=False)
                # Not scalars, which TensorFlow multiplies first in a graph.
                tensors = [tf.fill(x.shape, np.float16(f)) for f in factors]
                found = call(x, tf.fill((2, 1), size), tensors)
                expected = exact(size, factors)
                # Powers of two: a number keeps its 11 bits, or 4 if it is
                # 1e-6 of the gradient of the logits.
                self.assertAllClose(found / expected, tf.ones_like(x), 0.03)

    def test_what_is_not_finite_stays(self):
        x = tf.ones((1, 2, 2, 1))
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            logits = multiply(x, np.nan)
            other = tf.ones((1, 1))
        upstream = tf.ones((1, 1))
        for of, expected in ((logits, True), (other, None)):
            found = gradient_scaling.retried_gradient(tape, of, upstream, x)
            is_nan = None if found is None else np.isnan(found).all()
            self.assertEqual(is_nan, expected)

    def test_an_overflow_spoils_the_second_derivative_alone(self):
        x = tf.constant([1.0, np.inf])
        for finite in (True, False):
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = gradient_scaling.spoil_unless(tf.constant(finite), x)
            self.assertAllEqual(y, x if finite else [0.0, 0.0])
            second = tape.gradient(y, x)
            self.assertAllEqual(np.isnan(second), [not finite] * 2)

    def test_which_layers_need_it(self):
        for policy, needed in (
            ("float32", False),
            ("mixed_bfloat16", False),
            ("mixed_float16", True),
            ("float16", True),
        ):
            layers = [keras.layers.Flatten(), keras.layers.Dense(1)]
            layers.append(keras.layers.Dense(1, dtype=policy))
            self.assertEqual(gradient_scaling.is_needed(layers), needed)


if __name__ == "__main__":
    tf.test.main()
