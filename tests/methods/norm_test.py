"""The option `norm`: its spellings, and the defaults that depend on it."""

import functools
import math
import types

import tensorflow as tf
from absl.testing import absltest, parameterized

from fastbat_tf import (
    GAT,
    PGD,
    TRADES,
    FastAT,
    FastBAT,
    StepContext,
    methods,
)
from fastbat_tf.attacks.registry import DEFAULT_EPSILON
from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError

NAMES = ("fastat", "fastbat", "mart", "pgd", "trades")


class NormOptionTest(parameterized.TestCase):
    @parameterized.parameters("l2", "L2", "l_2", 2)
    def test_spellings(self, norm):
        self.assertEqual(FastBAT(norm=norm).norm, "l2")
        self.assertEqual(FastBAT(norm=norm).get_config()["norm"], "l2")

    @parameterized.parameters(*NAMES)
    def test_defaults(self, name):
        for norm, epsilon in DEFAULT_EPSILON.items():
            self.assertEqual(methods.get(name, norm=norm).epsilon, epsilon)
        cls = methods.get_class(name)
        self.assertEqual(cls().norm, "linf")
        self.assertEqual(cls(0.25).epsilon, 0.25)
        self.assertEqual(cls(3.0, norm="l2").epsilon, 3.0)
        for norm, epsilon in (("linf", 1.5), ("l2", math.inf), ("l2", -1)):
            with self.assertRaisesRegex(InputError, f"epsilon={epsilon}$"):
                cls(epsilon, norm=norm)

    def test_step_sizes(self):
        radius = 128 / 255
        for method, expected in (
            (FastAT(norm="l2"), 1.25 * radius),
            (PGD(norm="l2"), 1.25 * radius),
            (PGD(1, 10, norm="l2"), 0.25),
            (TRADES(norm="l2"), 0.2 * radius),
            (FastBAT(norm="l2"), 6.0),
        ):
            self.assertAlmostEqual(method.step_size, expected)
        # The corrected gradient is then the total derivative.
        self.assertEqual(FastBAT(1, 4, norm="l2").implicit_lambda, 0.25)

    @parameterized.parameters("l1", 3, None, 0.5, b"l2")
    def test_other_norms(self, norm):
        if norm is None:
            self.assertEqual(PGD(norm=norm).norm, "linf")
            return
        with self.assertRaisesRegex(
            InputError, "^`norm` is expected to be one of linf, l2. Received:"
        ):
            PGD(norm=norm)

    def test_a_start_in_no_known_norm(self):
        """Of a method whose norm is no option, and so is not parsed."""
        network = types.SimpleNamespace(trainable_variables=[])
        images = tf.fill((1, 2, 2, 1), 0.5)
        context = StepContext(network, min, images, None, draws=Draws(0, 0))
        with self.assertRaisesRegex(InputError, "norm=L2$"):
            context.random_start(0.1, norm="L2")

    def test_methods_without_the_option(self):
        for make in (GAT, functools.partial(methods.get, "gat")):
            with self.assertRaisesRegex(
                InputError,
                "^`norm` does not apply to the method gat, which has epsilon, "
                ".*; it applies to fastat, fastbat, mart, pgd, trades. "
                "Received: norm=l2$",
            ):
                make(norm="l2")
        with self.assertRaisesRegex(TypeError, "unexpected keyword"):
            GAT(nonsense=3)


if __name__ == "__main__":
    absltest.main()
