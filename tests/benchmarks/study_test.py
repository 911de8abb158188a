"""The rows of the studies, their commands, and what is read from runs."""

import json
import pathlib
import tempfile
from unittest import mock

import numpy as np
from absl import flags as absl_flags
from absl.testing import absltest, flagsaver

from benchmarks import (
    implicit_term,
    step_size,
    study,
    study_settings,
    study_table,
)
from flags import command


def write_run(run_dir, seed, clean, robust, ratios):
    """Writes what the study reads of a run."""
    for directory, attack in ((study.WEAK, "pgd-50-10"), ("last", "pgd-10-1")):
        outcomes = run_dir / directory / "outcomes.npz"
        outcomes.parent.mkdir(parents=True)
        np.savez(
            outcomes,
            clean_correct=clean,
            attack=np.array([attack]),
            robust=np.array([robust]),
        )
    files = {
        "config.json": json.dumps(
            {"training": {"seed": seed}, "environment": {"device": "a CPU"}}
        ),
        "results.json": json.dumps({"training_seconds": 9, "best_epoch": 2}),
        "alignment.json": json.dumps({"alignment": 0.75}),
        "commit.txt": "abc1234",
        "history.csv": "epoch,robust_implicit_ratio,robust_implicit_cosine\n"
        + "".join(f"{n},{ratio},0.5\n" for n, ratio in enumerate(ratios)),
    }
    for name, text in files.items():
        (run_dir / name).write_text(text)


class RowsTest(absltest.TestCase):
    def test_the_whole_grid(self):
        rows = implicit_term.rows()
        names = [row.name for row in rows]
        self.assertLen(set(names), len(names))
        grid = [
            name
            for name in names
            if "clip" not in name and "lambda-0.051" not in name
        ]
        self.assertLen(grid, 66)
        for row in [*rows, *step_size.rows()]:
            self.assertIn(row.base, [*names, step_size.BASE])

    def test_bases_have_no_term(self):
        rows = {row.name: row for row in implicit_term.rows()}
        for row in rows.values():
            base = rows[row.base]
            self.assertIn("--implicit_lambda=inf", base.flags)
            # The same activation and radius.
            self.assertEqual(row.flags[:2], base.flags[:2])

    def test_flags_are_those_of_main(self):
        shared = study_settings.read_flags(study_flags()).protocol
        fail = mock.Mock(side_effect=AssertionError)
        for row in [*implicit_term.rows(), *step_size.rows()]:
            with (
                self.subTest(row.name),
                flagsaver.flagsaver(),
                mock.patch.object(command, "fail", fail),
            ):
                command.parse(
                    ["main.py", "--method=fastbat", *shared, *row.flags]
                )
                method = command.get_command().config.method
                self.assertEqual(method.method, "fastbat")


def study_flags(*arguments):
    """Returns the flags of a study, parsed, apart from those of main.py."""
    values = absl_flags.FlagValues()
    study_settings.define_flags("runs/study", values)
    values(["study", *arguments])
    return values


class SettingsTest(absltest.TestCase):
    def test_flags(self):
        settings = study_settings.read_flags(
            study_flags("--seeds=1,2", "--width=4", "--rows=a,b*")
        )
        self.assertEqual(settings.seeds, [1, 2])
        self.assertEqual(settings.rows, ["a", "b*"])
        self.assertIn("--width=4", settings.protocol)
        self.assertIn("--deterministic", settings.protocol)
        self.assertTrue(settings.runs.is_absolute())
        with self.assertRaisesRegex(SystemExit, "Received: seeds=1,x"):
            study_settings.read_flags(study_flags("--seeds=1,x"))

    def test_the_command_without_places(self):
        self.assertEqual(
            study_settings.command(
                "benchmarks.step_size",
                ["--collect", "--width=4", "--json=FILE", "--rows=a*"],
            ),
            "python -m benchmarks.step_size --width=4 '--rows=a*'",
        )

    def test_rows_are_chosen_by_name(self):
        rows = step_size.rows()
        chosen = study.choose(rows, ["*-auto-*", "relu-16-step-500"])
        self.assertLen(chosen, 4)
        self.assertEqual(chosen[0].name, "relu-16-step-500")
        with self.assertRaisesRegex(SystemExit, "Received: rows=nothing"):
            study.choose(rows, ["*", "nothing"])


