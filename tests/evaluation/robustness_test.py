"""Tests the measurement of clean and robust accuracy."""

import contextlib
import io
import json
import pathlib
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import attacks
from fastbat_tf.attacks.models import logits_of
from fastbat_tf.evaluation import robustness, runner
from fastbat_tf.evaluation.results import confidence_interval
from fastbat_tf.evaluation.robustness import evaluate_robustness
from tests.support.testing import images_and_labels
from tests.support.toy_evaluation import (
    PIXELS,
    as_floats,
    toy_data,
    toy_network,
)

ATTACKS = ("fgsm", "apgd-ce-3+square-20")
EPSILONS = (0.01, 0.04)
ROW = {
    "attack",
    "norm",
    "epsilon",
    "robust_accuracy",
    "confidence_interval",
    "examples",
    "attacked",
    "seconds",
    "seed",
}
CLASSES = {"per_class", "worst_class"}  # Not of stages.


def without_seconds(results):
    """The results without what differs between two runs."""
    if isinstance(results, list):
        return [without_seconds(part) for part in results]
    if isinstance(results, dict):
        return {
            name: without_seconds(part)
            for name, part in results.items()
            if name != "seconds"
        }
    return results


class ResultsTest(tf.test.TestCase):
    """Two attacks, one of them with two stages, at two radii."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.network = staticmethod(toy_network())
        images, cls.labels = toy_data(40)
        cls.images = as_floats(images)
        cls.results = cls.evaluate()
        # The attacks without an evaluation, in the order of the rows.
        cls.direct = [
            attacks.get(name, cls.network)(
                cls.images, cls.labels, epsilon, seed=5
            ).robust
            for epsilon in EPSILONS
            for name in ATTACKS
        ]

    @classmethod
    def evaluate(cls, **kwargs):
        arguments = {"attacks": ATTACKS, "epsilons": EPSILONS, "seed": 5}
        return evaluate_robustness(
            cls.network, (cls.images, cls.labels), **{**arguments, **kwargs}
        )

    def test_top(self):
        rows = {"attacks", "worst_case"}
        self.assertEqual(
            {n: v for n, v in self.results.items() if n not in rows},
            {
                "clean_accuracy": 32 / 40,
                "clean_confidence_interval": confidence_interval(
                    np.arange(40) < 32
                ),
                "examples": 40,
                "subset": None,
                "norm": "linf",
                "seed": 5,
                "warnings": [],
                "notes": [],
            },
        )

    def test_rows(self):
        rows = self.results["attacks"]
        self.assertEqual(
            [(row["attack"], row["epsilon"]) for row in rows],
            [(name, epsilon) for epsilon in EPSILONS for name in ATTACKS],
        )
        for row, robust in zip(rows, self.direct, strict=True):
            self.assertEqual(set(row) - {"stages"}, ROW | CLASSES)
            self.assertEqual(row["robust_accuracy"], robust.mean())
            self.assertEqual(
                row["confidence_interval"], confidence_interval(robust)
            )
            self.assertEqual(row["norm"], "linf")
            self.assertEqual(row["examples"], 40)
            self.assertEqual(row["attacked"], 32)
            self.assertGreaterEqual(row["seconds"], 0)
            self.assertEqual(row["seed"], 5)
        # The radii are informative.
        accuracies = [row["robust_accuracy"] for row in rows]
        self.assertBetween(accuracies[0], 0.2, 0.75)
        self.assertLess(accuracies[2], accuracies[0])
        self.assertGreater(accuracies[3], 0)

    def test_stages(self):
        for row in self.results["attacks"]:
            if row["attack"] == "fgsm":
                self.assertNotIn("stages", row)
                continue
            first, last = row["stages"]
            self.assertEqual(set(first), ROW)
            alone = attacks.get("apgd-ce-3", self.network)(
                self.images, self.labels, row["epsilon"], seed=5
            ).robust
            self.assertEqual(first["attack"], "apgd-ce-3")
            self.assertEqual(first["attacked"], 32)
            self.assertEqual(first["robust_accuracy"], alone.mean())
            self.assertEqual(last["attack"], "square-20")
            # It runs on what the first one left.
            self.assertEqual(last["attacked"], alone.sum())
            for name in ("robust_accuracy", "confidence_interval"):
                self.assertEqual(last[name], row[name])
            self.assertAlmostEqual(
                row["seconds"], first["seconds"] + last["seconds"], delta=0.11
            )

    def test_worst_case(self):
        worst_case = self.results["worst_case"]
        for number, (row, epsilon) in enumerate(
            zip(worst_case, EPSILONS, strict=True)
        ):
            self.assertEqual(set(row), ROW | CLASSES | {"attacks"})
            self.assertEqual(row["attack"], "worst case")
            self.assertLen(row["attacks"], 2)
            self.assertEqual(row["epsilon"], epsilon)
            self.assertEqual(row["attacked"], 32)
            first, second = self.direct[2 * number : 2 * number + 2]
            both = first & second
            self.assertEqual(row["robust_accuracy"], both.mean())
            self.assertEqual(
                row["confidence_interval"], confidence_interval(both)
            )
        single = self.evaluate(attacks=["fgsm"])
        self.assertEqual(single["worst_case"], [])

    def test_worst_case_is_below_each(self):
        """Each of the two attacks breaks what the other does not."""
        answers = iter(
            [
                np.array([True] * 10 + [False] * 30),
                np.array([False] * 5 + [True] * 10 + [False] * 25),
            ]
        )

        def run(name, *_, **__):
            return runner.AttackOutcome(
                name, True, next(answers), 1.0, (), None
            )

        with mock.patch.object(robustness, "run_attack", run):
            results = self.evaluate(epsilons=[0.1])
        accuracies = [row["robust_accuracy"] for row in results["attacks"]]
        self.assertEqual(accuracies, [0.25, 0.25])
        self.assertEqual(results["worst_case"][0]["robust_accuracy"], 5 / 40)
        self.assertEqual(results["worst_case"][0]["seconds"], 2.0)

    def test_json(self):
        text = json.dumps(self.results)
        self.assertEqual(json.loads(text), self.results)
        epsilons = np.array([0.25, 0.5], np.float32)
        results = self.evaluate(attacks=["fgsm"], epsilons=epsilons)
        rows = json.loads(json.dumps(results))["attacks"]
        self.assertEqual([row["epsilon"] for row in rows], [0.25, 0.5])

    def test_batch_size_changes_nothing(self):
        results = self.evaluate(batch_size=7)
        self.assertEqual(
            without_seconds(results), without_seconds(self.results)
        )

    def test_seed(self):
        """The accuracy may not depend on the seed, but the images do."""
        directory = pathlib.Path(self.get_temp_dir(), "seed")
        self.evaluate(
            attacks=["pgd-2-1"],
            epsilons=[0.01],
            directory=directory,
            save_images=True,
        )
        (path,) = directory.glob("adversarial_*.npz")
        with np.load(path) as file:
            found = file["images"]
        attack = attacks.get("pgd-2-1", self.network)
        five, zero = (
            self.images
            + attack(self.images, self.labels, 0.01, seed).perturbation
            for seed in (5, 0)
        )
        self.assertAllClose(found, five, atol=1e-6)
        self.assertNotAllClose(found, zero, atol=1e-4)

    def test_l2(self):
        results = self.evaluate(norm="l2", epsilons=[0.1, 2.0])
        self.assertEqual(results["norm"], "l2")
        for row in results["attacks"]:
            self.assertEqual(row["norm"], "l2")
            robust = attacks.get(row["attack"], self.network, norm="l2")(
                self.images, self.labels, row["epsilon"], seed=5
            ).robust
            self.assertEqual(row["robust_accuracy"], robust.mean())

    def test_files(self):
        directory = pathlib.Path(self.get_temp_dir(), "files")
        results = self.evaluate(
            directory=directory, save_images=True, max_examples=16
        )
        written = json.loads((directory / "results.json").read_text())
        self.assertEqual(written, results)
        with np.load(directory / "outcomes.npz") as file:
            outcomes = dict(file)
        index = outcomes["index"]
        self.assertAllEqual(outcomes["label"], self.labels[index])
        self.assertAllEqual(outcomes["clean_correct"], index % 5 != 0)
        self.assertAllEqual(outcomes["attack"], ATTACKS * 2)
        self.assertAllEqual(outcomes["epsilon"], np.repeat(EPSILONS, 2))
        self.assertAllEqual(
            outcomes["robust"].mean(axis=1),
            [row["robust_accuracy"] for row in results["attacks"]],
        )
        clean = self.images[index]
        for row, robust in zip(
            results["attacks"], outcomes["robust"], strict=True
        ):
            name = f"adversarial_{row['attack']}-{row['epsilon']:.8g}.npz"
            with np.load(directory / name) as file:
                found = dict(file)
            self.assertAllEqual(found["index"], index)
            self.assertAllEqual(found["label"], self.labels[index])
            self.assertAllEqual(found["robust"], robust)
            self.assertAllInRange(found["images"], 0.0, 1.0)
            size = np.abs(found["images"] - clean).max(axis=(1, 2, 3))
            self.assertAllLessEqual(size, row["epsilon"] + 1e-6)
            answers = self.network(found["images"]).numpy().argmax(axis=-1)
            # The saved images give the accuracy of the table.
            self.assertAllEqual(answers == self.labels[index], robust)
        others = self.evaluate(directory=directory.with_name("without"))
        self.assertLen(others["attacks"], 4)
        names = {p.name for p in directory.with_name("without").iterdir()}
        arrays = {"outcomes.npz", "gallery.npz"}
        self.assertEqual(
            names, {"results.json", "settings.json", "state"} | arrays
        )

    def test_says_how_far_it_is(self):
        for verbose in (False, True):
            said = io.StringIO()
            with (
                contextlib.redirect_stdout(said),
                mock.patch.object(runner, "SECONDS_BETWEEN_LINES", -1),
            ):
                self.evaluate(
                    attacks=["pgd-2-3"], epsilons=[0.01], verbose=verbose
                )
            lines = said.getvalue().splitlines()
            if not verbose:
                self.assertEqual(lines, [])
        for line in lines:
            self.assertRegex(
                line,
                r"^pgd-2-3, epsilon 0\.01: \d+ of 32 decided, "
                r"\d+ robust, \d+ s$",
            )
        done = [int(line.split()[3]) for line in lines]
        self.assertEqual(done, sorted(done))
        self.assertEqual(done[-1], 32)
        self.assertGreater(len(set(done)), 1)


class NetworksTest(tf.test.TestCase):
    def test_what_is_known_exactly(self):
        """For two linear classes, one gradient step is the worst case."""
        network = toy_network(classes=2)
        images, labels = toy_data(200, network)
        results = evaluate_robustness(
            network,
            (images, labels),
            attacks=["fgsm", "apgd-dlr-5"],
            epsilons=[0.005, 0.02],
        )
        pixels = as_floats(images).reshape(-1, PIXELS)
        # The weights, from the logits of unit vectors.
        logits = network(np.eye(PIXELS, dtype="float32")).numpy()
        logits -= network(np.zeros((1, PIXELS), "float32")).numpy()
        weights = logits[:, 1] - logits[:, 0]
        sign = np.where(labels == 1, 1, -1)[:, np.newaxis]
        offset = network(np.zeros((1, PIXELS), "float32")).numpy()[0]
        for row in results["attacks"]:
            worst = np.clip(
                pixels - row["epsilon"] * sign * np.sign(weights), 0, 1
            )
            margin = worst @ weights + offset[1] - offset[0]
            robust = (sign[:, 0] * margin > 0).mean()
            self.assertAlmostEqual(row["robust_accuracy"], robust)
            self.assertBetween(robust, 0.05, 0.75)
        self.assertEqual(
            results["notes"],
            [
                "The images are uint8: pixels were divided by 255.",
                "The loss dlr needs 3 classes and the model has 2: the "
                "difference of the logits replaces it.",
            ],
        )

    def test_inference_mode(self):
        keras.utils.set_random_seed(3)
        model = keras.Sequential(
            [
                keras.Input((4, 4, 3)),
                keras.layers.Flatten(),
                keras.layers.BatchNormalization(momentum=0.5),
                keras.layers.Dropout(0.9),
                keras.layers.Dense(3),
            ]
        )
        # Statistics far from those of any batch.
        model.layers[1].moving_mean.assign(tf.linspace(0.0, 1.0, 48))
        model.layers[1].moving_variance.assign(tf.linspace(0.1, 4.0, 48))
        images, _ = images_and_labels(30, size=4)
        labels = np.argmax(model(images), axis=-1)
        before = [weight.numpy() for weight in model.weights]
        first, again = (
            evaluate_robustness(model, (images, labels), ["pgd-5-2"], [0.02])
            for _ in range(2)
        )
        # The moving statistics are unchanged.
        self.assertLen(before, 6)
        for old, new in zip(before, model.weights, strict=True):
            self.assertAllEqual(old, new.numpy())
        # No dropout: the same numbers twice, and all correct.
        self.assertEqual(without_seconds(first), without_seconds(again))
        self.assertEqual(first["clean_accuracy"], 1.0)
        self.assertNotIn("deterministic", " ".join(first["warnings"]))
        self.assertAllEqual(
            logits_of(model)(images), model(images, training=False)
        )
        # Training mode would change them.
        model(images, training=True)
        self.assertNotAllEqual(model.layers[1].moving_mean, before[2])


class ConfidenceIntervalTest(parameterized.TestCase):
    # From tables of Wilson's interval.
    @parameterized.parameters(
        (50, 100, 0.4038, 0.5962),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (1, 10, 0.0179, 0.4042),
        (450, 1000, 0.4194, 0.4810),
        (0, 1, 0.0, 0.7935),
    )
    def test_wilson(self, successes, count, low, high):
        bounds = confidence_interval(np.arange(count) < successes)
        self.assertIsInstance(bounds, list)
        self.assertAlmostEqual(bounds[0], low, 4)
        self.assertAlmostEqual(bounds[1], high, 4)

    @parameterized.parameters(1, 2, 7, 50, 1000, 10_000)
    def test_the_formula(self, count):
        z = 1.959963984540054
        for successes in {0, 1, count // 3, count - 1, count}:
            share = successes / count
            center = (share + z**2 / (2 * count)) / (1 + z**2 / count)
            half = z / (1 + z**2 / count)
            half *= (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5
            bounds = confidence_interval(np.arange(count) < successes)
            self.assertAlmostEqual(bounds[0], center - half, 12)
            self.assertAlmostEqual(bounds[1], center + half, 12)


if __name__ == "__main__":
    tf.test.main()
