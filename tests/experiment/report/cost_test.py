"""Tests of the section about cost and commands."""

import csv
import json
import shlex
import statistics

from absl.testing import absltest, flagsaver, parameterized

import flags
from fastbat_tf.experiment.config import Config
from fastbat_tf.experiment.report import (
    commands,
    cost,
    suggestions,
)
from fastbat_tf.experiment.report.blocks import Picture, Table, Text
from tests import recipes_test
from tests.support import written_evaluations, written_runs
from tests.support.runs_test_case import RunsTestCase
from tests.support.written_evaluations import write_json

MARK = "python main.py "


class CostTest(RunsTestCase):
    def blocks(self, *names):
        return cost.blocks(self.records(*names))

    def record(self, name):
        (found,) = self.records(name)
        return found

    def rows(self, blocks):
        """The rows of the tables, by their headings."""
        tables = [block for block in blocks if isinstance(block, Table)]
        return {row[0]: row[1:] for table in tables for row in table.rows[1:]}

    def texts(self, blocks, kind="code"):
        return [
            b.text for b in blocks if isinstance(b, Text) and b.kind == kind
        ]

    def read(self, name, file):
        path = self.directory / name / file
        if path.suffix == ".json":
            return json.loads(path.read_text())
        with path.open() as opened:
            return list(csv.DictReader(opened))

    def change(self, name, **settings):
        path = self.directory / name / "config.json"
        write_json(path, {**self.read(name, "config.json"), **settings})

    def set_seconds(self, name, *seconds):
        path = self.directory / name / "timing.csv"
        rows = [f"{k},{s}" for k, s in enumerate(seconds, start=1)]
        path.write_text("\n".join(["epoch,seconds", *rows]) + "\n")


