"""Stateless draws."""

import statistics

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.draws import Draws, as_normal
from tests.support import testing


def draw(seed=1, step=2, part=0, name="start", count=1000):
    draws = Draws(seed, step, part)
    return draws.uniform(name, (count,), -0.5, 1.5, "float32")


def rows(step, first, shape, dtype="float32"):
    draws = Draws(1, step)
    return draws.uniform("start", shape, -0.5, 1.5, dtype, first=first)


class DrawsTest(tf.test.TestCase, parameterized.TestCase):
    def test_range_and_uniformity(self):
        sample = draw(count=20_000).numpy()
        self.assertAllInRange(sample, -0.5, 1.5)
        quantiles = np.quantile(sample, [0.1, 0.5, 0.9])
        self.assertAllClose(quantiles, [-0.3, 0.5, 1.3], atol=0.03)

    @parameterized.parameters("float16", "bfloat16")
    def test_half_precision(self, dtype):
        """The float32 draws, rounded toward zero: finite, and in the radius."""
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
        {"seed": 2}, {"step": 3}, {"part": 1}, {"name": "other"}
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

    @parameterized.product(
        mode=("eager", "graph", "xla"),
        # Philox draws four numbers at once.
        row=((), (3,), (2, 2, 3)),
        dtype=("float32", "float64", "bfloat16"),
    )
    @pytest.mark.quick("eager", "xla 2 3 float32")
    def test_rows_of_a_draw(self, mode, row, dtype):
        """The rows of a replica are those of the draw of all."""
        function = rows
        if mode != "eager":
            function = tf.function(rows, jit_compile=mode == "xla")
        whole = Draws(1, 4).uniform("start", (9, *row), -0.5, 1.5, dtype)
        for first, count in ((0, 4), (4, 5), (7, 1), (9, 0)):
            part = function(4, tf.constant(first), (count, *row), dtype)
            self.assertAllEqual(part, whole[first : first + count])

    @parameterized.product(
        ends=((0, 1), (-8 / 255, 8 / 255), (0.1, 0.5), (100, 101), (-1e-3, 0)),
        dtype=("float32", "float64"),
    )
    def test_ends_of_the_range(self, ends, dtype):
        """Rounding moves no draw out of [minval, maxval)."""
        for highest in (False, True):
            with testing.extreme_draws(highest):
                drawn = Draws(0, 0).uniform("x", (2,), *ends, dtype).numpy()
            low, high = np.array(ends, dtype)
            self.assertTrue((low <= drawn).all(), drawn)
            self.assertTrue((drawn < high).all(), drawn)
            if not highest:
                self.assertAllEqual(drawn, [low, low])

    def test_empty_range(self):
        for bound in (0.0, 0.1, tf.constant(0.0)):
            drawn = Draws(0, 0).uniform("x", (99,), bound, bound, "float32")
            self.assertAllEqual(drawn, np.full(99, bound, "float32"))

    @parameterized.parameters(False, True)
    def test_normal(self, jit_compile):
        normal = tf.function(as_normal, jit_compile=jit_compile)
        numbers = np.array([0, 1, 2**23 - 1, 2**23, 2**24 - 2, 2**24 - 1])
        ends = normal((numbers * 2.0**-24).astype("float32")).numpy()
        # Two draws share a midpoint; smallest and largest are opposite.
        quantile = statistics.NormalDist().inv_cdf
        middles = [2.0**-24, 2.0**-24, 0.5 - 2.0**-24]
        expected = [quantile(middle) for middle in middles]
        self.assertAllClose(ends[:3], expected, 1e-5, 1e-8)
        self.assertAllClose(ends, -ends[::-1], 1e-6)
        sample = normal(Draws(0, 0).uniform("x", (20_000,), 0, 1, "float32"))
        probabilities = [0.001, 0.1, 0.5, 0.9, 0.999]
        self.assertAllClose(
            np.quantile(sample, probabilities),
            [quantile(probability) for probability in probabilities],
            atol=0.15,
        )

    def test_integers(self):
        draws = Draws(0, 0)
        sample = draws.uniform("top", (500,), 0, 9, tf.int32).numpy()
        self.assertAllEqual(np.unique(sample), np.arange(9))


if __name__ == "__main__":
    tf.test.main()
