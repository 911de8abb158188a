"""Tests of what is written and printed at the end of an epoch."""

import contextlib
import csv
import io
import os
import pathlib
import resource
import tempfile
import time
from unittest import mock

import numpy as np
from absl.testing import absltest, parameterized

from fastbat_tf.methods.fastat import FastAT
from fastbat_tf.runtime import display
from fastbat_tf.training import callbacks
from fastbat_tf.training.classifier import RobustClassifier
from tests.support.testing import images_and_labels, small_network


class Clock:
    """`time.perf_counter`, as a test wants it."""

    def __init__(self, test):
        self.now = 100.0
        clock = test.enterContext(mock.patch.object(time, "perf_counter"))
        clock.side_effect = lambda: self.now


class TimingTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(directory, "timing.csv")
        self.clock = Clock(self)

    def epoch(self, timing, epoch, steps):
        """An epoch whose steps take so many seconds."""
        timing.on_epoch_begin(epoch)
        for batch, seconds in enumerate(steps):
            self.clock.now += seconds
            timing.on_train_batch_end(batch)

    def end(self, timing, epoch):
        self.clock.now += 1000  # The validation does not count.
        logs = {}
        timing.on_epoch_end(epoch, logs)
        return logs

    def rows(self):
        with self.path.open() as file:
            head, *rows = csv.reader(file)
        self.assertEqual(head[-1], "peak_gigabytes")
        for *_, peak in rows:  # TensorFlow alone takes this much.
            self.assertBetween(float(peak), 0.1, 1000)
        return [row[:-1] for row in rows]

    def test_seconds(self):
        timing = callbacks.Timing(self.path)
        self.epoch(timing, 0, [30, 2, 2])
        self.assertEqual(self.end(timing, 0), {"seconds": 34.0})
        self.assertEqual(timing.state, 0)
        self.epoch(timing, 1, [2, 3])
        self.assertEqual(self.end(timing, 1), {"seconds": 5.0})
        self.assertEqual(
            self.rows(), [["0", "34.0", "30.0"], ["1", "5.0", "2.0"]]
        )
        self.assertEqual(timing.total(), 39)

    def test_of_several_processes(self):
        first, second, third = (callbacks.Timing(self.path) for _ in range(3))
        self.epoch(first, 0, [30, 2])
        self.assertEqual(first.state, 32)
        second.state = first.state
        self.epoch(second, 0, [20, 2, 2])
        self.assertEqual(second.state, 56)
        third.state = second.state
        self.epoch(third, 0, [])  # All its steps were made.
        self.assertEqual(third.state, 56)
        self.assertEqual(self.end(third, 0), {"seconds": 56})
        self.assertEqual(self.rows(), [["0", "56.0", ""]])
        self.assertEqual(third.total(), 56)


class TrainingProgressTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.clock = Clock(self)

    def lines(self, batches, seconds, verbosity=0, epochs=1, steps=10, **logs):
        """What is printed; the first step takes a minute."""
        logs = {"loss": 2.0, "val_accuracy": 0.5, **logs}
        progress = callbacks.TrainingProgress()
        printed = io.StringIO()
        with (
            contextlib.redirect_stdout(printed),
            display.shown(verbosity),
        ):
            progress.set_params({"epochs": 3, "steps": steps})
            progress.on_train_begin()
            for epoch in range(epochs):
                progress.on_epoch_begin(epoch)
                for number, batch in enumerate(batches):
                    progress.on_train_batch_begin(batch)
                    self.clock.now += seconds if number or epoch else 60
                    progress.on_train_batch_end(batch, {"loss": 2.5})
                self.clock.now += 10  # The validation.
                progress.on_epoch_end(epoch, logs)
            progress.on_train_end()
        return printed.getvalue().splitlines()

    def test_a_line_for_an_epoch(self):
        # 20 steps of 4 seconds, and 10 for each validation, are left.
        first, second, third = self.lines(range(10), 4, epochs=3)
        self.assertEqual(
            first, "epoch 1/3  loss 2.000  val 50.0%  4.00 s/step  100 s left"
        )
        self.assertEndsWith(second, "4.00 s/step  50 s left")
        self.assertEndsWith(third, "4.00 s/step")

    def test_what_is_told_in_which_order(self):
        told = {
            "perturbed_accuracy": 0.25,
            "val_robust_accuracy": 0.125,
            "val_averaged_accuracy": 0.75,
            "val_averaged_robust_accuracy": 1.0,
        }
        (line,) = self.lines(range(10), 4, **told, interior_fraction=0.1)
        self.assertLess(len(line), 125)
        self.assertEqual(
            line,
            "epoch 1/3  loss 2.000  train 25.0%  val 50.0%  val robust 12.5%  "
            "avg 75.0%  avg robust 100.0%  4.00 s/step  100 s left",
        )

    @parameterized.parameters(
        (0.00012345, "0.000123"), (0.05, "0.050"), (123.4567, "123.457"),
        (123456.7, "1.23e+05"), (-2.5, "-2.500"), (0.0, "0"),
    )  # fmt: skip
    def test_loss(self, loss, expected):
        (line,) = self.lines(range(10), 4, loss=loss)
        self.assertStartsWith(line, f"epoch 1/3  loss {expected}  val 50.0%  ")

    def test_more_lines(self):
        lines = self.lines(range(10), 4, 1, interior_fraction=0.25)
        self.assertEqual(
            lines[:-2],
            [
                "  step 1/10  loss 2.500  60.00 s/step  9 min to the epoch's "
                "end",
                "  step 4/10  loss 2.500  4.00 s/step  24 s to the epoch's end",
                "  step 7/10  loss 2.500  4.00 s/step  12 s to the epoch's end",
                "  step 10/10  loss 2.500  4.00 s/step  0 s to the epoch's end",
            ],
        )
        self.assertStartsWith(lines[-2], "epoch 1/3  ")
        self.assertEqual(lines[-1], "  interior_fraction 0.25")

    def test_an_unknown_number_of_steps(self):
        self.assertEqual(
            self.lines(range(10), 4, 1, epochs=2, steps=None),
            [
                "  step 1  loss 2.500  60.00 s/step",
                "  step 4  loss 2.500  4.00 s/step",
                "  step 7  loss 2.500  4.00 s/step",
                "  step 10  loss 2.500  4.00 s/step",
                "epoch 1/3  loss 2.000  val 50.0%  4.00 s/step",
                "  step 1  loss 2.500  4.00 s/step",
                "  step 4  loss 2.500  4.00 s/step",
                "  step 7  loss 2.500  4.00 s/step",
                "  step 10  loss 2.500  4.00 s/step",
                "epoch 2/3  loss 2.000  val 50.0%  4.00 s/step",
            ],
        )

    def test_bars_of_an_unknown_number_of_steps(self):
        updated = []
        bars = mock.Mock(is_live=True)
        bars.update = lambda *args, **fields: updated.append((args, fields))
        progress = callbacks.TrainingProgress()
        with mock.patch.object(
            display, "task", lambda *_: contextlib.nullcontext(bars)
        ):
            progress.set_params({"epochs": 3, "steps": None})
            progress.on_train_begin()
            progress.on_epoch_begin(0)
            for batch in range(2):
                progress.on_train_batch_begin(batch)
                self.clock.now += 2
                progress.on_train_batch_end(batch, {"loss": 2.5})
        self.assertEqual(
            [args for args, _ in updated],
            [(0, None, None), (1, None, None), (2, None, None)],
        )
        self.assertEqual(
            updated[-1][1],
            {
                "description": "epoch 1/3",
                "count": "2",
                "detail": "loss 2.500  2 s/step",
            },
        )

    def test_no_lines(self):
        self.assertEqual(self.lines(range(10), 4, -1), [])

    def test_goes_on_in_an_epoch(self):
        (line,) = self.lines(range(8, 10), 4)
        self.assertEndsWith(line, "4.00 s/step  100 s left")

    def test_goes_on_at_the_end_of_an_epoch(self):
        for verbosity in (0, 1):
            (line,) = self.lines((), 4, verbosity)
            self.assertEqual(line, "epoch 1/3  loss 2.000  val 50.0%")


class SaveWeightsTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(directory, "last.weights.h5")

    def trained(self, width=4, optimizer="adam"):
        robust = RobustClassifier(small_network(width=width), FastAT(0.1))
        robust.compile(optimizer, weight_averaging=0.9)
        robust.train_on_batch(*images_and_labels(4))
        return robust

    def test_last_weights(self):
        robust = self.trained()
        last = callbacks.LastWeights(self.path)
        last.set_model(robust)
        for epoch in (0, 1):
            robust.train_on_batch(*images_and_labels(4))
            last.on_epoch_end(epoch)
            again = self.trained()
            again.load_weights(self.path)
            for ours, theirs in zip(again.weights, robust.weights, strict=True):
                np.testing.assert_array_equal(ours, theirs)
            self.assertEqual(again.optimizer.iterations, 2 + epoch)
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])

    def test_whole_or_old(self):
        robust = self.trained()
        callbacks.save_weights(robust, self.path)
        before = self.path.read_bytes()
        for where, name in (
            (os, "fsync"),
            (pathlib.Path, "replace"),
        ):
            error = OSError(28, "No space left on device")
            with mock.patch.object(where, name, side_effect=error):
                with self.assertRaises(OSError):
                    callbacks.save_weights(robust, self.path)
            self.assertEqual(self.path.read_bytes(), before)
            self.assertEqual(list(self.path.parent.iterdir()), [self.path])

    @parameterized.parameters(3_000, 30_000)
    def test_no_room(self, limit):
        """HDF5 itself ends the process where the disk is full."""
        robust = self.trained(16, "adam")
        self.path.write_text("before")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with self.assertRaisesRegex(OSError, "File too large"):
                callbacks.save_weights(robust, self.path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        self.assertEqual(self.path.read_text(), "before")
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])
        callbacks.save_weights(robust, self.path)
        self.assertGreater(self.path.stat().st_size, limit)

    def test_the_name_that_keras_expects(self):
        with self.assertRaisesRegex(ValueError, "must end in `.weights.h5`"):
            callbacks.save_weights(self.trained(), self.path.with_suffix(".h4"))
        self.assertEqual(list(self.path.parent.iterdir()), [])


if __name__ == "__main__":
    absltest.main()
