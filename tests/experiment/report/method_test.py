"""Tests of what the report says about the reports of a method."""

import csv
import json
import pathlib
import tempfile

from absl.testing import absltest

from fastbat_tf.experiment.report import charts, method, record
from fastbat_tf.experiment.report.blocks import Picture, Table, Text
from fastbat_tf.methods import METHODS
from tests.support import written_runs

NORM = "robust_gradient_norm"


class MethodTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.enterContext(charts.style())
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.run_dir = pathlib.Path(directory) / "run"

    def blocks(self, *paths):
        return method.blocks(record.read(paths or [self.run_dir]))

    def test_table_equals_the_history(self):
        written_runs.write_run(self.run_dir, epochs=5)
        with (self.run_dir / "history.csv").open(newline="") as file:
            first, *_, last = csv.DictReader(file)
        text, picture, table = self.blocks()
        reports = {
            name: meaning
            for name, meaning in METHODS["fastbat"].reports.items()
            if f"robust_{name}" in first
        }
        self.assertLen(reports, 3)
        meanings = [*reports.items(), ("gradient_norm", method.NORM_MEANING)]
        self.assertEqual(
            table.rows[0][2:],
            ("first epoch (1)", "best epoch (5)", "last epoch (5)"),
        )
        for row, (name, meaning) in zip(table.rows[1:], meanings, strict=True):
            values = [
                f"{float(epoch[f'robust_{name}']):.3g}"
                for epoch in (first, last, last)
            ]
            self.assertEqual(row, (name.replace("_", " "), meaning, *values))
        self.assertStartsWith(
            text.text,
            "fastbat (two steps without a sign; implicit gradient), epoch 1 to "
            "5: interior fraction ",
        )
        drawn = picture.content.decode()
        for name, meaning in meanings:
            self.assertIn(f">{name.replace('_', ' ')}</text>", drawn)
            self.assertIn(meaning.split()[0], drawn)

    def test_method_without_reports(self):
        written_runs.write_run(self.run_dir, "fastat", epochs=1)
        text, picture, table = self.blocks()
        self.assertRegex(
            text.text,
            r"^fastat \(.*\) has no reports of its own; in its only epoch: "
            r"gradient norm 0\.5\d*\.$",
        )
        self.assertLen(table.rows, 2)
        self.assertNotIn("implicit", picture.content.decode())

    def test_method_of_a_user(self):
        """It is not known here what its reports mean."""
        written_runs.write_run(self.run_dir, "fastat", epochs=2)
        path = self.run_dir / "config.json"
        config = json.loads(path.read_text())
        config["method"]["method"] = "mine"
        path.write_text(json.dumps(config))
        path = self.run_dir / "history.csv"
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        with path.open("w", newline="") as file:
            names = [*rows[0], "robust_$odd_{"]
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows({**row, "robust_$odd_{": 0.25} for row in rows)
        text, _, table = self.blocks()
        self.assertStartsWith(text.text, "mine, epoch 1 to 2: $odd { 0.25, ")
        self.assertEqual(
            table.rows[1],
            ("$odd {", method.UNKNOWN_MEANING, "0.25", "0.25", "0.25"),
        )

    def test_several_runs(self):
        written_runs.write_run(self.run_dir)
        other = self.run_dir.parent / "other"
        written_runs.write_run(other, "fastat", unfinished=True)
        (other / "history.csv").unlink()
        seeds = self.run_dir.parent / "seeds"
        written_runs.write_seeds(seeds, epochs=2)
        blocks = self.blocks(self.run_dir, other, seeds)
        self.assertEqual(
            blocks[0].text,
            "run and seeds report what the method did; other has no reports of "
            "a method's own.",
        )
        headings = [b.text for b in blocks[1:] if b[-1] == "heading"]
        self.assertEqual(headings, ["run", "other", "seeds"])
        pictures = [b for b in blocks if isinstance(b, Picture)]
        self.assertEqual([p.name for p in pictures], ["method-1", "method-3"])
        *_, table = [b for b in blocks if isinstance(b, Table)]
        mean = 0.0
        for seed in range(3):
            path = seeds / f"seed-{seed}" / "history.csv"
            with path.open(newline="") as file:
                *_, last = csv.DictReader(file)
            mean += float(last[NORM]) / 3
        self.assertEqual(table.rows[-1][-1], f"{mean:.3g}")

    def test_evaluation_alone(self):
        written_runs.write_evaluation(self.run_dir)
        text, command = self.blocks()
        self.assertStartsWith(
            text.text, "Not known: run is an evaluation alone"
        )
        self.assertIsInstance(command, Text)
        self.assertEqual(command.kind, "code")


if __name__ == "__main__":
    absltest.main()
