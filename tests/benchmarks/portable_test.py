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

from benchmarks.portable import export, load, measure
from fastbat_tf import attacks, models
from fastbat_tf.attacks.models import logits_of
from fastbat_tf.data import loading, pipeline
from fastbat_tf.errors import InputError
from fastbat_tf.experiment import building, config
from tests.support import testing

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
    evaluation=config.EvaluationConfig(
        attacks=("pgd-5-2", "apgd-ce-5+apgd-t-5"),
        batch_size=20,
        validation_attack="pgd-1-1",
        validation_examples=20,
    ),
)


def with_evaluation(**changes):
    """`SMOOTH` with a small network and another evaluation."""
    return dataclasses.replace(
        SMOOTH,
        model=config.ModelConfig(width=2),
        evaluation=dataclasses.replace(SMOOTH.evaluation, **changes),
    )


class ExportTest(parameterized.TestCase, tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.path = pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory())
        )
        cls.config = with_evaluation(attacks=("pgd-5-2",))
        cls.folder = export.export(cls.config, cls.path / "run", models.get)
        file = cls.folder / "description.json"
        cls.description = json.loads(file.read_text())

    def test_every_variable_of_the_training_is_replaced(self):
        train = self.description["computations"]["train"]
        states = [entry["state"] for entry in train["inputs"][5:]]
        after = [e["state"] for e in train["outputs"] if "state" in e]
        constants = [state for state in states if "_constant" in state]
        self.assertLen(constants, 2)  # Mean and variance of the pixels.
        self.assertCountEqual(after, set(states) - set(constants))
        with np.load(self.folder / "initial.npz") as initial:
            self.assertContainsSubset(states, initial)
        self.assertContainsSubset(self.description["classifier"], after)
        self.assertContainsSubset(self.description["reset_every_epoch"], after)
        velocities = [name for name in after if name.endswith("_momentum")]
        trainable = building.build_robust(
            self.config, models.get
        ).trainable_variables
        self.assertLen(velocities, len(trainable))

    def test_results_of_a_step(self):
        train = self.description["computations"]["train"]
        results = [e["result"] for e in train["outputs"] if "result" in e]
        self.assertContainsSubset(["loss", "robust_implicit_cosine"], results)

    def test_stablehlo_only(self):
        for computation in self.description["computations"].values():
            text = (self.folder / computation["file"]).read_text()
            self.assertIn("func.func @main", text)
            self.assertIn("stablehlo.convolution", text)
            self.assertNotRegex(text, r"= \"?(mhlo|chlo)\.")
            self.assertNotIn("custom_call", text)

    def test_initial_values_are_those_of_a_run(self):
        keras.utils.set_random_seed(self.config.training.seed)
        robust = building.build_robust(self.config, models.get)
        with np.load(self.folder / "initial.npz") as initial:
            for variable in robust.classifier.variables:
                self.assertAllEqual(initial[variable.path], variable)

    def test_order_is_that_of_a_run(self):
        with np.load(self.folder / "data.npz") as arrays:
            labels = arrays["train_labels"]
        examples = load_splits(self.config).train
        batches = pipeline.training_batches(
            examples,
            50,
            self.config.training.seed,
            augmentation=self.config.data.augmentation,
        )
        order = np.load(self.folder / "order.npy")
        self.assertEqual(order.shape, (20, 1, 50))
        for (_, expected), chosen in zip(
            batches.take(3).as_numpy_iterator(), order[:3, 0], strict=True
        ):
            self.assertAllEqual(labels[chosen], expected)

    def test_directory_of_another_run(self):
        with self.assertRaisesRegex(InputError, "holds this run already"):
            export.export(self.config, self.path / "run", models.get)

    @parameterized.parameters(
        ({"attacks": ("fab-t",)}, "attack=fab-t"),
        ({"attacks": ("apgd-ce+square",)}, r"attack=apgd-ce\+square"),
        ({"norm": "l2"}, "norm=l2"),
        ({"max_examples": 10}, "max_examples=10"),
    )
    def test_what_is_not_exported(self, changes, received):
        with self.assertRaisesRegex(InputError, received):
            export.export(
                with_evaluation(**changes), self.path / "other", models.get
            )
        self.assertFalse((self.path / "other").exists())

    def test_dropout_is_not_exported(self):
        network = config.ModelConfig("wrn10_1", dropout=0.1)
        changed = dataclasses.replace(self.config, model=network)
        with self.assertRaisesRegex(InputError, "dropout=0.1"):
            export.export(changed, self.path / "other", models.get)
        self.assertFalse((self.path / "other").exists())

    def test_weights_come_back(self):
        keras.utils.set_random_seed(1)
        trained = building.build_robust(self.config, models.get).classifier
        weights = {v.path: v.numpy() for v in trained.variables}
        np.savez(self.folder / "best.npz", **weights)
        loaded = load.load(self.path / "run", models.get).classifier
        for ours, theirs in zip(
            loaded.variables, trained.variables, strict=True
        ):
            self.assertAllEqual(ours, theirs)
        weights.pop("head.dense/bias")
        np.savez(self.folder / "best.npz", **weights)
        with self.assertRaisesRegex(InputError, "head.dense/bias"):
            load.load(self.path / "run", models.get)


