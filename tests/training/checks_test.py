"""Tests of what the constructor and `compile` of a classifier refuse."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from fastbat_tf import EpsilonSchedule, FastAT, FastBAT, Plan, RobustClassifier
from fastbat_tf.attacks.pgd import PGD
from fastbat_tf.errors import InputError
from tests.support import testing
from tests.training.lifecycle_test import Subclassed, compiled, functional


class Module(tf.Module):
    built = True

    def __call__(self, images, training=False):
        return images


UNBUILT = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)])


class RefusedTest(parameterized.TestCase):
    @parameterized.parameters(
        (lambda images: images, r"built keras.Model.*function <lambda>"),
        (Module(), "built keras.Model.*Module"),
        ("model.keras", "built keras.Model.*'model.keras'"),
        (Subclassed, "built keras.Model.*the class Subclassed"),
        (keras.layers.Dense(4), "built keras.Model.*Dense"),
        (None, "built keras.Model.*None"),
        (UNBUILT, "expected to be built.*sequential"),
        (Subclassed(), "expected to be built.*subclassed"),
    )
    def test_classifier(self, classifier, message):
        self.assert_refused(message, RobustClassifier, classifier, FastAT())

    def test_a_robust_classifier(self):
        robust = RobustClassifier(functional(), FastAT())
        self.assert_refused("plain", RobustClassifier, robust, FastAT())

    @parameterized.parameters(
        (FastBAT, r"expected to be an instance, FastBAT\(...\), not the class"),
        ("fastbat", "fastbat_tf.methods.get.*method='fastbat'"),
        (Subclassed(), "instance of a fastbat_tf.Method.*Subclassed"),
        (None, "instance of a fastbat_tf.Method.*None"),
        (PGD(), r"attacks.PGD, measure\. Received: method=PGD\(\)$"),
    )
    def test_method(self, method, message):
        self.assert_refused(message, RobustClassifier, functional(), method)

    @parameterized.parameters(0.5, "a", None, True, 2**40)
    def test_seed(self, seed):
        message = f"`seed` is expected to be an integer.*seed={seed!r}"
        self.assert_refused(
            message, RobustClassifier, functional(), FastAT(), seed=seed
        )

    def test_seed_of_numpy(self):
        robust = RobustClassifier(functional(), FastAT(), seed=np.int64(3))
        self.assertIs(type(robust.get_config()["seed"]), int)

    @parameterized.parameters(
        (3, "fastbat_tf.Plan.*plan=3"),
        ({"epochs": 1}, "fastbat_tf.Plan.*plan={'epochs': 1}"),
        ("abc", "fastbat_tf.Plan.*plan='abc'"),
        (Plan(0, 2, 8), "at least 1.*epochs=0"),
        (Plan(1, 1.5, 8), "steps_per_epoch.*1.5"),
    )
    def test_plan(self, plan, message):
        self.assert_refused(message, compiled, plan=plan)

    @parameterized.parameters(3, EpsilonSchedule)
    def test_epsilon_schedule(self, schedule):
        message = "object of fastbat_tf.EpsilonSchedule. Received: epsilon_s"
        self.assert_refused(message, compiled, epsilon_schedule=schedule)

    def test_frozen(self):
        robust = compiled()
        robust.classifier.trainable = False
        robust.compile("sgd")
        self.assert_refused(
            "to have trainable weights",
            robust.fit,
            *testing.images_and_labels(8),
        )

    def assert_refused(self, message, function, *arguments, **options):
        with self.assertRaisesRegex(InputError, message) as caught:
            function(*arguments, **options)
        self.assertNotIn("\n", str(caught.exception))
        self.assertIn("Received: ", str(caught.exception))
        self.assertIsInstance(caught.exception, ValueError)


if __name__ == "__main__":
    absltest.main()
