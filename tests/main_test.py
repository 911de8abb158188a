"""Training from the command line: refusals, verbosity, averaging."""

import csv
import json

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest

from fastbat_tf.data import loading
from tests.support.command_line import TINY, CommandLineTest, main, main_here


class UnusableTest(CommandLineTest):
    """Errors that are found once TensorFlow is loaded, before any work."""

    def test_run_dir_below_a_file(self):
        file = self.directory / "file"
        file.write_text("")
        process = main(*TINY, f"--run_dir={file}/run")
        self.assert_refused(process, f"writable directory.*run_dir={file}/run$")
        self.assertEqual(list(self.directory.iterdir()), [file])

    def test_export_of_no_run(self):
        process = main_here("--mode=export", f"--run_dir={self.run_dir}")
        self.assert_refused(
            process, f"expected to hold a run.* run_dir={self.run_dir}$"
        )
        self.assert_nothing_written()

    def test_batch_larger_than_the_training_split(self):
        process = main_here(
            *TINY, "--batch_size=500", f"--run_dir={self.run_dir}"
        )
        self.assert_refused(process, "400 images.* batch_size=500$")
        self.assert_nothing_written()

    def test_more_examples_than_the_test_split_has(self):
        process = main_here(
            *TINY, "--max_examples=1001", f"--run_dir={self.run_dir}"
        )
        self.assert_refused(process, r"\[0, 1000\].* max_examples=1001$")
        self.assert_nothing_written()

    def test_no_data_and_no_network(self):
        data_dir = self.directory / "data"
        data_dir.mkdir()
        process = main(
            "--dataset=cifar10",
            f"--data_dir={data_dir}",
            f"--run_dir={self.run_dir}",
            # A proxy that does not answer, as without a network.
            https_proxy="http://127.0.0.1:9",
            no_proxy="",
        )
        self.assert_refused(
            process,
            "cifar10 is not prepared, and cannot be downloaded.* "
            "--data_dir=DIR .*https://www.cs.toronto.edu/.* "
            f"--dataset=cifar10_mini.* data_dir={data_dir}$",
        )
        self.assertEqual(list(self.directory.rglob("*")), [data_dir])

    def test_a_training_that_diverges(self):
        process = main(
            *TINY,
            "--method=standard",
            "--learning_rate=1e30",
            "--schedule=constant",
            f"--run_dir={self.run_dir}",
        )
        self.assertEqual(process.returncode, 2, process.stderr)
        self.assertNotIn("Traceback", process.stderr)
        self.assertRegex(
            process.stderr.splitlines()[-1],
            r"^error: The (loss|gradient norm) is not finite in epoch 1, "
            r"step [23]; .* Received: \w+=(nan|-?inf)$",
        )
        self.assertFalse((self.run_dir / "results.json").exists())


class VerbosityTest(CommandLineTest):
    def test_of_a_training(self):
        """For the same training, from its first step or when it has ended."""
        flags = (
            *TINY,
            "--method=fastat",
            "--on_overfitting=warn",
            "--epochs=1",
            f"--run_dir={self.run_dir}",
        )
        more = main(*flags, "--verbosity=1")
        self.assertEqual(more.returncode, 0, more.stderr)
        self.assertIn("Running on ", more.stdout)
        # All other logs of an epoch, below its line.
        self.assertRegex(
            more.stdout,
            r"\n[0-9:]{8}   1/1 .*\n[0-9:]{8} \w+ +\S+ +\w+ +\S+\n"
            r"( {9}\w.*\n)+",
        )
        for name in ("overfitting_alarm", "robust_gradient_norm", "val_fgsm"):
            self.assertRegex(more.stdout, rf"[ ]{name}\w* +-?\d")
        self.assertIn("pgd-2-1, epsilon 8/255: ", more.stdout)
        # All settings, with the default of those that have another.
        self.assertRegex(more.stdout, r"\n +--step_size=10/255\n")
        self.assertRegex(more.stdout, r"\ntraining +--epochs=1 +default 20\n")
        self.assertNotIn("other settings", more.stdout)
        less = main(*flags, "--verbosity=-1")
        self.assertEqual(less.returncode, 0, less.stderr)
        self.assertStartsWith(less.stdout, "method: fastat\nattack ")
        self.assertNotIn(str(self.run_dir), less.stdout)
        self.assertIn(less.stdout, more.stdout)


@pytest.mark.slow
class AveragingTest(CommandLineTest):
    def test_the_better_of_raw_and_averaged_weights(self):
        process = main(
            *TINY,
            "--method=fastat",
            "--weight_averaging=0.5",
            "--label_smoothing=0.1",
            "--optimizer=adamw",
            "--learning_rate=0.02",
            f"--run_dir={self.run_dir}",
        )
        self.assertEqual(process.returncode, 0, process.stderr)
        with (self.run_dir / "history.csv").open() as file:
            rows = list(csv.DictReader(file))
        candidates = [
            (float(row[f"{kind}robust_accuracy"]), kind, row)
            for row in rows
            for kind in ("val_", "val_averaged_")
        ]
        self.assertLen(candidates, 4)
        # `max` keeps the first of a tie, as the run does.
        _, kind, row = max(candidates, key=lambda candidate: candidate[0])
        results = json.loads((self.run_dir / "results.json").read_text())
        self.assertEqual(results["weights"], f"best {kind}robust_accuracy")
        # The exported model has those weights: its accuracy is the same.
        splits = loading.load("cifar10_mini", validation_share=0.9)
        images, labels = splits.validation
        model = tf.saved_model.load(self.run_dir / "saved_model")
        answer = model.signatures["serving_default"](
            images=tf.constant(images[:40].astype(np.float32) / 255)
        )
        accuracy = np.mean(answer["classes"].numpy() == labels[:40])
        self.assertAlmostEqual(accuracy, float(row[f"{kind}clean_accuracy"]))


if __name__ == "__main__":
    absltest.main()
