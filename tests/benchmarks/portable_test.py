"""Tests the step without TensorFlow: its export, its run, its import."""

import csv
import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from benchmarks.portable import export, load
from fastbat_tf import models
from fastbat_tf.data import loading, pipeline
from fastbat_tf.errors import InputError
from fastbat_tf.experiment import building, config

ROOT = pathlib.Path(__file__).parents[2]
# Smooth, with a small step size, so that 20 steps do not amplify rounding.
# With ReLU and a step size of 5000/255, two steps of TensorFlow itself, one
# compiled and one not, are as far apart as the portable step from either.
SMOOTH = config.Config(
    data=config.DataConfig("cifar10_mini", validation_share=0.985),
    model=config.ModelConfig(width=4, activation="softplus"),
    method=config.MethodConfig("fastbat", {"step_size": 50 / 255}),
    training=config.TrainingConfig(
        epochs=20, batch_size=50, learning_rate=0.01
    ),
)


class ExportTest(parameterized.TestCase, tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.path = pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory())
        )
        small = config.ModelConfig(width=2)
        cls.config = dataclasses.replace(SMOOTH, model=small)
        cls.folder = export.export(cls.config, cls.path / "run", models.get)
        file = cls.folder / "step.json"
        cls.description = json.loads(file.read_text())

    def test_every_variable_of_the_training_is_replaced(self):
        inputs, outputs = (
            self.description[kind] for kind in ("inputs", "outputs")
        )
        arguments = [e["argument"] for e in inputs if "argument" in e]
        expected = ["images", "labels", "order", "epoch", "batch"]
        self.assertEqual(arguments, expected)
        states = [entry["state"] for entry in inputs if "state" in entry]
        after = [entry["state"] for entry in outputs if "state" in entry]
        constants = [state for state in states if "_constant" in state]
        self.assertLen(constants, 2)  # Mean and variance of the pixels.
        self.assertCountEqual(after, set(states) - set(constants))
        with np.load(self.folder / "state.npz") as initial:
            self.assertContainsSubset(states, initial)
        self.assertContainsSubset(self.description["metrics"], after)

    def test_initial_values_are_those_of_a_run(self):
        keras.utils.set_random_seed(self.config.training.seed)
        robust = building.build_robust(self.config, models.get)
        with np.load(self.folder / "state.npz") as initial:
            for variable in robust.classifier.variables:
                self.assertAllEqual(initial[variable.path], variable)

    def test_order_is_that_of_a_run(self):
        examples = load_splits(self.config).train
        batches = pipeline.training_batches(
            examples,
            50,
            self.config.training.seed,
            augmentation=self.config.data.augmentation,
        )
        with np.load(self.folder / "data.npz") as arrays:
            labels, order = arrays["labels"], arrays["order"]
        self.assertEqual(order.shape, (20, 1, 50))
        for (_, expected), chosen in zip(
            batches.take(3).as_numpy_iterator(), order[:3, 0], strict=True
        ):
            self.assertAllEqual(labels[chosen], expected)

    def test_directory_of_another_run(self):
        with self.assertRaisesRegex(InputError, "holds this run already"):
            export.export(self.config, self.path / "run", models.get)

    @parameterized.parameters(
        ({"model": config.ModelConfig("wrn10_1", dropout=0.1)}, "dropout=0.1"),
        (
            {"training": config.TrainingConfig(weight_averaging=0.9)},
            "weight_averaging=0.9",
        ),
        ({"runtime": config.RuntimeConfig("mirrored")}, "strategy=mirrored"),
    )
    def test_what_is_not_exported(self, changes, received):
        changed = dataclasses.replace(self.config, **changes)
        with self.assertRaisesRegex(InputError, received):
            export.export(changed, self.path / "other", models.get)
        self.assertFalse((self.path / "other").exists())

    def test_weights_come_back(self):
        keras.utils.set_random_seed(1)
        trained = building.build_robust(self.config, models.get).classifier
        weights = {v.path: v.numpy() for v in trained.variables}
        file = self.folder / "checkpoint.npz"
        np.savez(file, **weights, done=20)
        loaded = load.load(self.path / "run", models.get).classifier
        for ours, theirs in zip(
            loaded.variables, trained.variables, strict=True
        ):
            self.assertAllEqual(ours, theirs)
        weights.pop("head.dense/bias")
        np.savez(file, **weights)
        with self.assertRaisesRegex(InputError, "head.dense/bias"):
            load.load(self.path / "run", models.get)


@unittest.skipUnless(
    importlib.util.find_spec("jax"),
    "JAX cannot be imported; it is not among this project's requirements.",
)
class RunTest(tf.test.TestCase):
    """Twenty steps of the whole training, with JAX and with TensorFlow."""

    def test_as_tensorflow(self):
        scratch = self.enterContext(tempfile.TemporaryDirectory())
        path = pathlib.Path(scratch) / "run"
        folder = export.export(SMOOTH, path, models.get)
        command = [sys.executable, "-m", "benchmarks.portable.run", path]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
        # Timed; then stopped after its first step, and continued.
        for arguments in (["--time_steps=2"], ["--minutes=0"], []):
            subprocess.run(
                [*command, *arguments], cwd=ROOT, env=environment, check=True
            )

        keras.utils.set_random_seed(SMOOTH.training.seed)
        robust = building.build_robust(SMOOTH, models.get)
        building.compile_robust(SMOOTH, robust, steps_per_epoch=1)
        batches = pipeline.training_batches(
            load_splits(SMOOTH).train,
            50,
            SMOOTH.training.seed,
            augmentation=SMOOTH.data.augmentation,
        )
        history = robust.fit(
            batches, epochs=20, steps_per_epoch=1, shuffle=False, verbose=0
        ).history
        with (folder / "history.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        for name in ("loss", "perturbed_accuracy"):
            values = [float(row[name]) for row in rows]
            self.assertAllClose(values, history[name], 0, 1e-4)
        with np.load(folder / "checkpoint.npz") as state:
            for variable in robust.classifier.variables:
                self.assertAllClose(state[variable.path], variable, 0, 1e-4)
            for variable in robust.optimizer.variables:
                # The optimizer's own name counts the optimizers so far.
                (name,) = [k for k in state if k.endswith(_tail(variable))]
                self.assertAllClose(state[name], variable, 0, 1e-4)
            (name,) = [k for k in state if k.endswith("/step")]
            self.assertEqual(state[name], 20)
        classifier = load.load(path, models.get).classifier
        for ours, theirs in zip(
            classifier.variables, robust.classifier.variables, strict=True
        ):
            self.assertAllClose(ours, theirs, 0, 1e-4)


def _tail(variable):
    return "/" + variable.path.rpartition("/")[2]


def load_splits(settings):
    """The splits of a `Config`."""
    return loading.load(
        settings.data.dataset, None, settings.data.validation_share
    )


if __name__ == "__main__":
    tf.test.main()
