"""Several steps in a call: the bits of single steps, at any step."""

import pathlib
import tempfile
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import Plan, RobustClassifier, distribution, methods
from fastbat_tf.data import Augmentation, pipeline
from fastbat_tf.data.resident import ResidentBatches
from fastbat_tf.data.sources import Examples
from fastbat_tf.errors import NonFiniteError
from fastbat_tf.experiment import execution, loop
from fastbat_tf.experiment.backup import Backup
from fastbat_tf.experiment.checkpointer import Checkpointer, Interval
from fastbat_tf.experiment.preemption import Preemption
from fastbat_tf.training import callbacks, variables
from tests.support import testing

BATCH, SEED, EPOCHS = 4, 5, 2
IMAGES, LABELS = testing.images_and_labels(22)
EXAMPLES = Examples((255 * IMAGES).astype(np.uint8), LABELS)
STEPS = len(LABELS) // BATCH
AUGMENTATION = Augmentation(padding=1)


class Killed(BaseException):
    """Stands for SIGKILL: nothing is saved."""


class Calls(keras.callbacks.Callback):
    """Records the first and the last step of each call, and may end a run."""

    def __init__(self, kill_at=None):
        super().__init__()
        self._kill_at = kill_at
        self.calls, self.losses = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        self._first = batch

    def on_train_batch_end(self, batch, logs=None):
        self.calls.append((self._epoch, self._first, batch))
        self.losses.append(float(logs["loss"]))
        if (self._epoch, batch) == self._kill_at:
            raise Killed


class Run:
    """A training of a tiny network.

    Args:
        directory: Path.
        method: String.
        steps: Integer, the most steps of a call.
        resident: Boolean, whether the data lie on the device.
        jit_compile, learning_rate, replicas: Of the training.
        every: The setting `save_every`.
    """

    def __init__(
        self,
        directory,
        *,
        method="standard",
        steps=1,
        resident=True,
        jit_compile=False,
        learning_rate=0.1,
        replicas=1,
        every="1000",
    ):
        strategy = tf.distribute.get_strategy()
        if replicas == 2:
            strategy = testing.two_cpu_strategy()
        with strategy.scope():
            keras.utils.set_random_seed(0)
            network = keras.Sequential(
                [
                    keras.Input((8, 8, 3)),
                    keras.layers.Flatten(),
                    keras.layers.Dense(3, activation="softplus"),
                    keras.layers.BatchNormalization(),
                    keras.layers.Dense(4),
                ]
            )
            self.robust = RobustClassifier(network, methods.get(method))
            self.robust.compile(
                keras.optimizers.SGD(learning_rate, momentum=0.9),
                metrics=["accuracy"],
                weight_averaging=0.9,
                jit_compile=jit_compile,
                plan=Plan(EPOCHS, STEPS, BATCH, len(LABELS)),
            )
        with_index = self.robust.method.remembers_examples
        settings = {"augmentation": AUGMENTATION, "with_index": with_index}
        self.settings = {
            "steps_per_execution": steps,
            "resident": (
                ResidentBatches(EXAMPLES, BATCH, SEED, **settings)
                if resident
                else None
            ),
        }
        self.directory = pathlib.Path(directory)
        self._every = every
        self._make_batches = lambda skipped: pipeline.training_batches(
            EXAMPLES, BATCH, SEED, first_batch=skipped, **settings
        )

    def fit(self, *watching, kill_at=None):
        """Trains; returns the `Calls`."""
        calls = Calls(kill_at)
        checkpointer = Checkpointer(
            self.robust,
            Backup(self.directory / "backup", self.directory, ()),
            Interval(self._every),
        )
        with Preemption() as preemption:
            loop.fit(
                self.robust,
                self._make_batches,
                epochs=EPOCHS,
                steps_per_epoch=STEPS,
                validations=[],
                callbacks=[*watching, calls],
                checkpointer=checkpointer,
                preemption=preemption,
                **self.settings,
            )
        return calls

    def bits(self):
        """All that a step writes."""
        kept = variables.state_variables(self.robust)
        return [variables.values(v).tobytes() for v in kept]


