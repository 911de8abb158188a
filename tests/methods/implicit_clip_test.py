"""The clip of Fast-BAT's implicit term."""

import math
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import FastBAT, RobustClassifier
from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError
from fastbat_tf.experiment.config import MethodConfig
from fastbat_tf.methods import implicit
from tests.methods import replicas_test
from tests.support import golden_network, testing


def compute(method, dtype="float64", network=None):
    """Returns the gradient as one vector, and what is reported."""
    with golden_network.precision(dtype):
        robust = RobustClassifier(network or testing.small_network(), method)
        robust.compile()
        images, labels = testing.images_and_labels(5, dtype=dtype)
        outcome = robust.compute_gradients(images, labels, Draws(1, 0))
    reports = {k: float(v) for k, v in outcome.reports.items()}
    gradients = [np.ravel(g) for g in outcome.gradients]
    return np.concatenate(gradients), reports


class ImplicitClipTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        kind=("exact", "finite_difference"), norm=("linf", "l2")
    )
    def test_length_and_direction(self, kind, norm):
        """The plain gradient is that of lambda = inf."""
        given = {
            "epsilon": 0.1,
            "step_size": 0.3,
            "implicit_gradient": kind,
            "norm": norm,
        }
        plain, _ = compute(FastBAT(**given, implicit_lambda=math.inf))
        whole, before = compute(FastBAT(**given, implicit_lambda=0.1))
        term, length = whole - plain, np.linalg.norm(plain)
        ratio = np.linalg.norm(term) / length
        self.assertGreater(ratio, 0.01)
        self.assertAllClose(before["implicit_ratio"], ratio, 1e-9)
        clip = ratio / 3
        clipped, reports = compute(
            FastBAT(**given, implicit_lambda=0.1, implicit_clip=clip)
        )
        self.assertAllClose(clipped - plain, term / 3, 1e-9, 1e-12)
        self.assertAllClose(
            np.linalg.norm(clipped - plain), clip * length, 1e-9
        )
        self.assertAllClose(reports["implicit_ratio"], clip, 1e-9)
        self.assertAllClose(reports["implicit_ratio_unclipped"], ratio, 1e-9)
        self.assertAllClose(
            reports["implicit_cosine"], before["implicit_cosine"], 1e-9
        )
        self.assertAllClose(
            reports["gradient_norm"], np.linalg.norm(clipped), 1e-9
        )

    def test_a_shorter_term_is_left_as_it_is(self):
        off, before = compute(FastBAT(), "float32")
        on, reports = compute(FastBAT(implicit_clip=10.0), "float32")
        self.assertAllEqual(on, off)
        ratio = reports.pop("implicit_ratio_unclipped")
        self.assertAllClose(ratio, before["implicit_ratio"])
        self.assertEqual(reports, before)

    @parameterized.parameters(1e-6, 1e-30)
    def test_a_small_lambda_holds_the_ratio(self, value):
        """Also where the squares of the term would overflow float32."""
        reference, _ = compute(
            FastBAT(0.1, 0.3, 1e-4, implicit_clip=0.2), "float32"
        )
        clipped, reports = compute(
            FastBAT(0.1, 0.3, value, implicit_clip=0.2), "float32"
        )
        self.assertAllClose(reports["implicit_ratio"], 0.2, 1e-5)
        error = np.linalg.norm(clipped - reference)
        self.assertLess(error, 1e-3 * np.linalg.norm(reference))

    def test_nothing_to_clip(self):
        """A term of zeros stays so; next to no plain gradient, so is all."""
        zeros, ones = [tf.zeros([3])], [tf.ones([3])]
        term, ratio = implicit.clip(ones, zeros, 0.1)
        self.assertAllEqual(term, zeros)
        self.assertEqual(float(ratio), 0.0)
        term, _ = implicit.clip(zeros, ones, 0.1)
        self.assertAllEqual(term, zeros)
        term, _ = implicit.clip(zeros, zeros, 0.1)
        self.assertAllEqual(term, zeros)

    @parameterized.parameters(math.nan, math.inf)
    def test_what_is_no_number_is_not_hidden(self, value):
        term, _ = implicit.clip([tf.ones([2])], [tf.constant([1, value])], 0.1)
        self.assertFalse(np.all(np.isfinite(term[0])))

    def test_weights_that_the_loss_does_not_use(self):
        inputs = keras.Input((8, 8, 3))
        flat = keras.layers.Flatten()(inputs)
        hidden = keras.layers.Dense(4, "softplus")(flat)
        network = keras.Model(inputs, keras.layers.Dense(4)(hidden))
        network.unused = keras.layers.Dense(3, name="unused")
        network.unused.build((None, 5))
        given = {"epsilon": 0.1, "step_size": 0.3, "implicit_lambda": 1e-3}
        off, _ = compute(FastBAT(**given), "float32", network)
        on, reports = compute(
            FastBAT(**given, implicit_clip=0.5), "float32", network
        )
        self.assertEqual(on.shape, off.shape)
        self.assertAllClose(reports["implicit_ratio"], 0.5, 1e-5)

    @parameterized.parameters(
        ("exact", False), ("finite_difference", False), ("exact", True)
    )
    @pytest.mark.quick("exact False")
    def test_two_replicas_are_one_device(self, kind, compiled):
        """Lengths are those of the whole batch."""
        options = {
            "implicit_lambda": 1e-6,
            "implicit_clip": 0.3,
            "implicit_gradient": kind,
        }
        cases = {"clipped": ("fastbat", options)}
        with mock.patch.dict(replicas_test.CASES, cases):
            (one, logs), (two, others) = (
                replicas_test.train("clipped", n, jit_compile=compiled)
                for n in (1, 2)
            )
        for ours, theirs in zip(one.weights, two.weights, strict=True):
            self.assertAllClose(ours, theirs, 0, 1e-10, msg=ours.path)
        self.assertAllClose(logs["robust_implicit_ratio"], [0.3] * 3, 1e-6)
        for name, values in logs.items():
            self.assertAllClose(values, others[name], 1e-6, 1e-9, msg=name)

    def test_options(self):
        for options, expected in (
            (
                {"implicit_lambda": math.inf, "implicit_clip": 0.1},
                r"^`implicit_clip=0.1` does not apply unless implicit_lambda < "
                r"inf\. Received: implicit_clip=0.1, implicit_lambda=inf$",
            ),
            ({"implicit_clip": 0}, r"in \(0, inf\]\. Received"),
            ({"implicit_clip": -1}, r"in \(0, inf\]\. Received"),
            ({"implicit_clip": math.nan}, r"in \(0, inf\]\. Received"),
        ):
            with self.assertRaisesRegex(InputError, expected):
                MethodConfig("fastbat", options)
            with self.assertRaisesRegex(InputError, expected):
                FastBAT(**options)
        self.assertEqual(FastBAT().implicit_clip, math.inf)
        self.assertIsNone(FastBAT(implicit_lambda=math.inf).implicit_clip)
        self.assertFalse(FastBAT().adds_apart)


if __name__ == "__main__":
    tf.test.main()
