"""Tests of the loss surface of a report."""

import pathlib
import tempfile

import numpy as np
from absl.testing import absltest, parameterized

from fastbat_tf.experiment.report import charts, record, surface
from fastbat_tf.experiment.report.blocks import Picture
from tests.support import written_runs

STEPS = np.linspace(-1, 1, 21)
ROWS, COLUMNS = np.meshgrid(STEPS, STEPS, indexing="ij")


class SurfaceTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.enterContext(charts.style())
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.run_dir = pathlib.Path(directory) / "run"

    def write(self, loss, predicted=None, **options):
        written_runs.write_evaluation(self.run_dir, **options)
        if predicted is None:
            predicted = np.where(ROWS > 0.5, 5, 3)
        np.savez(
            self.run_dir / "surface.npz",
            loss=np.float32(loss),
            predicted=np.int32(predicted),
            steps=STEPS,
            index=17,
            label=3,
            epsilon=8 / 255,
            norm="linf",
        )

    def blocks(self):
        return surface.blocks(record.read([self.run_dir]))

    @parameterized.parameters(np.nan, np.inf)
    def test_no_loss_is_finite(self, value):
        self.write(value + 0 * ROWS, predicted=0 * ROWS - 1)
        text, note, table = self.blocks()
        self.assertStartsWith(text.text, "Not known: the loss around test ")
        self.assertIn("at 441 of 441 points", note.text)
        cells = {row[1:] for row in table.rows[1:]}
        self.assertEqual(cells, {("not finite", "no class")})

    def test_the_image_alone_is_not_finite(self):
        loss = 1 + ROWS
        loss[10, 10] = np.inf
        self.write(loss)
        *_, table = self.blocks()
        self.assertEqual(table.rows[1], ("the image", "not finite", "cat"))
        self.assertEqual(table.rows[6][:2], ("highest loss", "2.000"))
        self.write(np.where(loss > 5, loss, 2.0))
        self.assertIn("within epsilon: 2. An", self.blocks()[0].text)

    def test_a_plane(self):
        self.write(1 + ROWS + 0.25 * COLUMNS)
        text, picture, table = self.blocks()
        self.assertEqual(
            text.text,
            "Yes, and close to linear: around test image 17, a plane explains "
            "100.00% of the variance of the loss within epsilon. 76.19% of the "
            "points are classified correctly.",
        )
        self.assertEqual(
            table.rows[1:],
            [
                ("the image", "1.000", "cat"),
                ("adversarial, +1 epsilon", "2.000", "dog"),
                ("adversarial, −1 epsilon", "0.000", "cat"),
                ("random, +1 epsilon", "1.250", "cat"),
                ("random, −1 epsilon", "0.750", "cat"),
                ("highest loss", "2.250", "dog"),
                ("explained by a plane", "100.00%", ""),
            ],
        )
        self.assertIn("Li et al.", picture.caption)
        self.assertIn("8/255", picture.caption)
        drawn = picture.content.decode()
        for label in ("cat", "dog", "adversarial", "random", "+0.5"):
            self.assertIn(f">{label}</text>", drawn)

    @parameterized.parameters(
        (0.2, "Yes, and close to linear: "),
        (0.6, "Partly: "),
        (3.0, "No, it is curved: "),
    )
    def test_curvature(self, curvature, begins):
        loss = ROWS + curvature * (ROWS**2 - COLUMNS**2)
        self.write(loss)
        text, _, table = self.blocks()
        self.assertStartsWith(text.text, begins)
        # The square terms are not correlated with a plane.
        share = ROWS.var() / loss.var()
        self.assertEqual(table.rows[-1][1], f"{100 * share:.2f}%")
        self.assertIn(f" {100 * share:.2f}% of the variance", text.text)

    def test_a_constant(self):
        self.write(np.zeros_like(ROWS), np.full(ROWS.shape, 3))
        text, picture, _ = self.blocks()
        self.assertStartsWith(
            text.text, "It is constant around test image 17, within epsilon: 0."
        )
        self.assertIn(">cat</text>", picture.content.decode())

    def test_values_that_are_not_finite(self):
        loss = 1 + ROWS
        loss[3, 4], loss[-1, :3] = np.nan, np.inf
        self.write(loss, class_names=None)
        text, note, picture, table = self.blocks()
        self.assertIn("a plane explains 100.00%", text.text)
        self.assertEqual(
            note.text,
            "The loss is not finite at 4 of 441 points, which are left out.",
        )
        self.assertEqual(table.rows[1], ("the image", "1.000", "class 3"))
        self.assertEqual(table.rows[-2][1], "2.000")
        self.assertNotIn("nan", picture.content.decode())

    def test_no_surface(self):
        written_runs.write_run(self.run_dir)
        text, command = self.blocks()
        self.assertIn("was not measured", text.text)
        self.assertEqual(
            command.text,
            f"python main.py --mode=evaluate --run_dir={self.run_dir} "
            "--attacks=pgd-10-1,fgsm --loss_surface",
        )
        other = self.run_dir.parent / "other"
        written_runs.write_run(other, unfinished=True)
        text, *_ = surface.blocks(record.read([other]))
        self.assertEqual(text.text, "Not known yet: nothing was measured.")

    def test_several_runs(self):
        written_runs.write_run(self.run_dir, surface=True)
        seeds = self.run_dir.parent / "seeds"
        written_runs.write_seeds(seeds)
        written_runs.write_evaluation(
            seeds / "seed-1" / "evaluations" / "training", surface=True
        )
        blocks = surface.blocks(record.read([self.run_dir, seeds]))
        pictures = [b.name for b in blocks if isinstance(b, Picture)]
        self.assertEqual(pictures, ["surface-1", "surface-2"])
        texts = [block.text for block in blocks if hasattr(block, "kind")]
        self.assertIn("Of one of 3 seeds, seeds/seed-1.", texts)


if __name__ == "__main__":
    absltest.main()
