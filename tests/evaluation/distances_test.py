"""Tests the distances of the nearest adversarial images in an evaluation."""

import contextlib
import io
import json
import pathlib
import tempfile
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.attacks.nearest import nearest_adversarial
from fastbat_tf.attacks.records import Clean
from fastbat_tf.errors import InputError
from fastbat_tf.evaluation import distances, table
from fastbat_tf.evaluation.intervals import confidence_interval
from fastbat_tf.evaluation.request import check_request
from fastbat_tf.evaluation.robustness import evaluate_robustness
from tests.support.toy_evaluation import as_floats, toy_data, toy_network

STEPS, EPSILONS = 6, [0.02, 0.04]


class SummaryTest(tf.test.TestCase):
    """What the results say about distances that are given."""

    def summarize(self, distance, epsilons=(0.25, 0.5)):
        distance = np.array(distance, np.float32)
        request = check_request(
            ["fgsm"],
            list(epsilons),
            norm="l2",
            max_examples=None,
            surrogate=None,
            batch_size=1,
            seed=3,
            jit_compile=False,
            directory=None,
            save_images=False,
            class_names=None,
            loss_surface=False,
            distances=100,
        )
        labels = np.zeros(len(distance), int)
        predicted = np.where(distance == 0, 1, 0)
        clean = Clean(np.zeros(0), labels, np.eye(2)[predicted])
        found = distances.Found("fab-t", distance, predicted, None, 1.25)
        results = distances.summarize(found, clean, request)
        json.dumps(results, allow_nan=False)
        return results

    def test_by_hand(self):
        row = self.summarize([0, 0.25, 1, 0.5, 0.75, np.inf, 0])
        self.assertEqual(
            {k: v for k, v in row.items() if k not in ("histogram", "radii")},
            {
                "attack": "fab-t",
                "norm": "l2",
                "examples": 7,
                "attacked": 5,
                "found": 4,
                "seconds": 1.2,
                "seed": 3,
                "median": 0.75,
                "quartiles": [0.5, 1.0],
            },
        )
        histogram = row["histogram"]
        self.assertAllClose(histogram["edges"], np.arange(21) / 20)
        counts = np.zeros(20, int)
        counts[[5, 10, 15, 19]] = 1  # The last bin has its upper edge.
        self.assertAllEqual(histogram["counts"], counts)
        # Robust at a radius are those that are further away.
        expected = np.full(21, 5 / 7)
        for place, left in ((5, 4), (10, 3), (15, 2), (20, 1)):
            expected[place:] = left / 7
        self.assertAllClose(histogram["robust_accuracy"], expected)
        self.assertEqual(
            row["radii"],
            [
                {
                    "epsilon": epsilon,
                    "robust_accuracy": left / 7,
                    "confidence_interval": confidence_interval(
                        np.arange(7) < left
                    ),
                }
                for epsilon, left in ((0.25, 4), (0.5, 3))
            ],
        )

    def test_few_are_found(self):
        row = self.summarize([0.5, np.inf, np.inf])
        self.assertIsNone(row["median"])
        self.assertEqual(row["quartiles"], [0.5, None])
        self.assertIn(
            "median distance unknown, quartiles 0.5 and unknown",
            (table.distances(row)),
        )
        self.assertIn("none was found for 2", table.distances(row))

    def test_nothing_is_found_or_right(self):
        for distance, attacked in (([np.inf, 0], 1), ([0, 0], 0)):
            row = self.summarize(distance)
            self.assertEqual((row["attacked"], row["found"]), (attacked, 0))
            self.assertIsNone(row["median"])
            self.assertEqual(
                row["histogram"],
                {"edges": [], "counts": [], "robust_accuracy": []},
            )


class EvaluationTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        temporary = self.enterContext(tempfile.TemporaryDirectory())
        self.directory = pathlib.Path(temporary)
        self.data = toy_data(30)

    def evaluate(self, network=None, **kwargs):
        return evaluate_robustness(
            network or toy_network(),
            self.data,
            f"fab-t-{STEPS}",
            EPSILONS,
            **{"distances": STEPS, "directory": self.directory, **kwargs},
        )

    def arrays(self, name="distances.npz"):
        with np.load(self.directory / name) as file:
            return dict(file)

    @parameterized.parameters("linf", "l2")
    def test_like_the_attack_and_the_function(self, norm):
        results = self.evaluate(norm=norm, save_images=True)
        (row,) = results["distances"]
        self.assertEqual(row["attack"], f"fab-t-{STEPS}")
        self.assertEqual(row["norm"], norm)
        # One search has what the attack finds at each radius.
        for at, attack in zip(row["radii"], results["attacks"], strict=True):
            for name in ("epsilon", "robust_accuracy", "confidence_interval"):
                self.assertEqual(at[name], attack[name])
        images, labels = as_floats(self.data[0]), self.data[1]
        alone = nearest_adversarial(
            toy_network(), images, labels, norm=norm, steps=STEPS
        )
        arrays = self.arrays()
        self.assertAllClose(arrays["distance"], alone.distances)
        self.assertAllEqual(arrays["adversarial_class"], alone.predictions)
        self.assertAllEqual(arrays["label"], labels)
        self.assertAllEqual(arrays["index"], np.arange(30))
        kept = self.arrays("adversarial_nearest.npz")
        self.assertAllClose(kept["images"], alone.images, atol=1e-6)
        self.assertEqual(row["attacked"], (alone.distances > 0).sum())
        saved = json.loads((self.directory / "results.json").read_text())
        self.assertEqual(saved["distances"], results["distances"])

    def test_can_be_added_later(self):
        without = self.evaluate(distances=0)
        self.assertNotIn("distances", without)
        self.assertFalse((self.directory / "distances.npz").exists())
        calls = []

        def network(images):
            calls.append(images)
            return toy_network()(images)

        added = self.evaluate(network)
        self.assertEqual(added["attacks"], without["attacks"])
        # And is not repeated.
        with mock.patch.object(distances.NearestFAB, "step") as step:
            again = self.evaluate()
        step.assert_not_called()
        self.assertEqual(again["distances"], added["distances"])
        self.assertFalse((self.directory / "adversarial_nearest.npz").exists())

    def test_the_text_that_is_shown(self):
        with contextlib.redirect_stdout(io.StringIO()) as output:
            results = self.evaluate(verbose=True)
            table.show(results)
        (row,) = results["distances"]
        self.assertRegex(
            output.getvalue(),
            rf"distances \(fab-t-6\): 24 of 24 decided, {row['found']} found, ",
        )
        self.assertRegex(
            output.getvalue(),
            r"Nearest adversarial images \(fab-t-6\): median distance "
            r"[\d.]+/255, quartiles [\d.]+/255 and [\d.]+/255, of 24 ",
        )

    @parameterized.parameters(True, -1, 2.5, "100")
    def test_refused(self, value):
        with self.assertRaisesRegex(InputError, f"Received: distances={value}"):
            self.evaluate(distances=value)
        self.assertEmpty(list(self.directory.iterdir()))

    def test_a_function_without_gradient_is_refused(self):
        def network(images):
            return np.asarray(images).reshape(len(images), -1)[:, :4]

        with self.assertRaisesRegex(InputError, "without gradient"):
            evaluate_robustness(network, self.data, "square-2", distances=3)


if __name__ == "__main__":
    tf.test.main()
