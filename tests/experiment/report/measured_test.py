"""Tests of what is joined, and of what is quoted."""

import pathlib
import tempfile

from absl.testing import absltest, parameterized

from fastbat_tf.experiment.report import curves, doubts, measured, record
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


if __name__ == "__main__":
    absltest.main()
