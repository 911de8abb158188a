"""Tests the distances of the nearest adversarial images."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.attacks.fab import FAB
from fastbat_tf.attacks.nearest import nearest_adversarial
from fastbat_tf.errors import InputError
from tests.attacks import outcomes_test
from tests.support import attack_outcomes
from tests.support.attack_problems import (
    NORMS,
    SHAPE,
    boxed_problem,
    linear_problem,
    predictions,
    sizes,
    smooth_network,
)


class NearestTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.product(norm=NORMS, classes=(2, 4))
    def test_linear_network(self, norm, classes):
        problem = linear_problem(20, classes, seed=3)
        radii = problem.radii[norm]
        found = nearest_adversarial(
            problem.network, problem.images, problem.labels, norm=norm, steps=20
        )
        wrong = radii < 0
        self.assertAllEqual(found.distances[wrong], np.zeros(wrong.sum()))
        self.assertAllEqual(found.images[wrong], problem.images[wrong])
        # Never below the margin over the dual norm, and hardly above it.
        ratio = found.distances[~wrong] / radii[~wrong]
        self.assertAllInRange(ratio, 0.999, 1.01)
        self.check_images(problem, found, norm)

    @parameterized.parameters(*NORMS)
    def test_within_the_pixel_range(self, norm):
        # Half of the pixels are at a bound or near it.
        problem = boxed_problem(24, seed=5)
        found = nearest_adversarial(
            problem.network,
            problem.images,
            problem.labels,
            norm=norm,
            steps=30,
        )
        ratio = found.distances / problem.radii[norm]
        self.assertAllInRange(ratio, 0.999, 1.02)
        self.check_images(problem, found, norm)

    def check_images(self, problem, found, norm):
        """The images are where the distances say, and misclassified."""
        delta = found.images - problem.images
        self.assertAllClose(sizes(delta, norm), found.distances, atol=1e-6)
        self.assertAllInRange(found.images, 0.0, 1.0)
        seen = predictions(problem.network, found.images)
        self.assertAllEqual(seen, found.predictions)
        self.assertFalse((seen == problem.labels).any())

    def test_none_found(self):
        images = np.full((3, *SHAPE), 0.5, np.float32)

        def network(batch):
            return tf.constant([[1.0, 0.0]]) + 1e-3 * batch[:, 0, 0, :1]

        found = nearest_adversarial(network, images, [0, 0, 1], steps=3)
        self.assertAllEqual(found.distances, [np.inf, np.inf, 0.0])
        self.assertAllEqual(found.predictions, [0, 0, 0])
        self.assertAllEqual(found.images, images)

    @parameterized.product(norm=NORMS, steps=(3, 12))
    def test_agrees_with_fab_at_every_radius(self, norm, steps):
        # On a network that is not linear, whose paths turn.
        network = smooth_network(scale=3.0)
        images = np.random.default_rng(1).random((10, *SHAPE), np.float32)
        labels = predictions(network, images)
        labels[0] = (labels[0] + 1) % 4
        found = nearest_adversarial(
            network, images, labels, norm=norm, steps=steps
        )
        reached = np.isfinite(found.distances) & (found.distances > 0)
        self.assertGreater(reached.sum(), 3)
        attack = FAB(steps=steps, norm=norm).on(network)
        for epsilon in found.distances[reached]:
            for radius in (0.999 * epsilon, 1.001 * epsilon):
                if radius > 1 and norm == "linf":
                    continue
                robust = attack(images, labels, radius).robust
                self.assertAllEqual(robust, found.distances > radius)

    def test_the_nearest_class_is_not_the_likeliest(self):
        problem = linear_problem(40, classes=3, seed=4, wrong=False)
        one, two = (
            nearest_adversarial(
                problem.network,
                problem.images,
                problem.labels,
                norm="l2",
                steps=10,
                target_classes=classes,
            ).distances
            for classes in (1, 2)
        )
        self.assertTrue((two <= one).all())
        self.assertTrue((two < 0.9 * one).any())
        self.assertAllInRange(two / problem.radii["l2"], 0.999, 1.01)

    def test_batches_and_xla(self):
        problem = linear_problem(9, classes=3, seed=6)
        data = problem.images, problem.labels
        whole = nearest_adversarial(problem.network, *data, steps=5)
        for settings in ({"batch_size": 4}, {"jit_compile": True}):
            other = nearest_adversarial(
                problem.network, *data, steps=5, **settings
            )
            self.assertAllClose(other.distances, whole.distances, atol=1e-6)

    def test_pixel_range_of_a_model(self):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input(SHAPE),
                keras.layers.Rescaling(1 / 255),
                keras.layers.Flatten(),
                keras.layers.Dense(3),
            ]
        )
        images = np.random.default_rng(0).integers(0, 256, (6, *SHAPE))
        images = images.astype("uint8")
        labels = np.argmax(model(images.astype("float32")), axis=-1)
        found = nearest_adversarial(
            model,
            images.astype("float32"),
            labels,
            steps=10,
            pixel_range=(0, 255),
        )
        moved = (found.images - images) / 255
        self.assertAllClose(sizes(moved, "linf"), found.distances, atol=1e-6)
        self.assertTrue(np.isfinite(found.distances).all())
        # One-hot labels say the same.
        again = nearest_adversarial(
            model,
            images.astype("float32"),
            np.eye(3)[labels],
            steps=10,
            pixel_range=(0, 255),
        )
        self.assertAllClose(again.distances, found.distances, atol=1e-6)

    def test_shown_in_one_line(self):
        problem = linear_problem(4)
        found = nearest_adversarial(problem.network, *problem[1:3], steps=2)
        self.assertEqual(
            repr(found),
            "<NearestExamples: images (4, 4, 4, 3), 4 of 4 misclassified>",
        )

    def test_refused(self):
        problem = linear_problem(2)
        data = problem.images, problem.labels
        for name in ("steps", "target_classes", "batch_size"):
            with self.assertRaisesRegex(InputError, f"Received: {name}=0"):
                nearest_adversarial(problem.network, *data, **{name: 0})
        with self.assertRaisesRegex(InputError, "Received: norm=l1"):
            nearest_adversarial(problem.network, *data, norm="l1")

        def numbers(batch):  # No gradient.
            return np.asarray(batch).reshape(len(batch), -1)[:, :2]

        with self.assertRaisesRegex(InputError, "model without gradient"):
            nearest_adversarial(numbers, *data)

    @pytest.mark.slow
    def test_like_the_original_program(self):
        # It has recorded whether its FAB-T breaks an image within 8/255.
        recorded = outcomes_test.recording()
        arrays, few = recorded.arrays, slice(12)
        found = nearest_adversarial(
            attack_outcomes.build_network(recorded),
            arrays["images"][few],
            arrays["labels"][few],
            batch_size=64,
        )
        robust = found.distances > np.float32(8 / 255)
        self.assertAllEqual(robust, arrays["fab-t"][few])
        self.assertBetween(robust.sum(), 1, 11)


if __name__ == "__main__":
    tf.test.main()
