"""Tests the accuracies by class in the results of an evaluation."""

import json
import pathlib
import tempfile

import numpy as np
import tensorflow as tf

from fastbat_tf.attacks.records import Clean
from fastbat_tf.evaluation.class_accuracy import by_class
from fastbat_tf.evaluation.intervals import confidence_interval
from fastbat_tf.evaluation.robustness import evaluate_robustness
from tests.support.toy_evaluation import toy_data, toy_network

NAMES = ["cat", "dog", "eel", "fox"]
EPSILONS = (0.01, 0.04)
ATTACKS = ("fgsm", "apgd-ce-3+square-20")


class ByClassTest(tf.test.TestCase):
    def classes_of(self, labels, correct, robust, classes=3, **kwargs):
        labels = np.array(labels)
        predicted = np.where(correct, labels, (labels + 1) % classes)
        clean = Clean(np.zeros(0), labels, np.eye(classes)[predicted])
        return by_class(np.array(robust, bool), clean, **kwargs)

    def test_by_hand(self):
        found = self.classes_of(
            [0, 0, 0, 0, 2, 2],
            [1, 1, 1, 0, 1, 0],
            [1, 1, 0, 0, 1, 0],
            class_names=["a", "b", "c"],
        )
        self.assertEqual(
            found["per_class"],
            {
                "examples": [4, 0, 2],
                "clean_accuracy": [0.75, None, 0.5],
                "robust_accuracy": [0.5, None, 0.5],
            },
        )
        # Of two equal ones, the first.
        self.assertEqual(
            found["worst_class"],
            {
                "label": 0,
                "name": "a",
                "examples": 4,
                "clean_accuracy": 0.75,
                "robust_accuracy": 0.5,
                "confidence_interval": confidence_interval([1, 1, 0, 0]),
            },
        )

    def test_a_class_without_images_is_not_the_worst(self):
        found = self.classes_of([1, 2, 2], [1, 1, 1], [1, 1, 0])
        self.assertEqual(found["worst_class"]["label"], 2)
        self.assertNotIn("name", found["worst_class"])
        self.assertEqual(found["per_class"]["robust_accuracy"], [None, 1, 0.5])
        json.dumps(found, allow_nan=False)


class EvaluationTest(tf.test.TestCase):
    def test_rows_like_the_outcomes_of_the_examples(self):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        results = evaluate_robustness(
            toy_network(),
            toy_data(60),
            ATTACKS,
            EPSILONS,
            class_names=NAMES,
            directory=directory,
        )
        with np.load(pathlib.Path(directory, "outcomes.npz")) as file:
            outcomes = dict(file)
        label = outcomes["label"]
        robust = [*outcomes["robust"]]
        joint = [a & b for a, b in zip(robust[::2], robust[1::2], strict=True)]
        rows = [*results["attacks"], *results["worst_case"]]
        self.assertLen(rows, 6)
        for row, outcome in zip(rows, [*robust, *joint], strict=True):
            shares = [outcome[label == k].mean() for k in range(4)]
            cleans = [
                outcomes["clean_correct"][label == k].mean() for k in range(4)
            ]
            found, worst = row["per_class"], row["worst_class"]
            self.assertAllClose(found["robust_accuracy"], shares)
            self.assertAllClose(found["clean_accuracy"], cleans)
            self.assertEqual(found["examples"], np.bincount(label).tolist())
            k = worst["label"]
            self.assertEqual(worst["robust_accuracy"], min(shares))
            self.assertEqual(worst["name"], NAMES[k])
            self.assertEqual(
                worst["confidence_interval"],
                confidence_interval(outcome[label == k]),
            )
            # Weighted by the counts, it is the accuracy of the row.
            mean = np.average(
                found["robust_accuracy"], weights=found["examples"]
            )
            self.assertAlmostEqual(mean, row["robust_accuracy"])
        # The classes differ, or this would show nothing.
        self.assertGreater(len(set(rows[0]["per_class"]["robust_accuracy"])), 1)
        for row in results["attacks"]:
            for stage in row.get("stages", []):
                self.assertNotIn("per_class", stage)
        saved = json.loads(pathlib.Path(directory, "results.json").read_text())
        self.assertEqual(saved["attacks"], results["attacks"])


if __name__ == "__main__":
    tf.test.main()
