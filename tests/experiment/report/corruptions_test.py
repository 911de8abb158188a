"""Tests of the corruptions of a report."""

import json
import pathlib
import tempfile

from absl.testing import absltest

from fastbat_tf.evaluation.corruption_table import STANDARD, summarize
from fastbat_tf.experiment.report import corruptions, record, writing
from fastbat_tf.experiment.report.blocks import Table, Text
from tests.support import written_runs


class CorruptionsTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.directory = pathlib.Path(directory)

    def write(self, name, accuracy=None):
        run_dir = self.directory / name
        written_runs.write_evaluation(run_dir)
        if accuracy is not None:
            path = run_dir / "results.json"
            results = json.loads(path.read_text())
            found = summarize(accuracy, 40)
            found |= {"subset": None, "seed": 0}
            path.write_text(json.dumps({**results, "corruptions": found}))
        return run_dir

    def test_only_where_they_were_measured(self):
        runs = record.read([self.write("one"), self.write("two")])
        self.assertEqual(corruptions.blocks(runs), [])
        asked = [section.question for section in writing.sections(runs)]
        self.assertEqual(asked, [part.QUESTION for part in writing.PARTS])

    def test_a_run(self):
        """Severity s of the 15 has 0.9 - s / 10; the mean is 0.6."""
        shares = [0.8, 0.7, 0.6, 0.5, 0.4]
        accuracy = dict.fromkeys(STANDARD, shares)
        accuracy["spatter"] = [0.0] * 5
        runs = record.read([self.write("one", accuracy)])
        sections = writing.sections(runs)
        self.assertEqual(sections[-1].question, corruptions.QUESTION)
        text, table = sections[-1].blocks
        self.assertStartsWith(text.text, "60.00% on average over the 15 ")
        self.assertLen(table.rows, 1 + 15 + 1 + 1)
        self.assertEqual(table.rows[16][0::5], ("mean of the 15", "40.00%"))
        self.assertEqual(table.rows[16][-1], "60.00%")
        self.assertIn("40 images, at each severity", table.caption)

    def test_several_runs_and_one_that_lacks_some(self):
        runs = record.read(
            [
                self.write("one"),
                self.write("two", {"fog": [0.5] * 5}),
                self.write("three", {"snow": [0.5] * 5}),
            ]
        )
        found = corruptions.blocks(runs)
        self.assertEqual(
            [type(block) for block in found], [Text, Table, Text, Table]
        )
        self.assertEqual([block.text for block in found[::2]], ["two", "three"])
        self.assertIn("no mean of the 15", found[1].caption)


if __name__ == "__main__":
    absltest.main()