class InTensorFlow:
    """A `Computation` that runs its function in TensorFlow."""

    def __init__(self, function, arguments):
        self._function = function
        self._given = arguments
        self.arguments = {k: (v.shape, v.dtype) for k, v in arguments.items()}

    def __call__(self, state, **arguments):
        tensors = [
            tf.constant(arguments[name], spec.dtype)
            for name, spec in self._given.items()
        ]
        return self._function(*tensors)


class MeasureTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters("pgd-4-3", "apgd-ce-6", "apgd-t-6", "apgd-dlr-6")
    def test_same_examples_fall(self, name):
        images, labels = testing.images_and_labels(30, dtype="float32")
        images = np.round(255 * images).astype(np.uint8)
        network = logits_of(testing.small_network())
        labels = network(measure.pixels(images)).numpy().argmax(-1)
        labels = labels.astype(np.int32)
        (attack,) = export.get_stages(name, network, 8).values()
        smaller = with_evaluation(batch_size=8)
        examples = loading.Examples(images, labels)
        _, function, arguments = export.advance(smaller, attack, name, examples)
        logits = network(measure.pixels(images)).numpy()
        robust = measure.attack(
            InTensorFlow(function, arguments),
            {
                "seeded_by": attack.name,
                "steps": attack.attack.steps,
                "rounds": attack.rounds(4),
            },
            {},
            images=images,
            labels=labels,
            logits=logits,
            robust=measure.is_correct(logits, labels),
            epsilon=0.02,
            seed=3,
        )
        expected = attack(images, labels, 0.02, seed=3).robust
        self.assertBetween(expected.mean(), 0.05, 0.95)
        self.assertAllEqual(robust, expected)


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
        # Stopped after its first step, and continued.
        for arguments in (["--minutes=0"], ["--examples=200"]):
            subprocess.run(
                [*command, *arguments], cwd=ROOT, env=environment, check=True
            )

        keras.utils.set_random_seed(SMOOTH.training.seed)
        robust = building.build_robust(SMOOTH, models.get)
        building.compile_robust(SMOOTH, robust, steps_per_epoch=1)
        splits = load_splits(SMOOTH)
        batches = pipeline.training_batches(
            splits.train,
            50,
            SMOOTH.training.seed,
            augmentation=SMOOTH.data.augmentation,
        )
        history = robust.fit(
            batches, epochs=20, steps_per_epoch=1, shuffle=False, verbose=0
        ).history
        with (path / "history.csv").open(newline="") as stream:
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
        test = [array[:200] for array in splits.test]
        results = json.loads((path / "results.json").read_text())
        for row in results["attacks"]:
            attack = attacks.get(row["attack"], logits_of(classifier))
            expected = attack(*test, row["epsilon"], row["seed"])
            self.assertEqual(row["examples"], 200)
            self.assertAllClose(
                [row["clean_accuracy"], row["robust_accuracy"]],
                [expected.clean_correct.mean(), expected.robust.mean()],
                atol=0.01,  # Two images.
            )


def _tail(variable):
    return "/" + variable.path.rpartition("/")[2]


def load_splits(settings):
    """The splits of a `Config`."""
    return loading.load(
        settings.data.dataset, None, settings.data.validation_share
    )


if __name__ == "__main__":
    tf.test.main()
