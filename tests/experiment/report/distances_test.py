"""Tests what the report says about distances, and about worst classes."""

import json
import pathlib
import tempfile

from absl.testing import absltest, parameterized

from fastbat_tf.experiment.report import (
    charts,
    classes,
    commands,
    distances,
    record,
    writing,
)
from fastbat_tf.experiment.report.blocks import Picture, Table, Text
from tests.support import written_runs

ROW = {
    "attack": "fab-t-20",
    "norm": "linf",
    "examples": 200,
    "attacked": 160,
    "found": 158,
    "seconds": 3.5,
    "seed": 0,
    "median": 9 / 255,
    "quartiles": [4.5 / 255, 0.0712],
    "histogram": {
        "edges": [0.0, 0.05, 0.1],
        "counts": [100, 58],
        "robust_accuracy": [0.8, 0.3, 0.01],
    },
    "radii": [
        {
            "epsilon": 8 / 255,
            "robust_accuracy": 0.425,
            "confidence_interval": [0.3587, 0.4942],
        }
    ],
}
L2 = {**ROW, "norm": "l2", "attack": "fab-t", "median": 0.51, "radii": []}
WORST = {
    "label": 3,
    "name": "cat",
    "examples": 20,
    "clean_accuracy": 0.5,
    "robust_accuracy": 0.05,
    "confidence_interval": [0.0089, 0.2361],
}


class DistancesTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.enterContext(charts.style())
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.run_dir = pathlib.Path(directory) / "run"
        written_runs.write_run(self.run_dir)

    def change(self, change):
        path = self.run_dir / "results.json"
        results = json.loads(path.read_text())
        change(results)
        path.write_text(json.dumps(results))

    def blocks(self, *rows, **changes):
        rows = [{**row, **changes} for row in rows]
        self.change(lambda results: results.update(distances=rows))
        return distances.blocks(record.read([self.run_dir]))

    def test_what_is_shown(self):
        text, picture, table = self.blocks(ROW)
        self.assertEqual(
            text.text,
            "The median distance is 9/255 (L∞): half of the correctly "
            "classified images have an adversarial one that is no further "
            "away. fab-t-20 found an adversarial image for 158 of 160 "
            "correctly classified ones. The true distances may be smaller.",
        )
        self.assertEqual(
            table.rows[1:],
            [
                ("a quarter is within", "4.5/255", ""),
                ("half is within (median)", "9/255", ""),
                ("three quarters are within", "18.2/255", ""),
                ("without any", "2", ""),
                ("robust accuracy at 8/255", "42.50%", "35.9 to 49.4"),
            ],
        )
        self.assertIn("Dashed: the epsilon of the training.", picture.caption)
        drawn = picture.content.decode()
        self.assertIn("distance, epsilon (L∞, 1/255)", drawn)

    def test_each_norm_once_the_newest(self):
        older = {**ROW, "median": 0.5}
        blocks = self.blocks(older, ROW, L2)
        kinds = [type(block) for block in blocks]
        self.assertEqual(kinds, [Text, Picture, Table] * 2)
        self.assertIn("The median distance is 9/255", blocks[0].text)
        self.assertIn("The median distance is 0.51 (L2)", blocks[3].text)
        # The training had another norm.
        self.assertNotIn("Dashed", blocks[4].caption)

    def test_none_or_few_are_found(self):
        empty = {"edges": [], "counts": [], "robust_accuracy": []}
        none = {"median": None, "quartiles": [None, None], "histogram": empty}
        text, table = self.blocks(ROW, found=0, **none)
        self.assertIn("a sign of masked gradients", text.text)
        self.assertEqual(table.rows[2][1], "unknown")
        text, table = self.blocks(ROW, attacked=0, found=0, **none)
        self.assertEqual(
            text.text, "Not known: no image is classified correctly."
        )
        text, *_ = self.blocks(ROW, median=None, found=60)
        self.assertTrue(text.text.endswith(", fewer than half."))

    def test_missing(self):
        text, command = distances.blocks(record.read([self.run_dir]))
        self.assertIn("were not measured", text.text)
        self.assertTrue(command.text.endswith("--distances=100"), command)

    @parameterized.parameters(("fab-t", 100), ("fab-t-20", 20))
    def test_the_command_repeats_it(self, attack, steps):
        path = "evaluations/more/outcomes.npz"
        (self.run_dir / "evaluations/training").rename(
            self.run_dir / "evaluations/more"
        )

        def change(results):
            for row in results["attacks"]:
                row["outcomes"] = path
            row = {**ROW, "attack": attack, "outcomes": path}
            results["distances"] = [row]

        self.change(change)
        (run,) = record.read([self.run_dir])
        (command,) = commands.of_evaluations(run)
        self.assertTrue(command.endswith(f" --distances={steps}"), command)

    def test_page(self):
        self.blocks(ROW)
        written = writing.write(
            record.read([self.run_dir]), self.run_dir.parent / "report"
        )
        for path in written:
            self.assertIn(distances.QUESTION, path.read_text())

    def test_worst_classes(self):
        (run,) = record.read([self.run_dir])
        before = classes.blocks([run])
        self.assertFalse(any("worst class" in str(b) for b in before))

        def change(results):
            results["attacks"][0].update(worst_class=WORST, robust_accuracy=0.4)

        self.change(change)
        (table,) = [
            block
            for block in classes.blocks(record.read([self.run_dir]))
            if isinstance(block, Table) and "worst class" in block.rows[0]
        ]
        self.assertEqual(
            table.rows[1],
            (
                *("pgd-10-1", "8/255 (L∞)", "40.00%", "cat", "20"),
                *("50.00%", "5.00%", "0.9 to 23.6"),
            ),
        )
        self.assertLen(table.rows, 2)
        # Also where the outcomes of the images are not there.
        (self.run_dir / "evaluations/training/outcomes.npz").unlink()
        blocks = classes.blocks(record.read([self.run_dir]))
        self.assertIn(table, blocks)


if __name__ == "__main__":
    absltest.main()