class CommandsTest(absltest.TestCase):
    def test_a_row_is_trained_and_attacked(self):
        runs = self.enterContext(tempfile.TemporaryDirectory())
        settings = study_settings.read_flags(
            study_flags(f"--runs={runs}", "--data_dir=DIR")
        )
        row = study.Row("name", ("--epsilon=8/255",), "name")
        calls = []

        def run_main(*arguments):
            calls.append(arguments)
            pathlib.Path(runs, "name-seed-3").mkdir(exist_ok=True)

        with (
            mock.patch.object(study, "run_main", run_main),
            mock.patch.object(study.study_network, "measure"),
        ):
            study.make(row, 3, settings)
            study.make(row, 3, settings._replace(strong_attack=""))
        train, attack, again = calls
        self.assertEqual(train, again)
        self.assertContainsSubset(
            [
                "--method=fastbat",
                "--epsilon=8/255",
                "--seed=3",
                "--data_dir=DIR",
            ],
            train,
        )
        self.assertContainsSubset(
            ["--mode=evaluate", "--attacks=autoattack", "--max_examples=1000"],
            attack,
        )
        self.assertIn(f"--run_dir={runs}/name-seed-3", attack)


class CollectTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        runs = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.settings = study_settings.read_flags(
            study_flags(f"--runs={runs}", "--seeds=1,2")
        )
        self.rows = [
            study.Row("base", (), "base"),
            study.Row("other", ("--x",), "base"),
            study.Row("never", (), "base"),
        ]
        eight = np.arange(8)
        for seed in (1, 2):
            write_run(
                runs / f"base-seed-{seed}", seed, eight < 6, eight < 4, [0]
            )
        write_run(
            runs / "other-seed-2", 2, eight < 6, eight < 3, [0.25, 0.0125]
        )

    def test_rows_are_compared_where_seeds_are_shared(self):
        base, other = study.collect(self.rows, self.settings)
        self.assertEqual(base["difference"], {})
        self.assertEqual(base["accuracy"]["clean"]["value"], 0.75)
        self.assertEqual([seed["seed"] for seed in base["seeds"]], [1, 2])
        found = other["difference"]["pgd-50-10"]
        self.assertEqual((found["value"], found["seeds"]), (-0.125, 1))
        self.assertEqual(other["difference"]["clean"]["value"], 0)
        self.assertEqual(
            other["seeds"][0]["history"]["implicit_ratio"], [0.25, 0.0125]
        )

    def test_the_table(self):
        lines = study_table.table(study.collect(self.rows, self.settings))
        self.assertLen(lines, 4)
        self.assertStartsWith(
            lines[0], "| row | seeds | clean, last epoch | PGD-10, last epoch |"
        )
        self.assertStartsWith(lines[2], "| `base` | 2 | 75.0 | 50.0 |  | 75.0 ")
        self.assertStartsWith(lines[3], "| `other` | 1 | 75.0 | 37.5 | -12.5 (")
        self.assertIn("| 0.25 to 0.013 | 0.50 to 0.50 |", lines[3])

    def test_the_plot(self):
        figure = study_table.draw(
            study.collect(self.rows, self.settings), "title"
        )
        left, right = figure.axes
        self.assertEqual(
            [label.get_text() for label in left.get_yticklabels()], ["other"]
        )
        self.assertLen(right.lines, 1)

    def test_files(self):
        found = study.collect(self.rows, self.settings)
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        study.write(
            found,
            "the command",
            self.settings._replace(
                json=str(folder / "study.json"),
                keep_results=str(folder / "all"),
            ),
        )
        written = json.loads((folder / "study.json").read_text())
        self.assertEqual(written["command"], "the command")
        self.assertLen(written["rows"], 2)
        self.assertLen(list((folder / "all").iterdir()), 3)


if __name__ == "__main__":
    absltest.main()
