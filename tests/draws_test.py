"""Stateless draws."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.draws import Draws


def draw(seed=1, step=2, replica=0, name="start", count=1000):
    draws = Draws(seed, step, replica)
    return draws.uniform(name, (count,), -0.5, 1.5, "float32")


class DrawsTest(tf.test.TestCase, parameterized.TestCase):
    def test_range_and_uniformity(self):
        sample = draw(count=20_000).numpy()
        self.assertAllInRange(sample, -0.5, 1.5)
        quantiles = np.quantile(sample, [0.1, 0.5, 0.9])
        self.assertAllClose(quantiles, [-0.3, 0.5, 1.3], atol=0.03)

    @parameterized.parameters("float16", "bfloat16")
    def test_half_precision(self, dtype):
        """As float32, rounded toward zero: finite, and in the radius."""
        draws, radius = Draws(1, 2), 8 / 255
        for low, high in ((-radius, radius), (0.0, 1.0)):
            half = draws.uniform("half", (20_000,), low, high, dtype)
            self.assertEqual(half.dtype, dtype)
            half = tf.cast(half, "float32").numpy()
            full = draws.uniform("half", (20_000,), low, high, "float32")
            self.assertAllInRange(half, np.float32(low), np.float32(high))
            self.assertAllLessEqual(np.abs(half) - np.abs(full), 0.0)
            self.assertAllClose(half, full, 2**-7, 1e-6)

    def test_repeats(self):
        self.assertAllEqual(draw(), draw())

    @parameterized.parameters(
        {"seed": 2}, {"step": 3}, {"replica": 1}, {"name": "other"}
    )
    def test_every_part_of_the_key_counts(self, **changed):
        correlation = np.corrcoef(draw(), draw(**changed))[0, 1]
        self.assertLess(abs(correlation), 0.15)

    @parameterized.parameters(False, True)
    def test_same_numbers_in_graph_and_xla(self, jit_compile):
        compiled = tf.function(draw, jit_compile=jit_compile)
        for step in range(20):
            result = compiled(step=tf.constant(step, tf.int64))
            self.assertAllEqual(result, draw(step=step))

    def test_integers(self):
        draws = Draws(0, 0)
        sample = draws.uniform("top", (500,), 0, 9, tf.int32).numpy()
        self.assertAllEqual(np.unique(sample), np.arange(9))


if __name__ == "__main__":
    tf.test.main()
