"""Tests of the measuring of clean and robust accuracy."""

import json

import keras
import numpy as np
import tensorflow as tf

from fastbat_tf.attacks.pgd import PGDAttack
from fastbat_tf.errors import InputError
from fastbat_tf.evaluation import evaluate_robustness, logits_of
from tests.testing import images_and_labels

SHAPE = (4, 4, 3)


def network_with_state():
    """A network that does another thing in training than in inference."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Flatten(),
            keras.layers.BatchNormalization(momentum=0.5),
            keras.layers.Dropout(0.9),
            keras.layers.Dense(3),
        ]
    )
    batch_normalization = model.layers[1]
    # Far from the statistics of any batch.
    batch_normalization.moving_mean.assign(tf.linspace(0.0, 1.0, 48))
    batch_normalization.moving_variance.assign(tf.linspace(0.1, 4.0, 48))
    return model


class EvaluateRobustnessTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.images, _ = images_and_labels(30, size=4)
        predicted = np.argmax(network_with_state()(self.images), axis=-1)
        self.labels = predicted
        self.labels[::3] = (predicted[::3] + 1) % 3  # A third is wrong.

    def test_rows(self):
        model = network_with_state()
        results = evaluate_robustness(
            model,
            self.images,
            self.labels,
            epsilons=(0.0, 0.2, 1.0),
            steps=3,
            restarts=2,
            batch_size=8,
            seed=5,
        )
        self.assertEqual(
            set(results), {"clean_accuracy", "examples", "attacks"}
        )
        self.assertEqual(results["examples"], 30)
        self.assertAlmostEqual(results["clean_accuracy"], 20 / 30)
        accuracies = []
        for row, epsilon in zip(
            results["attacks"], (0.0, 0.2, 1.0), strict=True
        ):
            self.assertGreaterEqual(row.pop("seconds"), 0)
            accuracies.append(row.pop("robust_accuracy"))
            expected = PGDAttack(logits_of(model), 3, 2, batch_size=8)(
                self.images, self.labels, epsilon, seed=5
            )
            self.assertAlmostEqual(accuracies[-1], expected.robust.mean())
            self.assertEqual(
                row,
                {
                    "attack": "pgd-3-2",
                    "epsilon": epsilon,
                    "examples": 30,
                    "seed": 5,
                },
            )
        self.assertEqual(accuracies[0], results["clean_accuracy"])
        self.assertBetween(accuracies[1], 1 / 30, 19 / 30)
        self.assertEqual(accuracies[2], 0.0)  # Any image into any other.

    def test_json(self):
        results = evaluate_robustness(
            network_with_state(), self.images, self.labels, (0.1,), 2, 1
        )
        self.assertEqual(json.loads(json.dumps(results)), results)

    def test_json_of_epsilons_in_an_array(self):
        epsilons = np.array([0.25, 0.5], np.float32)
        results = evaluate_robustness(
            network_with_state(), self.images, self.labels, epsilons, 2, 1
        )
        rows = json.loads(json.dumps(results))["attacks"]
        self.assertEqual([row["epsilon"] for row in rows], [0.25, 0.5])

    def test_no_epsilon(self):
        with self.assertRaisesRegex(InputError, r"Received: epsilons=\(\)"):
            evaluate_robustness(
                network_with_state(), self.images, self.labels, epsilons=()
            )

    def test_inference_mode(self):
        model = network_with_state()
        before = [weight.numpy() for weight in model.weights]
        first, again = (
            evaluate_robustness(
                model, self.images, self.labels, (0.02,), 5, 2, 16
            )
            for _ in range(2)
        )
        after = [weight.numpy() for weight in model.weights]
        # The moving statistics did not move.
        self.assertLen(before, 6)
        for old, new in zip(before, after, strict=True):
            self.assertAllEqual(old, new)
        # Nothing was dropped: the same numbers twice.
        for results in (first, again):
            del results["attacks"][0]["seconds"]
        self.assertEqual(first, again)
        # In training mode, they would move.
        model(self.images, training=True)
        self.assertNotAllEqual(model.layers[1].moving_mean, before[2])

    def test_any_callable(self):
        weights = tf.random.stateless_normal((48, 3), (0, 0))

        def network(images):
            return tf.reshape(images, (-1, 48)) @ weights

        predicted = np.argmax(network(self.images), axis=-1)
        results = evaluate_robustness(
            network, self.images, predicted, (0.0, 1.0), steps=5, restarts=1
        )
        self.assertEqual(results["clean_accuracy"], 1.0)
        robust = [row["robust_accuracy"] for row in results["attacks"]]
        self.assertEqual(robust[0], 1.0)
        self.assertLess(robust[1], 0.5)

    def test_logits_of(self):
        model = network_with_state()
        self.assertAllEqual(
            logits_of(model)(self.images), model(self.images, training=False)
        )
        self.assertNotAllClose(
            logits_of(model)(self.images), model(self.images, training=True)
        )


if __name__ == "__main__":
    tf.test.main()
