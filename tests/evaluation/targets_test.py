"""Tests evaluations with attacks toward a class."""

import contextlib
import io
import json
import pathlib

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import attacks
from fastbat_tf.errors import InputError
from fastbat_tf.evaluation import checks, table
from fastbat_tf.evaluation.results import confidence_interval
from fastbat_tf.evaluation.robustness import evaluate_robustness
from fastbat_tf.evaluation.runner import AttackOutcome, Reached
from tests.support.toy_evaluation import (
    CLASSES,
    as_floats,
    toy_data,
    toy_network,
)

NAME = "pgd-5-2-target-1"
EPSILON = 0.05


def printed(results):
    """What a person sees of results."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        table.show(results)
    return text.getvalue()


class EvaluationTest(parameterized.TestCase, tf.test.TestCase):
    def evaluate(self, names=(NAME,), data=None, directory=None, **kwargs):
        return evaluate_robustness(
            toy_network(),
            data or toy_data(),
            list(names),
            EPSILON,
            directory=directory,
            **kwargs,
        )

    def test_a_row(self):
        """The rate of success, and accuracy, as the attack alone finds them."""
        images, labels = toy_data()
        directory = pathlib.Path(self.get_temp_dir(), "row")
        results = self.evaluate((NAME, "pgd-5-2"), directory=directory)
        row, untargeted = results["attacks"]
        found = attacks.PGD(EPSILON, 5, 2, target=1)(
            toy_network(), images, labels
        )
        clean = np.argmax(toy_network()(as_floats(images)), -1) == labels
        attacked = clean & (labels != 1)
        reached = (found.predictions == 1)[attacked]
        self.assertBetween(reached.mean(), 0.05, 0.95)
        self.assertEqual(row["target"], 1)
        self.assertEqual(row["attacked"], clean.sum())
        self.assertEqual(row["target_examples"], attacked.sum())
        self.assertEqual(row["target_success_rate"], reached.mean())
        self.assertEqual(
            row["target_confidence_interval"], confidence_interval(reached)
        )
        right = clean & (found.predictions == labels)
        self.assertEqual(row["robust_accuracy"], right.mean())
        # Toward any class, at least as many break.
        self.assertLessEqual(
            untargeted["robust_accuracy"], row["robust_accuracy"]
        )
        self.assertNotIn("target", untargeted)
        with np.load(directory / "outcomes.npz") as file:
            self.assertAllEqual(file["robust"][0], right)
            self.assertAllEqual(
                file["adversarial_class"][0][attacked] == 1, reached
            )
            together = file["robust"].all(axis=0).mean()
        (worst,) = results["worst_case"]
        self.assertEqual(worst["robust_accuracy"], together)
        self.assertLen([n for n in results["notes"] if NAME in n], 1)
        written = json.loads((directory / "results.json").read_text())
        self.assertEqual(written, results)
        # The same call reads what is there.
        again = self.evaluate((NAME, "pgd-5-2"), directory=directory)
        self.assertEqual(again, results)

    def test_all_are_of_the_target(self):
        images, labels = toy_data()
        kept = labels == 1
        data = images[kept], labels[kept]
        results = self.evaluate(data=data)
        (row,) = results["attacks"]
        self.assertEqual(row["robust_accuracy"], results["clean_accuracy"])
        self.assertEqual(row["target_examples"], 0)
        self.assertIsNone(row["target_success_rate"])
        self.assertIsNone(row["target_confidence_interval"])
        self.assertIn("none attacked", printed(results))

    def test_the_table(self):
        results = self.evaluate()
        (row,) = results["attacks"]
        rate = f"{row['target_success_rate']:.2%}"
        found = printed(results)
        self.assertRegex(found, rf"(?m)^{NAME} .*\n  predicted as 1 +{rate} ")

    def test_adversarial_images(self):
        directory = pathlib.Path(self.get_temp_dir(), "images")
        self.evaluate(directory=directory, save_images=True)
        images, labels = toy_data()
        found = attacks.PGD(EPSILON, 5, 2, target=1)(
            toy_network(), images, labels
        )
        path = directory / f"adversarial_{NAME}-{EPSILON:.8g}.npz"
        with np.load(path) as file:
            self.assertAllClose(file["images"], found.images, atol=1e-6)
            self.assertAllEqual(file["robust"], found.robust)

    @parameterized.parameters(NAME, "transfer-fgsm-target-1")
    def test_a_class_that_is_none(self, name):
        name = name.replace("-1", "-4").replace("5-2", "5-1")
        directory = pathlib.Path(self.get_temp_dir(), name)
        surrogate = toy_network(seed=1) if "transfer" in name else None
        with self.assertRaisesRegex(
            InputError, rf"in \[0, {CLASSES}\).* attack={name}$"
        ):
            self.evaluate([name], directory=directory, surrogate=surrogate)
        self.assertFalse(directory.exists())


class ChecksTest(tf.test.TestCase):
    def outcome(self, name, robust, target=None):
        robust = np.asarray(robust)
        reached = None
        if target is not None:
            reached = Reached(target, np.ones_like(robust), ~robust)
        white_box = not name.startswith("square")
        return AttackOutcome(name, white_box, robust, 1.0, reached=reached)

    def test_what_misses_the_nearest_class_is_no_sign(self):
        """A black box breaks more than an attack toward a class, and so does
        AutoAttack."""
        weak, strong = np.arange(100) < 90, np.arange(100) < 40
        for name in ("square", "autoattack"):
            others = [self.outcome(name, strong)]
            found = checks.check_outcomes(
                [self.outcome(NAME, weak, target=1), *others]
            )
            self.assertEmpty(found)
            # Without a target it would be one.
            found = checks.check_outcomes(
                [self.outcome("pgd-5-2", weak), *others]
            )
            self.assertLen(found, 1)

    def test_is_no_ensemble(self):
        from fastbat_tf.attacks.ensembles import is_ensemble

        self.assertFalse(is_ensemble(["apgd-t-target-99", "square"]))
        self.assertTrue(is_ensemble(["apgd-t-99", "square"]))


if __name__ == "__main__":
    tf.test.main()
