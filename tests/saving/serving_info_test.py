"""Tests what a served model says about itself."""

import json
import re

import numpy as np
from absl.testing import absltest, parameterized

import fastbat_tf
from fastbat_tf.errors import InputError
from fastbat_tf.saving.model_info import ModelInfo
from fastbat_tf.saving.serving_info import describe
from tests.support.command_line import TOP


def row(attack, robust, **changes):
    """A row of the results."""
    return {
        "attack": attack,
        "norm": "linf",
        "epsilon": 8 / 255,
        "robust_accuracy": robust,
        "confidence_interval": [robust - 0.01, robust + 0.01],
        "examples": 200,
        "attacked": 150,
        "seconds": 1.5,
        "seed": 0,
        **changes,
    }


def results(*rows, **changes):
    """Results as `evaluate_robustness` returns them."""
    return {
        "clean_accuracy": 0.75,
        "clean_confidence_interval": [0.7, 0.8],
        "examples": 200,
        "subset": None,
        "norm": "linf",
        "seed": 0,
        "attacks": list(rows),
        "worst_case": [],
        "warnings": [],
        "notes": [],
        **changes,
    }


def info(*rows, **changes):
    """The info of a robust training with these results."""
    return ModelInfo(
        "mine",
        method="fastbat",
        norm="linf",
        epsilon=8 / 255,
        results=results(*rows, **changes),
    )


class DescribeTest(parameterized.TestCase):
    def test_a_training_without_a_radius(self):
        """The radius is that of the measurement."""
        measured = results(row("pgd-10-1", 0.0))
        told = describe(ModelInfo(method="standard", results=measured), None)
        self.assertEqual(told["robust_accuracy"], 0.0)
        self.assertEqual((told["norm"], told["epsilon"]), (b"linf", 8 / 255))

    def assert_described(self, description, **expected):
        for name, value in expected.items():
            actual = description[name].tolist()
            self.assertEqual(actual, value, name)

    def test_unknown(self):
        described = describe(ModelInfo(), 10)
        types = {name: array.dtype for name, array in described.items()}
        self.assertEqual(
            types,
            {
                "class_names": object,
                "method": object,
                "norm": object,
                "epsilon": np.float64,
                "clean_accuracy": np.float64,
                "robust_accuracy": np.float64,
                "attacks": object,
                "examples": np.int64,
                "version": object,
                "measured": object,
            },
        )
        self.assert_described(
            described,
            class_names=[],
            method=b"",
            norm=b"",
            epsilon=-1.0,
            clean_accuracy=-1.0,
            robust_accuracy=-1.0,
            attacks=[],
            examples=-1,
            version=fastbat_tf.__version__.encode(),
            measured=b"{}",
        )

    def test_page(self):
        """docs/serving.md describes each output, and its type."""
        page = (TOP / "docs/serving.md").read_text()
        table = page.split("| output | type, shape | |")[1].split("\n\n")[0]
        documented = {}
        for names, kind in re.findall(r"(?m)^\| (`.*?) \| (.*?) \|", table):
            names = re.findall(r"`(\w+)`", names)
            types = re.findall("string|float64|int64", kind)
            documented |= zip(names, types * len(names), strict=False)
        actual = {
            name: "string" if array.dtype == object else array.dtype.name
            for name, array in describe(ModelInfo(), 10).items()
        }
        self.assertEqual(documented, actual)

    def test_not_measured(self):
        known = ModelInfo("x", method="pgd", norm="l2", epsilon=0.5)
        self.assert_described(
            describe(known, 10), norm=b"l2", epsilon=0.5, robust_accuracy=-1.0
        )

    def test_lowest_of_the_same_examples(self):
        known = info(row("fgsm", 0.6), row("pgd-50-10", 0.5))
        self.assert_described(
            describe(known, 10),
            robust_accuracy=0.5,
            attacks=[b"pgd-50-10"],
            clean_accuracy=0.75,
            examples=200,
        )

    def test_together(self):
        joint = row("worst case", 0.48, attacks=["fgsm", "pgd-50-10"])
        rows = row("fgsm", 0.6), row("pgd-50-10", 0.5)
        self.assert_described(
            describe(info(*rows, worst_case=[joint]), 10),
            robust_accuracy=0.48,
            attacks=[b"fgsm", b"pgd-50-10"],
        )

    def test_other_examples_and_radii_are_not_mixed(self):
        """The clean accuracy is that of the examples that were attacked."""
        known = info(
            row("pgd-50-10", 0.1, epsilon=16 / 255),
            row("pgd-50-10", 0.2, norm="l2"),
            row("pgd-50-10", 0.3, examples=20, attacked=19),
            row("fgsm", 0.55, examples=10_000, attacked=7_900),
        )
        self.assert_described(
            describe(known, 10),
            robust_accuracy=0.55,
            attacks=[b"fgsm"],
            clean_accuracy=0.79,
            examples=10_000,
            epsilon=8 / 255,
            norm=b"linf",
        )

    def test_earlier_results(self):
        """Rows without the number of attacked examples."""
        old = row("fgsm", 0.6)
        del old["attacked"]
        self.assert_described(describe(info(old), 10), clean_accuracy=0.75)
        old["examples"] = 100
        self.assert_described(describe(info(old), 10), clean_accuracy=-1.0)

    def test_only_at_another_radius(self):
        known = info(row("fgsm", 0.6, epsilon=2 / 255))
        self.assert_described(
            describe(known, 10),
            robust_accuracy=-1.0,
            attacks=[],
            clean_accuracy=0.75,
            examples=200,
            epsilon=8 / 255,
        )

    def test_measured(self):
        known = info(
            row("fgsm", 0.6, outcomes="evaluations/1/outcomes.npz"),
            warnings=["weak"],
            notes=["clipped"],
            model="/home/me/model.keras",
            data={"data_dir": "/home/me"},
        )
        described = describe(known, 10)["measured"].item()
        measured = json.loads(described, parse_constant=self.fail)
        self.assertEqual(measured["warnings"], ["weak"])
        self.assertEqual(measured["notes"], ["clipped"])
        (kept,) = measured["attacks"]
        self.assertEqual(kept, row("fgsm", 0.6))
        self.assertNotIn(b"/", described)
        # What was given is unchanged.
        self.assertIn("outcomes", known.results["attacks"][0])

    def test_numbers_that_json_cannot_hold(self):
        known = info(row("fgsm", float("nan")), clean_accuracy=float("inf"))
        described = describe(known, 10)
        self.assert_described(described, robust_accuracy=-1.0)
        measured = json.loads(described["measured"].item())
        self.assertIsNone(measured["clean_accuracy"])

    def test_doubts(self):
        known = ModelInfo("x", results=results(), doubts=("other weights",))
        measured = json.loads(describe(known, 10)["measured"].item())
        self.assertEqual(measured["doubts"], ["other weights"])

    def test_class_names(self):
        names = "caf\u00e9", "\u732b", "\udcff"  # The last is no UTF-8.
        described = describe(ModelInfo("x", class_names=names), 3)
        texts = [name.decode() for name in described["class_names"]]
        self.assertEqual(texts, ["caf\u00e9", "\u732b", "?"])
        self.assertLen(describe(ModelInfo("x", class_names=names), None), 10)
        with self.assertRaisesRegex(InputError, "Received: class_names="):
            describe(ModelInfo("x", class_names=names), 10)


if __name__ == "__main__":
    absltest.main()