class NumbersTest(CostTest):
    def test_equal_the_files(self):
        self.write("run")
        written_runs.measure(
            self.directory / "run", "more", attacks=("square",)
        )
        found = self.blocks("run")
        results = self.read("run", "results.json")
        config = self.read("run", "config.json")
        timing = self.read("run", "timing.csv")
        seconds = [float(row["seconds"]) for row in timing]
        measured = sum(row["seconds"] for row in results["attacks"])
        self.assertEqual(
            self.rows(found),
            {
                "training": (f"{results['training_seconds']:.1f} s",),
                "epochs": (str(len(timing)),),
                "seconds an epoch": (
                    f"{statistics.median(seconds):.1f} s "
                    f"({min(seconds):.1f} s to {max(seconds):.1f} s)",
                ),
                "first step, with compilation": (
                    f"{float(timing[0]['first_step_seconds']):.1f} s",
                ),
                "evaluation": (f"{measured:.1f} s",),
                "peak memory": ("1.50 GB",),
                "device": ("NVIDIA H100",),
                "kind": ("GPU",),
                "replicas": ("1",),
                "CPU cores": ("16",),
                "platform": ("Linux",),
                "XLA": ("on",),
                "seed": (str(config["training"]["seed"]),),
                "started": ("2026-11-26 10:00:00 UTC",),
                "directory": (str(self.directory / "run"),),
                **{k: (v,) for k, v in config["versions"].items()},
            },
        )
        self.assertEqual(
            found[0].text,
            "Training took 31.0 s (run, 6.2 s an epoch, on NVIDIA H100). The "
            "commands below repeat it.",
        )

    def test_several_runs(self):
        self.write("short", epochs=2)
        self.write("long", epochs=6, old=True)
        found = self.blocks("long", "short")
        self.assertStartsWith(
            found[0].text, "Training took from 19.0 s (short, 9.4 s an epoch"
        )
        rows = self.rows(found)
        self.assertEqual(rows["epochs"], ("6", "2"))
        self.assertEqual(rows["device"], ("–", "NVIDIA H100"))
        self.assertEqual(rows["tensorflow"], ("2.21.0",))  # The same in all.
        self.assertEqual(self.texts(found, "heading"), ["long", "short"])

    def test_epochs_that_vary_are_drawn(self):
        self.write("even")
        self.assertFalse(
            [b for b in self.blocks("even") if isinstance(b, Picture)]
        )
        self.write("uneven")
        self.set_seconds("uneven", 9.0, 3.0, 7.0, 4.0)
        found = self.blocks("even", "uneven")
        (picture,) = [b for b in found if isinstance(b, Picture)]
        text = picture.content.decode()
        for label in "uneven", "seconds", "epoch":
            self.assertIn(f">{label}</text>", text)
        self.assertNotIn(">even</text>", text)
        self.assertIn("uneven 5.5 s (3.0 s to 9.0 s)", picture.alt)

    def test_an_unfinished_run(self):
        self.write("run", unfinished=True)
        found = self.blocks("run")
        self.assertRegex(found[0].text, r"^Training took 31\.2 s so far \(run")
        rows = self.rows(found)
        self.assertEqual(rows["training"], ("31.2 s so far",))
        self.assertNotIn("evaluation", rows)

    def test_a_run_without_any_epoch(self):
        self.write("run", unfinished=True, old=True)
        for name in "history.csv", "timing.csv":
            (self.directory / "run" / name).unlink()
        found = self.blocks("run")
        self.assertEqual(
            found[0].text, "No epoch of the training has ended yet."
        )
        self.assertLen(self.texts(found), 1)

    def test_an_evaluation_alone(self):
        path = self.directory / "alone"
        written_evaluations.write_evaluation(path, model="my model.keras")
        found = self.blocks("alone")
        self.assertRegex(found[0].text, r"^The evaluation took \d+\.\d s; what")
        self.assertEqual(
            self.texts(found),
            [
                f"{MARK}--mode=evaluate --model_path='my model.keras' "
                "--attacks=pgd-10-1,fgsm --epsilons=8/255 --max_examples=200"
            ],
        )

    def test_an_evaluation_of_a_model_says_on_which_data(self):
        path = self.directory / "alone"
        results = written_evaluations.write_evaluation(path, model="m.keras")
        data = {"dataset": "folder", "data_dir": "my images"}
        written_evaluations.write_json(
            path / "results.json", {**results, "data": data}
        )
        (command,) = self.texts(self.blocks("alone"))
        self.assertIn(
            "--model_path=m.keras --dataset=folder --data_dir='my images' ",
            command,
        )
        better = suggestions.evaluate(self.record("alone"), ["fgsm"])
        self.assertIn(" --dataset=folder '--data_dir=my images' ", better)

    def test_an_evaluation_in_the_directory_of_its_run(self):
        self.write("run")
        written_runs.measure(self.directory / "run", "more")
        alone = self.record("run/evaluations/more")
        place = f"--run_dir={self.directory / 'run'}"
        (command,) = commands.of_evaluations(alone)
        self.assertIn(place, command)
        self.assertIn(place, suggestions.evaluate(alone, ["fgsm"]))

    def test_an_evaluation_of_an_unknown_model(self):
        written_evaluations.write_evaluation(self.directory / "alone")
        found = self.blocks("alone")
        self.assertEmpty(self.texts(found))
        (note,) = self.texts(found, "note")
        self.assertIn("cannot be told", note)