class ExecutionTest(parameterized.TestCase, tf.test.TestCase):
    def directory(self):
        return self.enterContext(tempfile.TemporaryDirectory())

    def run_steps(self, *watching, **settings):
        run = Run(self.directory(), **settings)
        return run, run.fit(*watching)

    @parameterized.product(
        jit_compile=(False, True),
        method=("standard", "fastbat", "fgsm_pgi"),
        replicas=(1, 2),
    )
    @pytest.mark.quick("True standard 1", "False fgsm_pgi 1")
    def test_bits_of_single_steps(self, jit_compile, method, replicas):
        settings = {
            "method": method,
            "jit_compile": jit_compile,
            "replicas": replicas,
        }
        one, by_one = self.run_steps(**settings)
        self.assertLen(by_one.calls, EPOCHS * STEPS)
        for steps, resident in ((3, True), (2, False)):
            run, calls = self.run_steps(
                steps=steps, resident=resident, **settings
            )
            self.assertEqual(run.bits(), one.bits())
            lasts = [epoch * STEPS + last for epoch, _, last in calls.calls]
            expected = [by_one.losses[last] for last in lasts]
            self.assertEqual(calls.losses, expected)
            self.assertEqual(
                calls.calls,
                [
                    (epoch, first, min(first + steps, STEPS) - 1)
                    for epoch in range(EPOCHS)
                    for first in range(0, STEPS, steps)
                ],
            )

    @parameterized.parameters("standard", "fastbat")
    @pytest.mark.slow
    def test_xla_compiles_one_program(self, method):
        """As on a GPU; also for fewer steps than a whole call."""
        self.enterContext(
            mock.patch.object(distribution, "has_accelerator", lambda: True)
        )
        settings = {"method": method, "jit_compile": True}
        one, _ = self.run_steps(**settings)
        run = Run(self.directory(), steps=3, every="2", **settings)
        created = []
        create = execution.create

        def remember(*args, **kwargs):
            created.append(create(*args, **kwargs))
            return created[-1]

        with mock.patch.object(execution, "create", remember):
            run.fit()
        (steps,) = created
        self.assertEqual(steps.traces, 1)
        self.assertEqual(run.bits(), one.bits())

    @parameterized.parameters(("2", (0, 3), (0, 2)), ("1000", (1, 4), (1, 0)))
    def test_killed(self, every, kill_at, resumed):
        """Checkpoints are at the same steps as with single ones."""
        expected, _ = self.run_steps()
        directory = self.directory()
        with self.assertRaises(Killed):
            Run(directory, steps=3, every=every).fit(kill_at=kill_at)
        # With another number, too.
        again = Run(directory, steps=2, every=every)
        calls = again.fit()
        self.assertEqual(calls.calls[0][:2], resumed)
        self.assertEqual(again.bits(), expected.bits())

    def test_checkpoints_end_calls(self):
        _, calls = self.run_steps(steps=3, every="2")
        firsts = [first for epoch, first, _ in calls.calls if not epoch]
        self.assertEqual(firsts, [0, 2, 4])

    @parameterized.parameters(1, 2)
    def test_the_step_that_is_not_finite_is_named(self, replicas):
        """It ends the call, and nothing after it happens."""
        found = []
        for steps, resident in ((1, False), (5, True), (5, False)):
            run = Run(
                self.directory(),
                steps=steps,
                resident=resident,
                learning_rate=1e15,
                replicas=replicas,
            )
            with self.assertRaises(NonFiniteError) as raised:
                run.fit(callbacks.StopOnNonFinite())
            found.append((str(raised.exception), int(run.robust.step.numpy())))
        self.assertEqual(found[0], found[1])
        self.assertEqual(found[0], found[2])
        self.assertRegex(found[0][0], "epoch 1, step [2345]; ")


if __name__ == "__main__":
    tf.test.main()
