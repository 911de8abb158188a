"""The guard, the schedule of epsilon and several seeds, from the command line.

A threshold close to 0 stands for a collapse; the real one is marked slow.
"""

import csv
import json
import statistics

import pytest
from absl.testing import absltest

from tests.support.command_line import (
    NARROW,
    TINY,
    CommandLineTest,
    main,
    main_here,
)


class MainTest(CommandLineTest):
    small = NARROW

    def train(self, *flags):
        process = main(*self.small, f"--run_dir={self.run_dir}", *flags)
        self.assertEqual(process.returncode, 0, process.stderr)
        return process.stdout

    def history(self):
        with (self.run_dir / "history.csv").open(newline="") as stream:
            return list(csv.DictReader(stream))

    def column(self, name):
        return [float(row[name]) for row in self.history()]


class OverfittingTest(MainTest):
    @pytest.mark.slow
    def test_stop(self):
        flags = (
            "--method=fgsm",
            "--epsilon=16/255",
            "--width=4",
            "--epochs=5",
            "--batch_size=40",
            "--learning_rate=0.05",
            "--on_overfitting=stop",
            "--overfitting_threshold=1e-9",
            "--validation_attack=pgd-10-1",
            "--validation_examples=400",
        )
        output = self.train(*flags)
        alarms = self.column("overfitting_alarm")
        # FGSM and PGD may not differ at all in the first epochs.
        self.assertEqual(sum(alarms), 1)
        self.assertEqual(alarms[-1], 1)
        self.assertRegex(output, "Catastrophic overfitting .* Training ends")
        self.assertTrue((self.run_dir / "saved_model").is_dir())
        # Killed during the measurement: nothing is left to train.
        (self.run_dir / "results.json").unlink()
        kept = self.run_dir / "evaluations" / "training" / "kept"
        kept.touch()
        self.train(*flags)
        # The results of the measurement are kept.
        self.assertTrue(kept.exists())
        self.assertEqual(self.column("overfitting_alarm"), alarms)

    @pytest.mark.slow
    def test_rollback_with_schedule(self):
        output = self.train(
            "--method=nfgsm",
            "--epochs=4",
            "--clean_epochs=1",
            "--epsilon_ramp_epochs=2",
            "--training_examples=300",
            "--on_overfitting=rollback",
            "--rollback_factor=0.25",
            "--overfitting_threshold=0.999",
        )
        self.assertNotIn("Catastrophic", output)
        # 3 batches per epoch; the last share of each epoch.
        self.assertEqual(self.column("robust_epsilon_share"), [0, 0.5, 1, 1])
        for name in (
            "val_fgsm_accuracy",
            "val_overfitting_gap",
            "val_gradient_alignment",
        ):
            self.assertGreater(len(set(self.column(name))), 1)
        self.assertTrue((self.run_dir / "checkpoints" / "good.npz").exists())
        # The best weights are read without the schedule.
        process = main("--mode=export", f"--run_dir={self.run_dir}")
        self.assertEqual(process.returncode, 0, process.stderr)

    def test_too_many_examples(self):
        process = main_here(
            *TINY, f"--run_dir={self.run_dir}", "--training_examples=4001"
        )
        self.assert_refused(
            process, "`training_examples` .* at most 400, .*=4001$"
        )

    @pytest.mark.slowest
    def test_a_collapse(self):
        """FGSM without a random start at 16/255 overfits."""
        flags = (
            "--method=fgsm",
            "--epsilon=16/255",
            "--validation_share=0.1",
            "--width=8",
            "--epochs=20",
            "--batch_size=64",
            "--noaugment",
            "--learning_rate=0.03",
            "--validation_attack=pgd-10-1",
            "--validation_examples=400",
            "--overfitting_threshold=0.06",
        )
        output = self.train(*flags)
        self.assertIn("Catastrophic overfitting in epoch", output)
        alarms = self.column("overfitting_alarm")
        self.assertGreater(sum(alarms[-4:]), 1)
        # The sign of it: no image withstands PGD any more.
        self.assertLess(self.column("val_robust_accuracy")[-1], 0.05)
        self.assertGreater(self.column("perturbed_accuracy")[-1], 0.5)


class SeedsTest(MainTest):
    small = (*NARROW, "--on_overfitting=off")

    @pytest.mark.slow
    def test_seeds(self):
        flags = "--seeds=5,1", "--method=fgsm", "--epochs=1"
        output = self.train(*flags)
        summary = json.loads((self.run_dir / "seeds.json").read_text())
        self.assertEqual(summary["seeds"], [5, 1])
        results = [
            json.loads((self.run_dir / f"seed-{seed}/results.json").read_text())
            for seed in (5, 1)
        ]
        configs = [
            json.loads((self.run_dir / f"seed-{seed}/config.json").read_text())
            for seed in (5, 1)
        ]
        self.assertEqual([c["training"]["seed"] for c in configs], [5, 1])
        for seed, recorded in zip((5, 1), configs, strict=True):
            self.assertNotIn("--seeds", recorded["command"])
            self.assertEndsWith(
                recorded["command"],
                f" --run_dir={self.run_dir}/seed-{seed} --seed={seed}",
            )
        clean, attack = summary["rows"]
        for row, accuracies in (
            (clean, [each["clean_accuracy"] for each in results]),
            (attack, [r["attacks"][0]["robust_accuracy"] for r in results]),
        ):
            self.assertEqual(row["accuracies"], accuracies)
            self.assertAlmostEqual(row["mean"], sum(accuracies) / 2)
            self.assertAlmostEqual(
                row["standard_deviation"], statistics.stdev(accuracies)
            )
        self.assertNotEqual(*clean["accuracies"])
        self.assertRegex(
            output, rf"none \(clean\) +{100 * clean['mean']:.2f}% +\d+\.\d\d "
        )
        self.assertIn("40 examples, seeds 5, 1.", output)
        # What holds for both is told once.
        self.assertRegex(output, r"\n +--seeds=5,1\n")
        self.assertNotIn("--seed=", output)
        for text in (*results[0]["notes"], "--dataset", " Running on "):
            self.assertEqual(output.count(text), 1, text)

        # Adding a seed trains only that one.
        output = self.train("--seeds=5,1,2", *flags[1:])
        self.assertEqual(output.count("This run is finished"), 2)
        summary = json.loads((self.run_dir / "seeds.json").read_text())
        self.assertLen(summary["rows"][0]["accuracies"], 3)


if __name__ == "__main__":
    absltest.main()
