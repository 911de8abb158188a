"""What TensorBoard shows about a run as a whole."""

import dataclasses
import math
import pathlib
import re
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized
from tensorboard.plugins.custom_scalar import layout_pb2

from fastbat_tf.experiment import tensorboard
from fastbat_tf.experiment.config import (
    Config,
    DataConfig,
    EvaluationConfig,
    MethodConfig,
    OverfittingConfig,
    TrainingConfig,
)
from fastbat_tf.experiment.run_directory import RunDirectory
from tests.support import event_files

ROW = {"attack": "pgd-2-1", "norm": "linf", "examples": 40}
RESULTS = {
    "clean_accuracy": 0.75,
    "best_epoch": 2,
    "attacks": [
        {**ROW, "epsilon": 8 / 255, "robust_accuracy": 0.5},
        {**ROW, "epsilon": 16 / 255, "robust_accuracy": 0.125},
    ],
    "worst_case": [{**ROW, "epsilon": 8 / 255, "robust_accuracy": 0.25}],
}


def logs(epoch):
    return {
        "val_clean_accuracy": epoch / 8,
        "val_robust_accuracy": epoch / 16,
        "val_averaged_clean_accuracy": epoch / 4,
        "val_averaged_robust_accuracy": epoch / 32,
    }


class RunSummaryTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        scratch = self.enterContext(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(scratch)
        self.best = mock.Mock(best=-math.inf, column=None)

    def begin(self, name, config):
        """Begins a process of a training."""
        directory = RunDirectory(self.path / name)
        directory.create(config)
        directory.unlock()
        summary = tensorboard.RunSummary(config, directory, self.best)
        summary.on_train_begin()
        return summary, directory

    def read(self, directory):
        return event_files.read(directory.tensorboard / "results")

    def test_plugins(self):
        _, directory = self.begin("run", Config())
        found = self.read(directory)
        self.assertEqual(
            {tag: series.plugin for tag, series in found.items()},
            {
                "_hparams_/session_start_info": "hparams",
                "custom_scalars__config__": "custom_scalars",
                "command": "text",
                "settings": "text",
                "versions": "text",
            },
        )
        (layout,) = found["custom_scalars__config__"].values
        parsed = layout_pb2.Layout.FromString(layout.item())
        self.assertEqual(parsed, tensorboard.layout_of(Config()))

    def test_rows(self):
        """One of each training, whatever its method, also of several seeds."""
        standard = Config(method=MethodConfig("standard"))
        for name, config in (
            ("run", Config()),
            ("seeds/seed-0", standard.with_seed(0)),
            ("seeds/seed-1", standard.with_seed(1)),
        ):
            _, directory = self.begin(name, config)
        tensorboard.write_results(config, directory, RESULTS)
        rows = event_files.hparams(self.path)
        self.assertEqual(
            sorted(rows),
            [
                f"run ({self.path})",
                f"seeds/seed-0 ({self.path})",
                f"seeds/seed-1 ({self.path})",
            ],
        )
        first, second, third = (rows[name] for name in sorted(rows))
        self.assertEqual(first["epsilon"], "8/255")
        self.assertEqual(first["implicit_lambda"], 10)
        self.assertNotIn("test/clean_accuracy", first)
        self.assertEqual((second["seed"], third["seed"]), (0, 1))
        self.assertEqual(third["test/clean_accuracy"], 0.75)
        self.assertEqual(third["test/robust_accuracy"], 0.25)

    @parameterized.parameters(
        ("val_robust_accuracy", {1: 0.125, 3: 0.375}),
        ("val_averaged_robust_accuracy", {1: 0.25, 3: 0.75}),
    )
    def test_a_run_that_is_killed(self, column, expected):
        """The checkpoint puts its files back: no point or row appears twice."""
        config = Config()
        summary, directory = self.begin("run", config)
        self.best.column = column
        self.best.best = 0.1
        summary.on_epoch_end(0, logs(1))
        summary.on_epoch_end(1, logs(2))  # It is not better.
        copy = self.path / "copy"
        shutil.copytree(directory.tensorboard, copy)
        self.best.best = 0.2
        summary.on_epoch_end(2, logs(3))
        shutil.rmtree(directory.tensorboard)
        shutil.move(copy, directory.tensorboard)
        self.best.best = 0.1
        summary, directory = self.begin("run", config)
        self.best.best = 0.2
        summary.on_epoch_end(2, logs(3))
        summary.on_train_end()
        tensorboard.write_results(config, directory, RESULTS, has_ended=True)
        found = event_files.scalars(directory.tensorboard / "results")
        self.assertEqual(found["validation_best/clean_accuracy"], expected)
        for tag in "_hparams_/session_start_info", "settings":
            self.assertLen(self.read(directory)[tag].steps, 1)
        (row,) = event_files.hparams(self.path).values()
        self.assertEqual(row["validation_best/clean_accuracy"], expected[3])
        self.assertEqual(row["test/clean_accuracy"], 0.75)

    def test_results_are_replaced(self):
        """Also of a run of a version that wrote no settings."""
        config = Config()
        directory = RunDirectory(self.path)
        directory.create(config)
        tensorboard.write_results(config, directory, RESULTS)
        lower = dict(RESULTS["attacks"][0], robust_accuracy=0.125)
        results = dict(RESULTS, attacks=[*RESULTS["attacks"], lower])
        del results["best_epoch"]
        tensorboard.write_results(config, directory, results)
        found = event_files.scalars(directory.tensorboard / "results")
        self.assertEqual(found["test/robust_accuracy"], {0: 0.125})
        self.assertLen(event_files.hparams(self.path), 1)

    def test_results_in_another_radius(self):
        """Of the first radius, if none is that of the validation."""
        config = Config(evaluation=EvaluationConfig(validation_epsilon=4 / 255))
        directory = RunDirectory(self.path)
        directory.create(config)
        for results, expected in (
            (RESULTS, {2: 0.25}),
            ({"clean_accuracy": 0.5}, None),
        ):
            tensorboard.write_results(config, directory, results)
            found = event_files.scalars(directory.tensorboard / "results")
            self.assertEqual(found.get("test/robust_accuracy"), expected)


class SettingsTest(parameterized.TestCase):
    def test_hyperparameters(self):
        config = Config(
            data=DataConfig("cifar10", data_dir="there"),
            method=MethodConfig("fastat", {"epsilon": 4 / 255}),
            training=TrainingConfig(epochs=3, weight_averaging=0.9),
            evaluation=EvaluationConfig(max_examples=50),
        )
        self.assertEqual(
            tensorboard.hyperparameters(config),
            {
                "method": "fastat",
                "dataset": "cifar10",
                "model": "preact_resnet18",
                "epochs": 3,
                "batch_size": 128,
                "optimizer": "sgd",
                "learning_rate": 0.2,
                "schedule": "cyclic",
                "weight_decay": 0.0005,
                "seed": 37,
                "epsilon": "4/255",
                "step_size": "5/255",
                "norm": "linf",
                "weight_averaging": 0.9,  # It is not the default.
            },
        )

    @parameterized.parameters("warn", "off")
    def test_layout(self, action):
        config = Config(overfitting=OverfittingConfig(action))
        (category,) = tensorboard.layout_of(config).category
        shown = {
            chart.title: {
                tag
                for tag in (
                    "epoch_clean_accuracy",
                    "epoch_fgsm_accuracy",
                    "epoch_robust_accuracy",
                    "epoch_averaged_clean_accuracy",
                    "epoch_averaged_robust_accuracy",
                    "epoch_overfitting_gap",
                    "epoch_gradient_alignment",
                    "epoch_loss",
                    "epoch_learning_rate",
                    "epoch_perturbed_accuracy",
                    "batch_loss",
                    "batch_accuracy",
                    "batch_perturbed_accuracy",
                )
                if any(re.match(regex, tag) for regex in chart.multiline.tag)
            }
            for chart in category.chart
        }
        gap = shown.pop("FGSM-PGD gap, gradient alignment", None)
        expected = {"epoch_overfitting_gap", "epoch_gradient_alignment"}
        self.assertEqual(gap, None if action == "off" else expected)
        self.assertEqual(
            shown,
            {
                "Clean, FGSM and PGD accuracy (validation)": {
                    "epoch_clean_accuracy",
                    "epoch_fgsm_accuracy",
                    "epoch_robust_accuracy",
                    "epoch_averaged_clean_accuracy",
                    "epoch_averaged_robust_accuracy",
                },
                "Loss (train), by epoch": {"epoch_loss"},
                "Loss (train), by step": {"batch_loss"},
                "Accuracy (train), by step": {
                    "batch_accuracy",
                    "batch_perturbed_accuracy",
                },
                "Learning rate": {"epoch_learning_rate"},
            },
        )

    def test_texts(self):
        config = Config(method=MethodConfig("fastat"))
        texts = tensorboard.texts(
            config,
            {
                "command": "python main.py --method=fastat '--data_dir=a b'",
                "versions": {"keras": "3.15"},
                "environment": {"device": "a|b"},
            },
        )
        self.assertIn(
            "Begun with\n\n```\npython main.py \\\n    --method=fastat \\\n"
            "    '--data_dir=a b'\n```",
            texts["command"],
        )
        changed, others = texts["settings"].split("\n\n")
        self.assertIn("\n| method | fastat |", changed)
        self.assertNotIn("epochs", changed)
        self.assertIn("\n| epochs | 20 |", others)
        self.assertIn("\n| epsilon | 8/255 |", others)
        self.assertIn("| keras | 3.15 |", texts["versions"])
        self.assertIn("| device | a\\|b |", texts["versions"])
        self.assertNotIn("started", texts["versions"])
        # What was begun from Python has no command.
        other = dataclasses.replace(
            config, evaluation=EvaluationConfig(norm="l2", epsilons=(0.5,))
        )
        for given, expected in (
            (config, "python main.py \\\n    --method=fastat"),
            (other, "not known"),
        ):
            text = tensorboard.texts(given, {})["command"]
            self.assertIn(expected, text)
            self.assertNotIn("Begun with", text)


if __name__ == "__main__":
    absltest.main()
