"""Tests of accuracies by class, and of confusion matrices."""

import json
import pathlib
import tempfile

import numpy as np
from absl.testing import absltest, parameterized

from fastbat_tf.experiment.report import charts, classes, record
from fastbat_tf.experiment.report.blocks import Picture, Table, Text
from fastbat_tf.experiment.report.numbers import confidence_interval
from tests.support import written_runs
from tests.support.written_evaluations import CLASSES


def percent(share):
    return f"{100 * share:.2f}%"


class ClassesTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.enterContext(charts.style())
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.run_dir = pathlib.Path(directory) / "run"

    def blocks(self, *paths):
        return classes.blocks(record.read(paths or [self.run_dir]))

    def kinds(self, blocks, kind):
        return [block for block in blocks if isinstance(block, kind)]

    def outcomes(self):
        with np.load(self.run_dir / "outcomes.npz") as file:
            return dict(file)

    @parameterized.parameters(True, False)
    def test_outcomes_outside(self, is_absolute):
        """A run of someone else does not show what is elsewhere."""
        elsewhere = self.run_dir.parent / "elsewhere"
        written_runs.write_run(self.run_dir)
        (self.run_dir / "evaluations/training").rename(elsewhere)
        path = self.run_dir / "results.json"
        told = str(elsewhere) if is_absolute else "../elsewhere"
        text = path.read_text()
        self.assertIn('"evaluations/training/outcomes.npz"', text)
        path.write_text(text.replace("evaluations/training/", f"{told}/"))
        (run,) = record.read([self.run_dir])
        for row in run.results["attacks"]:
            self.assertIsNone(run.outcomes(row))
            self.assertEqual(run.settings(row), {})
        self.assertIsNone(run.arrays("gallery.npz"))
        texts = self.kinds(self.blocks(), Text)
        said = f"look for them: add {told}, relative to the run, to --runs."
        self.assertTrue(any(said in text.text for text in texts), texts)
        # There they are read.
        (alone,) = record.read([elsewhere])
        self.assertIsNotNone(alone.outcomes(alone.results["attacks"][0]))

    def write(self, names, label, clean, attacked):
        """Writes an evaluation with these classes and predictions."""
        written_runs.write_evaluation(self.run_dir, attacks=("fgsm",))
        robust = (clean == label) & (attacked == label)
        arrays = {
            "index": np.arange(len(label)),
            "label": label,
            "clean_correct": clean == label,
            "attack": np.array(["fgsm"]),
            "epsilon": np.array([8 / 255]),
            "robust": robust[None],
            "clean_class": clean,
            "clean_confidence": np.ones(len(label)),
            "adversarial_class": attacked[None],
            "adversarial_confidence": np.ones((1, len(label))),
        }
        np.savez(self.run_dir / "outcomes.npz", **arrays)
        path = self.run_dir / "results.json"
        results = json.loads(path.read_text())
        results["attacks"][0]["robust_accuracy"] = float(robust.mean())
        results["attacks"][0]["examples"] = len(label)
        results["class_names"] = names
        path.write_text(json.dumps(results))

    def test_tables_equal_the_outcomes(self):
        """The worst case of the attacks, as the first section quotes it."""
        written_runs.write_evaluation(self.run_dir)
        known = self.outcomes()
        label, clean = known["label"], known["clean_correct"]
        robust = known["robust"].all(axis=0)
        blocks = self.blocks()
        accuracies, confusions = self.kinds(blocks, Table)
        shares = []
        for name, images, *cells in accuracies.rows[1:]:
            here = label == CLASSES.index(name)
            shares.append(robust[here].mean())
            low, high = confidence_interval(
                int(robust[here].sum()), int(here.sum())
            )
            self.assertEqual(images, str(here.sum()))
            self.assertEqual(
                cells,
                [
                    percent(clean[here].mean()),
                    percent(robust[here].mean()),
                    f"{100 * low:.1f} to {100 * high:.1f}",
                ],
            )
        self.assertLen(shares, 10)
        self.assertEqual(shares, sorted(shares))
        first, second = known["robust"]
        attacked = np.where(clean, label, known["clean_class"])
        for breaks, predicted in (
            (~first, known["adversarial_class"][0]),
            (first & ~second, known["adversarial_class"][1]),
        ):
            attacked = np.where(clean & breaks, predicted, attacked)
        self.assertLen(confusions.rows, classes.CONFUSIONS + 1)
        for true, other, *cells in confusions.rows[1:]:
            here = label == CLASSES.index(true)
            found = [
                (predicted[here] == CLASSES.index(other)).mean()
                for predicted in (known["clean_class"], attacked)
            ]
            self.assertEqual(cells, [percent(share) for share in found])

    def test_answer_names_the_worst_class(self):
        label = np.arange(60) % 3
        attacked = np.where(label == 1, np.arange(60) % 2, label)
        self.write(["a", "b", "c"], label, label, attacked)
        blocks = self.blocks()
        self.assertEqual(
            blocks[0].text,
            "b pays most: 50.00% robust accuracy, 100.00% clean. c is the most "
            "robust: 100.00%, 50.00 points more.",
        )
        self.write(["a", "b", "c"], label, label, label)
        text = self.blocks()[0].text
        self.assertEqual(text, "All alike: 100.00% each.")
        self.write(["a", "b", "c"], label, label, (label + 1) % 3)
        self.assertIn("All alike: 0.00%", self.blocks()[0].text)

    @parameterized.parameters(1, 2, 20, 100, 1000)
    def test_number_of_classes(self, count):
        label = np.arange(2 * count) % count
        attacked = np.where(np.arange(len(label)) % 3, label, 0)
        names = [f"${k} " + "long " * (k % 9) for k in range(count)]
        self.write(names, label, label, attacked)
        blocks = self.blocks()
        shown = min(count, 2 * classes.EXTREMES)
        tables = self.kinds(blocks, Table)
        self.assertLen(tables[0].rows, shown + 1)
        pictures = self.kinds(blocks, Picture)
        self.assertLen(pictures, 2 if count <= classes.MOST_CLASSES else 1)
        for picture in pictures:
            self.assertLess(len(picture.content), 100_000)
        between = f"{count - shown} classes between"
        drawn = pictures[0].content.decode()
        self.assertEqual(between in drawn, count > shown)
        self.assertNotIn("nan", drawn)

    def test_classes_without_images_or_names(self):
        label = np.array([0, 0, 5, 5])
        self.write(None, label, np.array([0, 7, 5, 5]), label)
        path = self.run_dir / "results.json"
        results = json.loads(path.read_text())
        del results["class_names"]
        path.write_text(json.dumps(results))
        blocks = self.blocks()
        self.assertStartsWith(blocks[0].text, "class 0 pays most: 50.00%")
        accuracies, confusions = self.kinds(blocks, Table)
        self.assertEqual([row[0] for row in accuracies.rows[1:]], ["0", "5"])
        self.assertEqual(confusions.rows[1], ("0", "7", "50.00%", "50.00%"))
        notes = [b.text for b in self.kinds(blocks, Text) if b.kind == "note"]
        self.assertIn("of which each is 50 points", notes[0])
        self.assertIn("names of the classes are unknown", notes[1])

    def test_answers_that_are_not_a_number(self):
        """The network names no class then, which is written as -1."""
        label = np.array([0, 0, 1, 1])
        self.write(["a", "b"], label, label, np.array([0, -1, -1, -1]))
        accuracies, confusions = self.kinds(self.blocks(), Table)
        self.assertEqual([row[0] for row in accuracies.rows[1:]], ["b", "a"])
        self.assertEqual(
            confusions.rows[1:],
            [
                ("b", "no class", "0.00%", "100.00%"),
                ("a", "no class", "0.00%", "50.00%"),
            ],
        )

    def test_outcomes_of_the_version_before(self):
        written_runs.write_run(self.run_dir, old=True)
        blocks = self.blocks()
        self.assertLen(self.kinds(blocks, Picture), 1)
        self.assertLen(self.kinds(blocks, Table)[0].rows, 11)
        note, command = blocks[-2:]
        self.assertStartsWith(note.text, "There are no confusion matrices: an")
        self.assertEqual(
            command.text,
            f"python main.py --mode=evaluate --run_dir={self.run_dir} "
            "--attacks=pgd-10-1,fgsm --epsilons=8/255",
        )

    def test_nothing_to_count(self):
        written_runs.write_run(self.run_dir)
        for path in self.run_dir.glob("evaluations/*/outcomes.npz"):
            path.unlink()
        text, command = self.blocks()
        self.assertIn("(outcomes.npz) are not there", text.text)
        self.assertIn("--mode=evaluate", command.text)
        other = self.run_dir.parent / "other"
        written_runs.write_run(other, unfinished=True)
        text, *_, command = self.blocks(other)
        self.assertEqual(text.text, "Not known yet: nothing was measured.")
        self.assertIn("--method=fastbat", command.text)

    def test_several_runs(self):
        written_runs.write_run(self.run_dir)
        seeds = self.run_dir.parent / "seeds"
        written_runs.write_seeds(seeds)
        # Of a seed that was not measured, nothing is known.
        (seeds / "seed-0" / "results.json").unlink()
        blocks = self.blocks(self.run_dir, seeds)
        self.assertRegex(
            blocks[0].text,
            r"^The class with the lowest robust accuracy: run: \w+ "
            r"\(\d+\.\d\d%\); seeds: \w+ \(\d+\.\d\d%\)\.$",
        )
        names = [picture.name for picture in self.kinds(blocks, Picture)]
        self.assertLen(set(names), 4)
        texts = [block.text for block in self.kinds(blocks, Text)]
        self.assertIn("Of one of 3 seeds, seeds/seed-1.", texts)


if __name__ == "__main__":
    absltest.main()
