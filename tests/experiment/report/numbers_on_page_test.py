"""Every number of the first three sections is one of the files."""

import json
import pathlib
import re
import tempfile

import numpy as np
from absl.testing import absltest, parameterized

from fastbat_tf.evaluation.results import confidence_interval
from fastbat_tf.experiment.report import (
    quotable,
    radii,
    record,
    stages,
    writing,
)
from tests.support import written_runs
from tests.support.report_pages import Page

LEVELS = (1, 2, 4, 8, 16, 32, 64)
ATTACKS = ("pgd-10-1", "autoattack", "fgsm")


def percent(share):
    return f"{100 * share:.2f}%"


def interval(bounds):
    return " to ".join(f"{100 * bound:.1f}" for bound in bounds)


class NumbersOnPageTest(parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.directory = pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory())
        )
        cls.run_dir = cls.directory / "run"
        written_runs.write_run(cls.run_dir)
        written_runs.measure(
            cls.run_dir,
            "sweep",
            attacks=ATTACKS,
            epsilons=tuple(level / 255 for level in LEVELS),
            examples=120,
            seed=3,
        )
        cls.sections = cls.write(cls.run_dir)
        cls.results = cls.read("results.json")
        cls.sweep = cls.read("evaluations/sweep/results.json")
        cls.outcomes = np.load(cls.run_dir / "evaluations/sweep/outcomes.npz")

    @classmethod
    def write(cls, *paths):
        report = cls.directory / "report"
        written = writing.write(record.read(paths), report)
        return Page(written.html.read_text()).sections

    @classmethod
    def read(cls, name):
        return json.loads((cls.run_dir / name).read_text())

    def rows_at(self, level):
        return [
            row
            for row in self.sweep["attacks"]
            if abs(row["epsilon"] - level / 255) < 1e-9
        ]

    def broken(self, level):
        """A row of bools for each attack."""
        at = np.abs(self.outcomes["epsilon"] - level / 255) < 1e-9
        robust = self.outcomes["robust"][at]
        return self.outcomes["clean_correct"] & ~robust

    def test_what_may_be_quoted(self):
        """The training measured other images, so its rows do not count."""
        clean = self.outcomes["clean_correct"]
        robust = clean & ~self.broken(8).any(axis=0)
        section = self.sections[quotable.QUESTION]
        (table,) = section.tables
        self.assertEqual(
            table[1:],
            [
                (
                    "clean images",
                    percent(clean.mean()),
                    interval(confidence_interval(clean)),
                ),
                (
                    "worst case of 3 attacks",
                    percent(robust.mean()),
                    interval(confidence_interval(robust)),
                ),
            ],
        )
        (quote,) = section.quotes
        for part in (
            percent(clean.mean()),
            percent(robust.mean()),
            interval(confidence_interval(robust)),
            "pgd-10-1, autoattack and fgsm",
            "radius 8/255",
            "on 120 test images",
            "fastbat_tf 0.1.0",
            "seed 37",
            "preact_resnet18 trained on cifar10_mini with fastbat",
        ):
            self.assertIn(part, quote)
        low, high = confidence_interval(robust)
        self.assertIn(f"{100 * (high - low):.1f} points", section.warnings[0])

    def test_accuracy_against_epsilon(self):
        training, sweep = self.results["attacks"][:2], self.sweep
        (table,) = self.sections[radii.QUESTION].tables
        head, *rows = table
        # Results of other images are curves of their own.
        self.assertEqual(
            head,
            (
                "epsilon",
                "pgd-10-1 (images 1, seed 0)",
                "fgsm (images 1, seed 0)",
                "pgd-10-1 (images 2, seed 3)",
                "autoattack",
                "fgsm (images 2, seed 3)",
            ),
        )
        self.assertEqual([row[0] for row in rows], [f"{k}/255" for k in LEVELS])
        for level, (_, *cells) in zip(LEVELS, rows, strict=True):
            expected = training if level == 8 else [None, None]
            expected = [*expected, *self.rows_at(level)]
            self.assertEqual(cells, [self.cell(row) for row in expected])
        self.assertLen(sweep["attacks"], len(LEVELS) * len(ATTACKS))

    def cell(self, row):
        if row is None:
            return ""
        bounds = interval(row["confidence_interval"])
        return f"{percent(row['robust_accuracy'])} ({bounds})"

    def test_stages(self):
        _, row, _ = self.rows_at(8)
        table, *_ = self.sections[stages.QUESTION].tables
        for cells, stage in zip(table[1:], row["stages"], strict=False):
            self.assertEqual(cells, self.line(stage))
        self.assertEqual(table[-1], ("all of autoattack", *self.line(row)[1:]))
        self.assertLen(table, 1 + 4 + 1)

    def line(self, row):
        left = round(row["robust_accuracy"] * row["examples"])
        return (
            row["attack"],
            str(row["attacked"]),
            str(row["attacked"] - left),
            percent(row["robust_accuracy"]),
            interval(row["confidence_interval"]),
            f"{row['seconds']:.1f}",
        )

    def test_what_each_attack_broke(self):
        broken = self.broken(8)
        _, table, _ = self.sections[stages.QUESTION].tables
        for k, (name, count, only, *others) in enumerate(table[1:4]):
            self.assertEqual(name, ATTACKS[k])
            self.assertEqual(int(count), broken[k].sum())
            rest = np.delete(broken, k, axis=0)
            self.assertEqual(int(only), (broken[k] & ~rest.any(axis=0)).sum())
            self.assertEqual(others.pop(k), "–")
            missed = [(broken[k] & ~other).sum() for other in rest]
            self.assertEqual([int(n) for n in others], missed)
        self.assertEqual(int(table[4][1]), broken.any(axis=0).sum())

    def test_all_results(self):
        *_, table = self.sections[stages.QUESTION].tables
        rows = self.results["attacks"] + self.results["worst_case"]
        for (name, epsilon, images, *line), row in zip(
            table[1:], rows, strict=True
        ):
            expected = row["attack"]
            if "attacks" in row:
                expected += f" of {', '.join(row['attacks'])}"
            self.assertEqual(name, expected)
            self.assertEqual(epsilon, f"{255 * row['epsilon']:g}/255 (L∞)")
            self.assertEqual(images, str(row["examples"]))
            self.assertEqual(tuple(line), self.line(row)[1:])

    def test_no_other_accuracy_is_on_the_page(self):
        clean = self.outcomes["clean_correct"]
        shares = [self.results["clean_accuracy"], clean.mean()]
        for level in LEVELS:
            shares.append((clean & ~self.broken(level).any(axis=0)).mean())
        for row in self.results["attacks"] + self.results["worst_case"]:
            parts = [row, *row.get("stages", [])]
            shares += [part["robust_accuracy"] for part in parts]
        known = {percent(share) for share in shares}
        for question in (quotable.QUESTION, radii.QUESTION, stages.QUESTION):
            text = self.sections[question].text
            shown = set(re.findall(r"\d+\.\d\d%", text))
            self.assertContainsSubset(shown, known)
            self.assertNotEmpty(shown)

    def test_several_seeds(self):
        path = self.directory / "seeds"
        written_runs.write_seeds(path, seeds=(0, 1, 5))
        sections = self.write(path)
        each = [
            json.loads((path / f"seed-{seed}" / "results.json").read_text())
            for seed in (0, 1, 5)
        ]
        robust = [results["worst_case"][0] for results in each]
        shares = [row["robust_accuracy"] for row in robust]
        mean, deviation = np.mean(shares), np.std(shares, ddof=1)
        shown = f"{percent(mean)} ± {100 * deviation:.2f}"
        section = sections[quotable.QUESTION]
        (table,) = section.tables
        self.assertEqual(table[-1][3], shown)
        for cells, seed, results, row in zip(
            table[1:4], (0, 1, 5), each, robust, strict=True
        ):
            self.assertEqual(
                cells,
                (
                    str(seed),
                    percent(results["clean_accuracy"]),
                    interval(results["clean_confidence_interval"]),
                    percent(row["robust_accuracy"]),
                    interval(row["confidence_interval"]),
                ),
            )
        (quote,) = section.quotes
        self.assertIn(f"robust accuracy of {shown}", quote)
        self.assertIn("over 3 seeds", quote)
        self.assertIn("seeds 0, 1, 5", quote)
        (curves,) = sections[radii.QUESTION].tables
        first = [results["attacks"][0]["robust_accuracy"] for results in each]
        self.assertEqual(
            curves[-1][1],
            f"{percent(np.mean(first))} ± {100 * np.std(first, ddof=1):.2f}",
        )


if __name__ == "__main__":
    absltest.main()
