"""The perturbations and shares against NumPy and planted networks."""

import numpy as np
import tensorflow as tf
from absl.testing import absltest

from benchmarks import label_leak

CLASSES, SIDE = 4, 2


def softmax(logits):
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


class PerturbationTest(absltest.TestCase):
    def test_two_steps_of_a_linear_network_against_numpy(self):
        draws = np.random.default_rng(0)
        weights = draws.normal(size=(SIDE * SIDE * 3, CLASSES))
        images = draws.uniform(0.1, 0.9, (5, SIDE, SIDE, 3))
        labels = np.array([0, 1, 2, 3, 0])
        start = draws.uniform(-0.05, 0.05, images.shape)
        expected = start
        for _ in range(2):
            flat = (images + expected).reshape(5, -1)
            away = softmax(flat @ weights) - np.eye(CLASSES)[labels]
            gradient = (away @ weights.T).reshape(images.shape)
            expected = np.clip(expected + 0.03 * gradient, -0.05, 0.05)
        found = label_leak.method_perturbation(
            lambda points: tf.reshape(points, (5, -1)) @ weights,
            tf.constant(images),
            tf.constant(labels, tf.int32),
            tf.constant(start),
            epsilon=0.05,
            step_size=0.03,
        )
        np.testing.assert_allclose(found, expected, atol=1e-7)
        self.assertLess(np.abs(found).max(), 0.05 + 1e-7)
        self.assertTrue((np.abs(found) < 0.049).any())


class MeasureTest(absltest.TestCase):
    def test_a_network_that_misleads_its_attack(self):
        """An image says nothing; its perturbation shows the label.

        Each class has a pixel, which is its logit. The gradient has the wrong
        sign, so that the steps raise the logit that they should lower.
        """

        @tf.custom_gradient
        def misled(points):
            return 10 * points, lambda upstream: -10 * upstream

        def network(points):
            pixels = misled(points)[..., 0]
            return tf.reshape(pixels, (len(points), -1))

        images = np.full((64, SIDE, SIDE, 1), 0.5, np.float32)
        labels = np.arange(64) % CLASSES
        found = label_leak.measure(
            network, images, labels, epsilon=0.1, step_size=1
        )
        for name in ("true_label", "as_wrong_label", "as_other_image"):
            self.assertEqual(found[name], 1, name)
        for name in ("wrong_label", "of_another_image"):
            self.assertEqual(found[name], 0, name)

    def test_a_network_that_does_not(self):
        """The first pixel shows the label, and the ball cannot change it."""
        levels = np.linspace(0.1, 0.9, CLASSES, dtype=np.float32)

        def network(points):
            return -10 * tf.abs(points[:, 0, 0, :] - levels)

        labels = np.arange(32) % CLASSES
        images = np.zeros((32, SIDE, SIDE, 1), np.float32)
        images[:, 0, 0, 0] = levels[labels]
        found = label_leak.measure(
            network, images, labels, epsilon=0.05, step_size=1
        )
        right = {"clean", "true_label", "wrong_label", "of_another_image"}
        for name in (*right, "pgd_10"):
            self.assertEqual(found[name], 1, name)
        for name in ("as_wrong_label", "as_other_image"):
            self.assertEqual(found[name], 0, name)

    def test_the_table(self):
        modes = {"moving": {"clean": 0.5, "pgd_10": 0.25}}
        lines = label_leak.table({"a": {"train": modes, "test": modes}})
        self.assertEqual(
            lines[0], "| run | images | statistics | clean | pgd 10 |"
        )
        self.assertEqual(lines[3], "| `a` | test | moving | 50.0 | 25.0 |")


if __name__ == "__main__":
    absltest.main()
