"""The training loop stops and resumes anywhere, with the same bits."""

import csv
import functools
import os
import pathlib
import signal
import tempfile
import time
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.data import pipeline
from fastbat_tf.data.sources import Examples
from fastbat_tf.errors import InputError
from fastbat_tf.experiment import loop
from fastbat_tf.experiment.backup import Backup
from fastbat_tf.experiment.checkpointer import Checkpointer, Interval
from fastbat_tf.experiment.preemption import Preempted, Preemption
from fastbat_tf.methods.base import Solution
from fastbat_tf.methods.fastat import FastAT
from fastbat_tf.methods.state import Slot
from fastbat_tf.runtime import display
from fastbat_tf.training import callbacks, variables, weight_averaging
from fastbat_tf.training.classifier import RobustClassifier
from tests.support import event_files, testing

EPOCHS, STEPS = 2, 3
IMAGES, LABELS = testing.images_and_labels(20)
EXAMPLES = Examples((255 * IMAGES).astype(np.uint8), LABELS)
POSITIONS = [
    (epoch, batch) for epoch in range(EPOCHS) for batch in range(STEPS)
]


class Growing(FastAT):
    """A method with state: the perturbation grows from step to step."""

    def initial_state(self, sizes, draws):
        return {"shift": Slot(())}

    def solve(self, context):
        delta = super().solve(context).perturbation
        return Solution(delta + context.state["shift"])

    def update(self, context):
        return {"shift": context.state["shift"] + 0.01}


class Killed(BaseException):
    """Stands for SIGKILL: nothing is saved."""


class Validation(keras.callbacks.Callback):
    """Logs numbers that fall, raw and averaged, instead of accuracies."""

    def __init__(self, terminate_in):
        super().__init__()
        self._terminate_in = terminate_in

    def on_epoch_end(self, epoch, logs=None):
        logs["val_clean_accuracy"] = self._measure()
        if self.model.weight_average is not None:
            with self.model.averaged_weights():
                if epoch == self._terminate_in:
                    os.kill(os.getpid(), signal.SIGTERM)
                logs["val_averaged_clean_accuracy"] = self._measure()
        elif epoch == self._terminate_in:
            os.kill(os.getpid(), signal.SIGTERM)

    def _measure(self):
        weights = self.model.classifier.weights[0].numpy()
        steps = int(self.model.step.numpy())
        return -float(np.abs(weights).sum()) - 100 * steps


class Stop(keras.callbacks.Callback):
    """Calls a function that ends the process at the end of a step."""

    def __init__(self, position, end):
        super().__init__()
        self._position, self._end = position, end

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self._epoch, batch) == self._position:
            self._end()


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def kill():
    raise Killed


class Process:
    """What one process does to a run.

    Args:
        directory: Path.
        seed: Integer. Each process begins with other weights, so that what is
            not restored differs.
        width, optimizer, averaging, method, replicas: Of the training.
        every: The setting `save_every`.
    """

    def __init__(
        self,
        directory,
        seed=0,
        *,
        width=4,
        optimizer="adam",
        averaging=0.0,
        method=Growing,
        replicas=1,
        every="1000",
    ):
        self.directory = pathlib.Path(directory)
        (self.directory / "checkpoints").mkdir(parents=True, exist_ok=True)
        strategy = tf.distribute.get_strategy()
        if replicas == 2:
            strategy = testing.two_cpu_strategy()
        with strategy.scope():
            network = testing.small_network(width=width, seed=seed)
            outputs = keras.layers.Dropout(0.2, seed=seed)(network.output)
            self.robust = RobustClassifier(
                keras.Model(network.input, outputs), method()
            )
            self.robust.compile(
                optimizer,
                metrics=["accuracy"],
                weight_averaging=averaging,
                run_eagerly=replicas == 1,
            )
        averaged = self.robust.averaged_weights if averaging else None
        file = self.directory / "checkpoints" / "best.weights.h5"
        self.best = callbacks.BestWeights(file, "val_clean_accuracy", averaged)
        self.timing = callbacks.Timing(self.directory / "timing.csv")
        self.curves = callbacks.Curves(self.directory / "tensorboard")
        files = "history.csv", "timing.csv", "checkpoints", "tensorboard"
        self.said, self.skipped = [], []
        self.checkpointer = Checkpointer(
            self.robust,
            Backup(self.directory / "backup", self.directory, files),
            Interval(every),
            [self.best, self.timing, self.curves],
        )

    def make_batches(self, skipped):
        self.skipped.append(skipped)
        return pipeline.training_batches(
            EXAMPLES, 6, 5, augmentation=None, first_batch=skipped
        )

    def fit(self, stop_at=None, stop=terminate, validation=None):
        """Trains; returns whether there was anything left to do."""
        history = self.directory / "history.csv"
        watching = [
            callbacks.LearningRate(),
            Stop(stop_at, stop),
            self.best,
            callbacks.History(history),
            self.curves,
            self.timing,
        ]
        log = mock.patch.object(display, "log", self.said.append)
        with Preemption() as preemption, log:
            return loop.fit(
                self.robust,
                self.make_batches,
                epochs=EPOCHS,
                steps_per_epoch=STEPS,
                validations=[Validation(validation)],
                callbacks=watching,
                checkpointer=self.checkpointer,
                preemption=preemption,
            )

    def state(self):
        """Everything that must be equal to the bit."""
        arrays, state = self.checkpointer.snapshot(EPOCHS, 0)
        history = (self.directory / "history.csv").read_text()
        points = event_files.scalars(self.directory / "tensorboard" / "train")
        return [array.tobytes() for array in arrays], state, history, points


