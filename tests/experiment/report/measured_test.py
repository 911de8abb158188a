"""Tests of what is joined, and of what is quoted."""

import math
import pathlib
import tempfile

import numpy as np
from absl.testing import absltest, parameterized

from fastbat_tf.experiment.report import (
    charts,
    curves,
    doubts,
    measured,
    quotable,
    radii,
    record,
)
from fastbat_tf.experiment.report.blocks import Text
from tests.support import written_runs


class MeasuredTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(directory) / "run"

    def read(self):
        return record.read([self.path])

    def doubts(self):
        unit = self.read()
        return "\n".join(doubts.doubts(unit, measured.quoted(unit)))

    @parameterized.parameters(
        ("autoattack", True),
        ("apgd-ce+square", True),
        ("apgd-ce-100+square-5000", True),
        ("apgd-ce-5+square-20", False),
        ("apgd-ce", False),
        ("square", False),
        ("pgd-50-10", False),
    )
    def test_ensembles(self, attack, expected):
        written_runs.write_run(self.path, attacks=(attack,), examples=1000)
        (one,) = measured.quoted(self.read())
        self.assertEqual(one.is_ensemble, expected)
        self.assertEqual(
            "papers report autoattack" in self.doubts(), not expected
        )

    def test_evaluations_of_the_same_images_are_joined(self):
        written_runs.write_run(self.path, attacks=("fgsm",))
        written_runs.measure(self.path, "more", attacks=("apgd-ce",))
        written_runs.measure(
            self.path, "other", attacks=("square",), examples=100
        )
        found = measured.at_each_radius(self.read()[0])
        attacks = [one.attacks for one in found]
        self.assertCountEqual(attacks, [("fgsm", "apgd-ce"), ("square",)])

    def test_without_arrays_the_lowest_result_counts(self):
        written_runs.write_run(self.path, attacks=("fgsm", "pgd-10-1"))
        for path in self.path.glob("evaluations/*/outcomes.npz"):
            path.unlink()
        (record_,) = self.read()
        (one,) = measured.at_each_radius(record_)
        (row,) = record_.results["worst_case"]
        self.assertEqual(one.robust_accuracy, row["robust_accuracy"])
        self.assertEqual(one.clean_accuracy, record_.results["clean_accuracy"])

    def test_another_radius_than_that_of_the_training(self):
        written_runs.write_run(self.path, epsilons=(2 / 255,))
        self.assertIn("trained for L∞ epsilon 8/255", self.doubts())

    def test_a_seed_that_failed(self):
        """The others are quoted, and the page says which one is missing."""
        written_runs.write_seeds(self.path, seeds=(0, 1, 2))
        (self.path / "seed-0" / "results.json").unlink()
        (self.path / "seed-0" / "ended.json").unlink()
        records = self.read()
        texts = [
            (block.kind, block.text)
            for block in quotable.blocks(records)
            if isinstance(block, Text)
        ]
        (quote,) = [text for kind, text in texts if kind == "quote"]
        self.assertIn("over 2 seeds", quote)
        self.assertIn("seeds 1, 2)", quote)
        self.assertStartsWith(
            texts[1][1], "run/seed-0: The run has not ended: it has made 4 of 4"
        )
        with charts.style():
            *_, table = radii.blocks(records)
        self.assertRegex(table.rows[-1][1], r"^\d+\.\d\d% ± \d+\.\d\d$")

    def test_epochs_of_a_method_that_replays_batches(self):
        written_runs.write_run(
            self.path, "free", options={"replays": 4}, unfinished=True
        )
        self.assertIn("it has made 4 of 1 epochs", self.doubts())

    def test_weights_that_have_changed(self):
        written_runs.write_run(self.path)
        (self.path / "checkpoints" / "best.weights.h5").write_text("other")
        self.assertIn("other weights than the best ones", self.doubts())

    def test_masked_gradients(self):
        written_runs.write_run(
            self.path,
            attacks=("apgd-ce", "fgsm"),
            epsilons=(8 / 255, 64 / 255),
            robustness=100.0,
        )
        unit = self.read()
        signs = curves.signs_of_masking(unit, curves.of(unit))
        self.assertLen(signs, 1)  # FGSM is none at a large radius.
        self.assertRegex(signs[0], "^apgd-ce leaves .* at 64/255")
        self.assertIn(signs[0], self.doubts())

    @parameterized.parameters((32, 100.0), (64, 1.0))
    def test_no_masked_gradients(self, level, robustness):
        """The radius is too small to tell, or nothing is left."""
        written_runs.write_run(
            self.path, epsilons=(level / 255,), robustness=robustness
        )
        unit = self.read()
        self.assertEqual(curves.signs_of_masking(unit, curves.of(unit)), [])

    def test_radii_are_not_joined_over_images(self):
        written_runs.write_run(self.path, attacks=("fgsm",))
        written_runs.measure(
            self.path, "more", attacks=("fgsm",), epsilons=(0.1,), seed=1
        )
        found = curves.of(self.read())
        self.assertEqual([len(curve.epsilons) for curve in found], [1, 1])

    def test_names_of_many_radii_do_not_overlap(self):
        sweep = [1.6 * k / 255 for k in range(1, 41)]
        for scale in (float, math.log):
            places = [scale(e) for e in radii.apart(sweep, scale)]
            least = (scale(sweep[-1]) - scale(sweep[0])) / radii.MOST_TICKS
            self.assertGreater(np.diff(places).min(), 0.98 * least)
            self.assertEqual(places[-1], scale(sweep[-1]))
            self.assertGreater(len(places), 4)
        doubled = [2.0**k for k in range(7)]
        self.assertEqual(radii.apart(doubled, math.log), doubled)


if __name__ == "__main__":
    absltest.main()
