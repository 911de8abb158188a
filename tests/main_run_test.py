"""One training from the command line to the files of its run."""

import csv
import json
import math
import pathlib
import re
import shlex
import shutil
import tempfile

import numpy as np
import tensorflow as tf
from absl.testing import absltest

from fastbat_tf.data import loading
from fastbat_tf.evaluation.inputs import choose
from tests.support import event_files
from tests.support.command_line import TINY, main, main_here


class TrainingTest(absltest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.run_dir = pathlib.Path(directory.name, "runs", "tiny")
        cls.flags = (
            *TINY,
            "--on_overfitting=warn",
            "--seed=3",
            f"--run_dir={cls.run_dir}",
        )
        cls.process = main(*cls.flags)
        if cls.process.returncode:
            raise AssertionError(cls.process.stderr)

    def read(self, name):
        return json.loads((self.run_dir / name).read_text())

    def history(self):
        with (self.run_dir / "history.csv").open() as file:
            return [
                {name: float(value) for name, value in row.items()}
                for row in csv.DictReader(file)
            ]

    def ask(self, images):
        """The output of the exported model, loaded without this library."""
        model = tf.saved_model.load(self.run_dir / "saved_model")
        pixels = tf.constant(images.astype(np.float32) / 255)
        return model.signatures["serving_default"](images=pixels)

    def accuracy(self, images, labels):
        """The accuracy of the exported model."""
        return (self.ask(images)["classes"].numpy() == labels).mean()

    def test_config(self):
        groups = self.read("config.json")
        for name in ("python", "tensorflow", "keras", "numpy"):
            self.assertRegex(groups["versions"][name], r"^\d+\.\d+")
        self.assertEqual(
            groups["command"], shlex.join(["python", "main.py", *self.flags])
        )
        self.assertRegex(groups["started"], r"^\d{4}-\d\d-\d\dT[\d:]{8}Z$")
        found = groups["environment"]
        self.assertRegex(found["kind"], "^[CG]PU$")
        self.assertEqual((found["replicas"], found["xla"]), (1, False))
        self.assertEqual(groups["training"]["seed"], 3)
        self.assertEqual(groups["training"]["learning_rate"], 0.2)
        self.assertEqual(
            groups["method"],
            {
                "method": "fastbat",
                "options": {
                    "epsilon": 8 / 255,
                    "step_size": 5000 / 255,
                    "implicit_lambda": 10.0,
                    "linearization": "ns-pgd",
                    "implicit_gradient": "exact",
                    "norm": "linf",
                    "implicit_clip": math.inf,
                    "interior_fraction": None,
                },
            },
        )
        self.assertEqual(groups["evaluation"]["epsilons"], [8 / 255])
        self.assertEqual(groups["evaluation"]["validation_epsilon"], 8 / 255)

    def test_history(self):
        rows = self.history()
        self.assertEqual([row["epoch"] for row in rows], [1, 2])
        # The cyclic schedule ends near 0.
        rates = [row["learning_rate"] for row in rows]
        self.assertGreater(rates[0], rates[1])
        for row in rows:
            self.assertTrue(np.isfinite(list(row.values())).all(), row)
            self.assertBetween(row["loss"], 0.5, 10)
            self.assertBetween(row["perturbed_accuracy"], 0, 1)
            self.assertBetween(row["val_clean_accuracy"], 0, 1)
            self.assertBetween(row["val_robust_accuracy"], 0, 1)
            self.assertLessEqual(
                row["val_robust_accuracy"], row["val_clean_accuracy"]
            )
            self.assertBetween(row["robust_interior_fraction"], 0.001, 0.999)
            self.assertGreater(row["robust_implicit_ratio"], 0)
            self.assertBetween(row["robust_implicit_cosine"], -1, 1)
            self.assertGreater(row["robust_gradient_norm"], 0)

    def test_checkpoints(self):
        for name in ("best", "last"):
            file = self.run_dir / "checkpoints" / f"{name}.weights.h5"
            self.assertGreater(file.stat().st_size, 10_000)

    def test_tensorboard(self):
        found = {
            (directory, tag): series
            for directory in ("train", "validation", "results")
            for tag, series in event_files.read(
                self.run_dir / "tensorboard" / directory
            ).items()
        }
        for name in self.history()[0]:
            if name == "epoch":
                continue
            directory, _, metric = name.rpartition("val_")
            directory = "validation" if directory or "val_" in name else "train"
            series = found[directory, f"epoch_{metric}"]
            self.assertEqual(series.steps, [1, 2])
            for value, row in zip(series.values, self.history(), strict=True):
                self.assertAlmostEqual(float(value), row[name], 5)
        series = found["train", "batch_loss"]
        self.assertEqual(series.steps, list(range(1, 9)))
        for number, row in enumerate(self.history()):
            losses = series.values[4 * number : 4 * number + 4]
            self.assertAlmostEqual(np.mean(losses), row["loss"], 4)
        series = found["validation", "clean, perturbed, difference"]
        self.assertEqual(series.steps, [1, 2])
        for value in series.values:
            self.assertGreater(min(event_files.picture(value).shape[:2]), 500)
        (row,) = event_files.hparams(self.run_dir).values()
        results = self.read("results.json")
        best = self.history()[results["best_epoch"] - 1]
        for name, expected in (
            ("method", "fastbat"),
            ("epsilon", "8/255"),
            ("seed", 3),
            ("test/clean_accuracy", results["clean_accuracy"]),
            ("test/robust_accuracy", results["attacks"][0]["robust_accuracy"]),
            ("validation_best/clean_accuracy", best["val_clean_accuracy"]),
            ("validation_best/robust_accuracy", best["val_robust_accuracy"]),
        ):
            if isinstance(expected, str):
                self.assertEqual(row[name], expected)
            else:
                self.assertAlmostEqual(row[name], expected, 5)
        (text,) = found["results", "command"].values
        self.assertIn(b"--seed=3", text.item())

    def test_results(self):
        results = self.read("results.json")
        self.assertEqual(results["examples"], 40)
        self.assertEqual(results["weights"], "best val_robust_accuracy")
        best = max(self.history(), key=lambda row: row["val_robust_accuracy"])
        self.assertEqual(results["best_epoch"], best["epoch"])
        with (self.run_dir / "timing.csv").open() as file:
            seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
        self.assertLen(seconds, 2)
        self.assertGreater(min(seconds), 0)
        self.assertAlmostEqual(results["training_seconds"], sum(seconds), 1)
        (row,) = results["attacks"]
        self.assertEqual(row["attack"], "pgd-2-1")
        self.assertEqual(row["epsilon"], 8 / 255)
        self.assertEqual(row["examples"], 40)
        # Not the training's seed: all runs are measured on the same images.
        self.assertEqual(row["seed"], 0)
        self.assertEqual(
            results["notes"],
            [
                "A class-balanced subset, drawn with seed 0: 40 of 1000 "
                "examples.",
                "The images are uint8: pixels were divided by 255.",
            ],
        )
        self.assertGreater(row["seconds"], 0)
        self.assertBetween(row["robust_accuracy"], 0, results["clean_accuracy"])

    def test_saved_model_is_what_was_measured(self):
        images, labels = loading.load("cifar10_mini").test
        index, _ = choose(labels, 40, seed=0)
        self.assertAlmostEqual(
            self.accuracy(images[index], labels[index]),
            self.read("results.json")["clean_accuracy"],
        )

    def test_saved_model_has_the_best_weights(self):
        splits = loading.load("cifar10_mini", validation_share=0.9)
        images, labels = splits.validation
        best = max(self.history(), key=lambda row: row["val_robust_accuracy"])
        self.assertAlmostEqual(
            self.accuracy(images[:40], labels[:40]), best["val_clean_accuracy"]
        )

    def test_output(self):
        output = self.process.stdout
        # The settings that are not the defaults, as one types them.
        self.assertRegex(
            output,
            r"^data +--dataset=cifar10_mini +default cifar10\n"
            r" +--validation_share=0\.9 +default 0\.1\n",
        )
        self.assertRegex(output, r"\nmethod +--method=fastbat\n")
        self.assertRegex(output, r"\n +--epsilon=8/255\n")
        self.assertRegex(output, r"\ntraining +--epochs=2 +default 20\n")
        for name in ("--step_size", "--linearization", "--learning_rate"):
            self.assertNotIn(name, output)
        self.assertIn("\nAll other settings are the defaults; ", output)
        self.assertRegex(
            output, r":\d\d Running on [CG]PU, replicas: \d, XLA: (on|off)"
        )
        if "Running on CPU" in output:
            forecast = r"s/step: about \d+ s for all 2 epochs"
            self.assertLen(re.findall(forecast, output), 1)
        results = self.read("results.json")
        lines = output.splitlines()
        table = lines[lines.index("method: fastbat") + 1 :]
        rows = [re.split(r"\s{2,}", line) for line in table[:3]]
        self.assertEqual(
            rows[0],
            [
                "attack",
                "epsilon",
                "accuracy",
                "95 % interval",
                "worst class",
                "seconds",
            ],
        )
        clean = f"{results['clean_accuracy']:.2%}"
        self.assertEqual(rows[1][:2], ["none (clean)", clean])
        robust = f"{results['attacks'][0]['robust_accuracy']:.2%}"
        self.assertEqual(rows[2][:3], ["pgd-2-1", "8/255", robust])
        self.assertEqual(table[3], "40 examples, norm linf, seed 0.")
        # What was told once is not told again.
        for text in (*results["notes"], *results["warnings"]):
            self.assertEqual(output.count(text), 1, text)
        self.assertLen(results["notes"], 2)
        self.assertRegex(table[-3], r"^time: \d+ (s|min)$")
        self.assertEqual(table[-2], f"Run directory: {self.run_dir}")
        self.assertEqual(table[-1], f"Report: {self.run_dir}/report.html")
        self.assertNotIn("Traceback", self.process.stderr)

    def test_lines_of_a_pipe(self):
        """One for each epoch and stage, and no control characters."""
        for text in (self.process.stdout, self.process.stderr):
            self.assertNotRegex(text, r"[\x00-\x09\x0b-\x1f\x7f]")
        lines = self.process.stdout.splitlines()
        (start,) = (n for n, line in enumerate(lines) if " epoch " in line)
        self.assertRegex(
            lines[start],
            "^[0-9:]{8} epoch +loss  train +val  val robust  s/step +left$",
        )
        for number, row in enumerate(self.history(), 1):
            (line,) = (x for x in lines[start:] if f" {number}/2 " in x)
            self.assertRegex(
                line,
                rf"^\d\d:\d\d:\d\d +{number}/2 +{row['loss']:.3f} +\d+\.\d% +"
                rf"{row['val_clean_accuracy']:.1%} +"
                rf"{row['val_robust_accuracy']:.1%} +"
                r"\d+\.\d{3}" + (r" +\d+ \w+$" if number == 1 else "$"),
            )
            self.assertLess(len(line), 80)
        stages = [line for line in lines if "decided" in line]
        self.assertLen(stages, 1)
        self.assertRegex(
            stages[0],
            r"^[0-9:]{8} pgd-2-1, epsilon 8/255: (\d+) of \1 decided, \d+ "
            "robust, ",
        )

    def test_export_again(self):
        images = loading.load("cifar10_mini").test.images[:5]
        before = self.ask(images)
        directory = self.run_dir / "saved_model"
        kept = self.run_dir / "kept"
        directory.rename(kept)

        def restore():
            shutil.rmtree(directory, ignore_errors=True)
            kept.rename(directory)

        self.addCleanup(restore)
        process = main("--mode=export", f"--run_dir={self.run_dir}")
        self.assertEqual(process.returncode, 0, process.stderr)
        card = directory / "README.md"
        self.assertEqual(
            process.stdout, f"SavedModel: {directory}\nModel card: {card}\n"
        )
        self.assertNotIn("UserWarning", process.stderr)
        # The run that the training has ended says the same of itself.
        self.assertEqual(card.read_text(), (kept / "README.md").read_text())
        self.assertNotIn("has not ended", card.read_text())
        self.assertNotIn(str(self.run_dir.parent), card.read_text())
        after = self.ask(images)
        self.assertEqual(set(after), {"logits", "probabilities", "classes"})
        for name in after:
            np.testing.assert_allclose(after[name], before[name], rtol=1e-4)

    def files(self):
        return {
            path: path.read_bytes()
            for path in self.run_dir.rglob("*")
            if path.is_file()
        }

    def test_the_same_command_again(self):
        """It shows the results, and does nothing else."""
        before = self.files()
        # Another checkpoint interval does not make it a different run.
        process = main(*self.flags, "--save_every=5")
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(process.stderr, "")
        first = self.process.stdout
        table = first[
            first.index("method: fastbat\n") : first.index("\ntime: ")
        ]
        warned = json.loads((self.run_dir / "results.json").read_text())
        table = self.with_warnings(table, warned["warnings"])
        self.assertEqual(
            process.stdout, f"{table}\nThis run is finished: {self.run_dir}\n"
        )
        self.assertEqual(self.files(), before)

    def with_warnings(self, table, warned):
        """Replaces the line about the warnings above a table by these."""
        texts = "\n".join(f"WARNING: {text}" for text in warned)
        return re.sub(r"(?m)^\d+ warnings? above.*$", texts, table)

    def test_verbosity_of_an_evaluation(self):
        flags = (
            "--mode=evaluate",
            f"--run_dir={self.run_dir}",
            f"--results_dir={self.run_dir}/../verbosity",
            "--attacks=pgd-1-1",
            "--max_examples=20",
        )
        results = self.run_dir / "results.json"
        before = results.read_bytes()
        self.addCleanup(results.write_bytes, before)
        usual, less = main(*flags), main(*flags, "--verbosity=-1")
        self.assertEqual((usual.returncode, less.returncode), (0, 0))
        self.assertEqual(less.stderr, "")
        self.assertStartsWith(less.stdout, "attack  ")
        self.assertIn("pgd-1-1, epsilon 8/255: ", usual.stdout)
        warned = re.findall("(?m)^WARNING: (.*)$", less.stdout)
        report = f"Report: {self.run_dir}/report.html\n"
        self.assertEndsWith(
            self.with_warnings(usual.stdout, warned), less.stdout + report
        )
        for text in warned:
            self.assertEqual(usual.stdout.count(text), 1)

    def test_never_again(self):
        self.check_refused_again(
            "this run already", *self.flags, "--resume=never"
        )

    def test_another_run_in_the_same_directory(self):
        self.check_refused_again(
            "a different run already (epochs=2, seed=3)",
            *self.flags,
            "--seed=4",
            "--epochs=3",
        )

    def check_refused_again(self, what, *flags):
        before = self.files()
        process = main_here(*flags)
        self.assertEqual(process.returncode, 2, process.stderr)
        self.assertEqual(process.stdout, "")
        self.assertEqual(
            process.stderr.splitlines(),
            [
                f"error: `run_dir` holds {what}; expected a new "
                f"directory. Received: run_dir={self.run_dir}"
            ],
        )
        self.assertEqual(self.files(), before)


if __name__ == "__main__":
    absltest.main()
