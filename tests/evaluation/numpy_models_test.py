"""Tests the evaluation of functions of NumPy arrays, by attacks on logits."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.errors import InputError
from fastbat_tf.evaluation.robustness import evaluate_robustness
from tests.evaluation.robustness_test import without_seconds
from tests.support.toy_evaluation import CLASSES, PIXELS, toy_data

RANDOM = np.random.default_rng(0)
# Sums of few bits: NumPy and TensorFlow round them alike.
WEIGHTS = RANDOM.integers(-8, 9, (PIXELS, CLASSES)).astype(np.float32)


def of_numpy(images):
    return (images.reshape(-1, PIXELS) - np.float32(0.5)) @ WEIGHTS


def of_tensorflow(images):
    return (tf.reshape(images, (-1, PIXELS)) - 0.5) @ WEIGHTS


IMAGES, LABELS = toy_data(20, of_tensorflow)


class NumpyModelTest(parameterized.TestCase, tf.test.TestCase):
    def evaluate(self, model, *, images=IMAGES, attacks="square-20", **kwargs):
        results = evaluate_robustness(
            model, (images, LABELS), attacks, [0.02, 0.05], **kwargs
        )
        return without_seconds(results)

    @parameterized.parameters("linf", "l2")
    def test_square(self, norm):
        """It finds what it finds on the same function of TensorFlow."""
        expected = self.evaluate(of_tensorflow, norm=norm)
        self.assertEqual(expected["warnings"], [])
        robust = [row["robust_accuracy"] for row in expected["attacks"]]
        self.assertGreater(expected["clean_accuracy"], robust[1])
        self.assertEqual(self.evaluate(of_numpy, norm=norm), expected)

    def test_range_lists_and_compilation(self):
        """What the function takes and returns, and XLA, change nothing."""
        images = IMAGES.astype(np.float32)
        found = self.evaluate(
            lambda given: of_numpy(given / np.float32(255)).tolist(),
            images=images,
            pixel_range=(0, 255),
            jit_compile=True,
        )
        expected = self.evaluate(of_numpy)
        self.assertEqual(found["attacks"], expected["attacks"])

    def test_as_the_victim_of_a_transfer(self):
        found, expected = (
            self.evaluate(
                model, attacks="transfer-pgd-3-1", surrogate=of_tensorflow
            )
            for model in (of_numpy, of_tensorflow)
        )
        self.assertEqual(found["attacks"], expected["attacks"])

    @parameterized.parameters("pgd-1-1", "autoattack", "fab-t", "fgsm+square")
    def test_attacks_by_gradients(self, attack):
        with self.assertRaisesRegex(
            InputError, r"differentiable.*square.* Received: model without"
        ):
            self.evaluate(of_numpy, attacks=attack)

    def test_surrogate(self):
        with self.assertRaisesRegex(InputError, "Received: model without grad"):
            self.evaluate(
                of_tensorflow, attacks="transfer-fgsm", surrogate=of_numpy
            )

    def test_random_outputs(self):
        """The checks before the attacks see such a function, too."""
        noise = np.random.default_rng(0)

        def noisy(images):
            logits = of_numpy(images)
            return logits + noise.normal(size=logits.shape)

        (warning,) = self.evaluate(noisy)["warnings"][:1]
        self.assertRegex(warning, "is not deterministic")

    def test_own_error(self):
        def broken(images):
            if len(images) > 1:
                raise RuntimeError("no weights")
            return of_numpy(np.asarray(images))

        with self.assertRaisesRegex(RuntimeError, "^no weights$"):
            self.evaluate(broken)


if __name__ == "__main__":
    tf.test.main()