class LoopTest(parameterized.TestCase, tf.test.TestCase):
    def directory(self):
        return self.enterContext(tempfile.TemporaryDirectory())

    def reference(self, **settings):
        return self.state(Process(self.directory(), **settings))

    def state(self, process):
        self.assertTrue(process.fit())
        arrays, state, history, points = process.state()
        self.assertLen(history.splitlines(), 1 + EPOCHS)
        self.assertEqual(list(points["epoch_loss"]), [1, 2])
        self.assertEqual(list(points["batch_loss"]), [1, 2, 3, 4, 5, 6])
        state["callbacks"] = state["callbacks"][:1]
        return arrays, state, history, points

    @parameterized.parameters(
        {"averaging": 0.9},
        {"replicas": 2, "method": FastAT, "averaging": 0.9},
    )
    @pytest.mark.slow
    def test_terminated_after_every_step(self, **settings):
        expected = self.reference(**settings)
        directory = self.directory()
        for number, position in enumerate(POSITIONS):
            process = Process(directory, seed=number, **settings)
            with self.assertRaises(Preempted):
                process.fit(position)
            self.assertEqual(process.skipped, [number])
        for epoch in range(EPOCHS):  # Also during each validation.
            with self.subTest(epoch=epoch):
                again = Process(self.directory(), **settings)
                with self.assertRaises(Preempted):
                    again.fit(validation=epoch)
                # All steps of the epoch are done, but its row is not written.
                again = Process(again.directory, seed=9, **settings)
                self.assertEqual(self.state(again), expected)
                self.assertEqual(again.skipped, [STEPS * (epoch + 1)])
                self.assertEqual(
                    again.said,
                    [f"Resuming: {epoch} epochs and 3 steps are done."],
                )
        last = Process(directory, seed=9, **settings)
        self.assertEqual(self.state(last), expected)
        self.assertEqual(last.skipped, [6])

    def test_terminated_while_averaged_weights_are_put_in(self):
        expected = self.reference(averaging=0.9)
        assign = weight_averaging._assign

        def assign_half(variables, values):
            assign(variables[:2], values[:2])
            terminate()

        directory = self.directory()
        with mock.patch.object(weight_averaging, "_assign", assign_half):
            with self.assertRaises(Preempted):
                Process(directory, averaging=0.9).fit()
        again = Process(directory, 4, averaging=0.9)
        self.assertEqual(self.state(again), expected)
        self.assertEqual(again.skipped, [STEPS])

    def test_as_fit_of_keras(self):
        process = Process(self.directory())
        process.fit()
        with open(process.directory / "history.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        robust = Process(self.directory()).robust
        history = robust.fit(
            process.make_batches(0),
            epochs=EPOCHS,
            steps_per_epoch=STEPS,
            shuffle=False,
            verbose=0,
        ).history
        for name in ("loss", "accuracy", "robust_gradient_norm"):
            values = [float(row[name]) for row in rows]
            self.assertEqual(values, history[name])
        for ours, theirs in zip(
            process.robust.weights, robust.weights, strict=True
        ):
            self.assertAllEqual(ours, theirs)

    @parameterized.parameters(
        # Killed after this step, saved at this interval, resumed at this step.
        ((0, 0), "1", 0),
        ((0, 2), "2", 2),
        ((1, 0), "1000", 3),
        ((1, 2), "1000", 3),
    )
    def test_killed(self, position, every, expected):
        directory = self.directory()
        with self.assertRaises(Killed):
            Process(directory, every=every).fit(position, kill)
        process = Process(directory, 8, every=every)
        self.assertEqual(self.state(process), self.reference())
        self.assertEqual(process.skipped, [expected])

    @parameterized.parameters(0, 1)
    def test_killed_between_the_end_of_an_epoch_and_its_checkpoint(self, epoch):
        """The files have grown, but the checkpoint is the previous one."""
        directory = self.directory()
        process = Process(directory)
        save, rest = process.checkpointer.save, [epoch + 1]

        def save_or_die(snapshot):
            if not rest[0]:
                raise Killed
            rest[0] -= 1
            save(snapshot)

        with mock.patch.object(process.checkpointer, "save", save_or_die):
            with self.assertRaises(Killed):
                process.fit()
        history = process.directory / "history.csv"
        self.assertLen(history.read_text().splitlines(), 2 + epoch)
        again = Process(directory, seed=8)
        self.assertEqual(self.state(again), self.reference())
        self.assertEqual(again.skipped, [STEPS * epoch])
        with open(again.directory / "timing.csv") as file:
            rows = [row.split(",")[0] for row in file]
        self.assertEqual(rows, ["epoch", "1", "2"])

    def test_nothing_left_to_do(self):
        first = Process(self.directory())
        expected = self.state(first)
        again = Process(first.directory, seed=1)
        self.assertFalse(again.fit())
        self.assertEqual(again.skipped, [])
        self.assertEqual(again.state()[0], expected[0])
        self.assertEqual(again.best.state, first.best.state)

    def test_seconds_of_all_processes(self):
        directory, now = self.directory(), 100.0
        with mock.patch.object(time, "perf_counter") as clock:
            clock.side_effect = lambda: now

            def after(seconds):
                nonlocal now
                now += seconds
                terminate()

            for seconds, position in (
                (7, (0, 0)),
                (20, (0, 1)),
                (300, (1, 2)),
            ):
                now += 5000  # Between the processes.
                process = Process(directory)
                with self.assertRaises(Preempted):
                    process.fit(position, functools.partial(after, seconds))
            process = Process(directory)
            process.fit()
        self.assertEqual(process.timing.total(), 327)

    @parameterized.parameters(
        {"width": 5}, {"optimizer": "sgd"}, {"averaging": 0.5}
    )
    def test_checkpoint_of_another_model(self, **settings):
        directory = self.directory()
        with self.assertRaises(Preempted):
            Process(directory).fit((0, 1))
        process = Process(directory, **settings)
        before = [v.numpy() for v in process.robust.variables]
        with self.assertRaisesRegex(
            InputError,
            "of another model or optimizer; .* Received: "
            f"path={directory}/backup/000001$",
        ):
            process.fit()
        for variable, old in zip(process.robust.variables, before, strict=True):
            self.assertAllEqual(variable, old)

    def test_other_number_of_replicas(self):
        for before, after in ((2, 1), (1, 2)):
            directory = self.directory()
            process = Process(directory, method=FastAT, replicas=before)
            with self.assertRaises(Preempted):
                process.fit((1, 1))
            again = Process(directory, 4, method=FastAT, replicas=after)
            loop.make_variables(again.robust)
            self.assertEqual(again.checkpointer.restore(), (1, 2))
            for ours, theirs in zip(
                again.robust.weights, process.robust.weights, strict=True
            ):
                self.assertAllEqual(ours, theirs)
            if before == 2:  # The tests above compare something that differs.
                layer = process.robust.classifier.get_layer("bn")
                self.assertNotAllClose(*layer.moving_mean.value.values)

    def test_variables_are_complete_and_none_is_saved_twice(self):
        process = Process(self.directory(), averaging=0.9)
        loop.make_variables(process.robust)
        before = variables.state_variables(process.robust)
        process.fit()
        after = variables.state_variables(process.robust)
        # The first step has made no variable that a checkpoint lacks.
        self.assertEqual([id(v) for v in after], [id(v) for v in before])
        self.assertLen({id(v) for v in after}, len(after))


if __name__ == "__main__":
    tf.test.main()
