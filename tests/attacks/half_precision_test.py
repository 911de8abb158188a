"""Tests attacks on networks that compute in half precision."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

import fastbat_tf as fb
from fastbat_tf.attacks import losses
from tests.support.testing import images_and_labels

POLICIES = "mixed_float16", "mixed_bfloat16"
CLASSES = 4
SHORT = {
    "PGD": {"steps": 5},
    "APGD": {"steps": 5},
    "APGDTargeted": {"steps": 5},
    "FAB": {"steps": 5},
    "Square": {"queries": 60},
    "FGSM": {},
}


def build(policy, gain=1.0, before=1.0):
    """A network of a policy; the logits are multiplied by a gain in float32."""
    keras.utils.set_random_seed(0)
    make = functools.partial(keras.layers.Dense, dtype=policy)
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.Flatten(dtype=policy)(inputs)
    x = keras.layers.Activation("softplus", dtype=policy)(make(16)(x))
    x = keras.layers.Rescaling(before, dtype=policy)(x)
    x = make(CLASSES)(x)
    if gain != 1:
        x = keras.layers.Rescaling(gain, dtype="float32")(x)
    return keras.Model(inputs, x)


def ask(model, loss, images, labels, **kwargs):
    """The answer of a model, from a graph."""

    @tf.function(autograph=False, **kwargs)
    def compute(images, labels):
        return losses.ask(
            lambda batch: model(batch, training=False),
            loss,
            images=images,
            labels=labels,
            targets=(labels + 1) % CLASSES,
        )

    return compute(tf.constant(images), tf.constant(labels))


class GradientTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.images, self.labels = images_and_labels(3, size=4)

    @parameterized.named_parameters(
        ("small", 1e-9, False),
        ("small_compiled", 1e-9, True),
        ("tiny", 1e-20, False),
        ("large", 1e9, False),  # It would overflow with the first factor.
    )
    @pytest.mark.quick("small", "large")
    def test_of_any_size_as_in_float_32(self, gain, compiles):
        model, exact = (build(each, gain) for each in (POLICIES[0], "float32"))
        found, expected = (
            ask(
                each,
                losses.difference,
                self.images,
                self.labels,
                jit_compile=compiles,
            ).gradient
            for each in (model, exact)
        )
        largest = np.abs(expected).max()
        # Four roundings to 11 bits on the way.
        self.assertAllClose(found / largest, expected / largest, atol=4 / 2**11)
        self.assertAllGreater(np.abs(found), 0.0)

    def test_overflow_inside_the_network(self):
        model, exact = (
            build(each, 1, 300.0) for each in (POLICIES[0], "float32")
        )
        # The gradient of the first layer would be 300 times 1024 times 1.
        found, expected = (
            ask(each, losses.difference, self.images, self.labels).gradient
            for each in (model, exact)
        )
        self.assertAllClose(
            found, expected, atol=4 / 2**11 * np.abs(expected).max()
        )

    def test_an_example_does_not_depend_on_the_others(self):
        # The cross-entropy of a certain prediction has a gradient of 1e-9.
        model, exact = (build(each, 40.0) for each in (POLICIES[0], "float32"))
        images = np.repeat(self.images[:1], 2, axis=0)
        order = exact.predict(images[:1], verbose=0)[0].argsort()
        labels = order[[-1, 0]].astype(np.int32)
        found, expected = (
            ask(each, losses.cross_entropy, images, labels).gradient.numpy()
            for each in (model, exact)
        )
        small, large = np.abs(expected).max((1, 2, 3))
        self.assertLess(small, 1e-6 * large)
        self.assertAllGreater(np.abs(found).max((1, 2, 3)), 0.0)
        cosines = (
            (found * expected).sum((1, 2, 3))
            / np.linalg.norm(found.reshape(2, -1), axis=1)
            / np.linalg.norm(expected.reshape(2, -1), axis=1)
        )
        self.assertAllGreater(cosines, 0.999)

    def test_no_gradient_is_zero(self):
        found = ask(
            build(POLICIES[0], 0.0), losses.difference, self.images, self.labels
        )
        self.assertAllEqual(found.gradient, tf.zeros_like(self.images))


class AttackTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.product(
        policy=POLICIES,
        name=("PGD", "APGD", "APGDTargeted", "FAB", "Square", "FGSM"),
        norm=("linf", "l2"),
    )
    @pytest.mark.quick(
        "mixed_float16 PGD linf",
        "mixed_float16 FAB l2",
        "mixed_bfloat16 APGD linf",
    )
    def test_outcomes_are_those_of_predict(self, policy, name, norm):
        model = build(policy, 1e-9 if policy == POLICIES[0] else 1.0)
        images, _ = images_and_labels(24, size=4)
        labels = model.predict(images, verbose=0).argmax(-1)
        epsilon = {"linf": 0.05, "l2": 0.3}[norm]
        attack = getattr(fb.attacks, name)(epsilon, norm=norm, **SHORT[name])
        found = attack(model, images, labels)
        predicted = model.predict(found.images, verbose=0).argmax(-1)
        self.assertEqual(found.images.dtype, np.float32)
        self.assertAllEqual(found.predictions, predicted)
        self.assertAllEqual(found.robust, predicted == labels)
        self.assertBetween(found.robust.mean(), 0.0, 0.95)
        moved = np.float64(found.images) - images
        self.assertBetween(found.images.min(), 0.0, 1.0)
        self.assertBetween(found.images.max(), 0.0, 1.0)
        # `images + delta` is rounded to float32, and so is epsilon.
        sizes = (
            np.abs(moved).max((1, 2, 3))
            if norm == "linf"
            else np.sqrt((moved**2).sum((1, 2, 3)))
        )
        self.assertAllLessEqual(
            sizes, np.float32(epsilon) * (1 + 1e-6) + 2**-24
        )

    def test_as_strong_as_in_float32(self):
        images, _ = images_and_labels(60, size=4)
        robust = []
        for policy in (POLICIES[0], "float32"):
            model = build(policy, 1e-9)
            labels = model.predict(images, verbose=0).argmax(-1)
            attack = fb.attacks.PGD(0.04, steps=5)
            robust.append(attack(model, images, labels).robust.mean())
        self.assertBetween(robust[1], 0.2, 0.8)
        self.assertAllClose(robust[0], robust[1], atol=0.05)


if __name__ == "__main__":
    tf.test.main()