class CommandTest(CostTest):
    def assert_trains(self, command, config):
        self.assertStartsWith(command, MARK)
        arguments = shlex.split(command.removeprefix(MARK))
        found = recipes_test.parse([*arguments, "--run_dir=here"])
        self.assertEqual(found, config)

    def config(self, name):
        groups = self.read(name, "config.json")
        return Config.from_dict(groups)

    def test_the_recorded_one(self):
        self.write("run")
        self.change("run", command="fastbat-tf --run_dir='a b' --epochs=4")
        found = self.blocks("run")
        self.assertEqual(
            self.texts(found), ["fastbat-tf --run_dir='a b' --epochs=4"]
        )
        self.assertIn(
            "give it another --run_dir", self.texts(found, "text")[-1]
        )

    @parameterized.parameters("fastbat", "standard", "pgd")
    def test_a_run_of_the_version_before(self, method):
        self.write("run", method, old=True)
        found = self.blocks("run")
        (command,) = self.texts(found)
        self.assert_trains(command, self.complete("run"))
        said = self.texts(found, "note")[-1]
        self.assertIn("does not record its command", said)

    def complete(self, name):
        """The config of a run, with what flags ask the zoo for."""
        groups = self.read(name, "config.json")
        groups["model"].update(width=64, activation="relu", stem="cifar")
        return Config.from_dict(groups)

    def test_of_several_seeds(self):
        seeds = self.directory / "seeds"
        written_runs.write_seeds(seeds, seeds=(0, 1, 10))
        self.assertEqual(
            self.texts(self.blocks("seeds")),
            [
                "\n".join(
                    f"{MARK}--method=fastbat --seed={seed}"
                    for seed in (0, 1, 10)
                )
            ],
        )

    def test_of_several_seeds_of_the_version_before(self):
        seeds = self.directory / "seeds"
        written_runs.write_seeds(seeds, seeds=(0, 1, 10), old=True)
        (command,) = self.texts(self.blocks("seeds"))
        with flagsaver.flagsaver():
            flags.parse(["main.py", *shlex.split(command.removeprefix(MARK))])
            parsed = flags.get_command()
        self.assertEqual(parsed.seeds, (0, 1, 10))
        config = self.complete("seeds/seed-1")
        self.assertEqual(parsed.config.with_seed(1), config)

    @parameterized.parameters(
        {"attacks": ("autoattack", "fgsm"), "epsilons": (4 / 255, 0.3)},
        {"norm": "l2", "epsilons": (0.5,), "seed": 3},
    )
    def test_of_an_evaluation(self, **evaluation):
        self.write("my run", norm="l2", options={"norm": "l2"}, epsilons=(1.0,))
        run = self.directory / "my run"
        evaluation = {"attacks": ("fgsm",), "norm": "linf", **evaluation}
        written_runs.measure(run, "more", examples=150, **evaluation)
        _, command = self.texts(self.blocks("my run"))
        with flagsaver.flagsaver():
            flags.parse(["main.py", *shlex.split(command.removeprefix(MARK))])
            parsed = flags.get_command()
        self.assertEqual((parsed.mode, parsed.run_dir), ("evaluate", str(run)))
        found = parsed.config.evaluation
        self.assertEqual(found.max_examples, 150)
        self.assertEqual(found.seed, evaluation.get("seed", 0))
        for name in "attacks", "epsilons", "norm":
            self.assertEqual(getattr(found, name), evaluation[name])

    def test_of_an_evaluation_in_a_run(self):
        self.write("run")
        found = self.blocks("run/evaluations/training")
        self.assertEqual(
            self.texts(found),
            [
                f"{MARK}--mode=evaluate --run_dir={self.directory}/run "
                "--attacks=pgd-10-1,fgsm --epsilons=8/255 --max_examples=200"
            ],
        )

    def test_of_an_evaluation_with_a_surrogate(self):
        """The files have its checksum alone."""
        self.write("run")
        written_runs.measure(
            self.directory / "run", "more", attacks=("square",)
        )
        path = self.directory / "run/evaluations/more/settings.json"
        settings = json.loads(path.read_text())
        write_json(path, {**settings, "surrogate": 123})
        found = self.blocks("run")
        self.assertLen(self.texts(found), 1)
        self.assertIn("surrogate", self.texts(found, "note")[-1])

    def test_settings_that_no_command_makes(self):
        self.write("run", old=True)
        config = self.read("run", "config.json")
        evaluation = {**config["evaluation"], "validation_norm": "l2"}
        self.change("run", evaluation=evaluation)
        found = self.blocks("run")
        self.assertEmpty(self.texts(found))
        self.assertRegex(self.texts(found, "note")[-1], "^No command")

    def test_settings_of_another_version(self):
        self.write("run", old=True)
        self.change("run", training={"invented": 1, "seed": 5})
        found = self.blocks("run")
        self.assertEqual(self.rows(found)["seed"], ("5",))
        self.assertRegex(self.texts(found, "note")[-1], "^No command")

    def test_bits(self):
        self.write("run")
        said = self.texts(self.blocks("run"), "text")[-1]
        self.assertIn("only with --deterministic", said)
        config = self.read("run", "config.json")
        runtime = {**config["runtime"], "deterministic": True}
        self.change("run", runtime=runtime)
        said = self.texts(self.blocks("run"), "text")[-1]
        self.assertNotIn("--deterministic", said)


if __name__ == "__main__":
    absltest.main()
