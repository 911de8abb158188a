"""The lines and bars of a training."""

import contextlib
import io
import time
from unittest import mock

import tensorflow as tf
from absl.testing import absltest, parameterized

from fastbat_tf.runtime import display
from fastbat_tf.training import callbacks
from tests.support.small_training import Clock, SmallTraining


class TrainingProgressTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.clock = Clock(self)

    def lines(
        self, batches, seconds, *, verbosity=0, epochs=1, steps=10, **logs
    ):
        """Returns the printed lines; the first step takes a minute."""
        logs = {"loss": 2.0, "val_clean_accuracy": 0.5, **logs}
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
        # Left: 20 steps of 4 seconds, and 10 seconds for each validation.
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
            "val_averaged_clean_accuracy": 0.75,
            "val_averaged_robust_accuracy": 1.0,
        }
        (line,) = self.lines(range(10), 4, **told, robust_interior_fraction=0.1)
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
        lines = self.lines(
            range(10), 4, verbosity=1, robust_interior_fraction=0.25
        )
        self.assertEqual(
            lines[:-2],
            [
                "  step 1/10  loss 2.500  60.00 s/step  9 min left in the "
                "epoch",
                "  step 4/10  loss 2.500  4.00 s/step  24 s left in the epoch",
                "  step 7/10  loss 2.500  4.00 s/step  12 s left in the epoch",
                "  step 10/10  loss 2.500  4.00 s/step  0 s left in the epoch",
            ],
        )
        self.assertStartsWith(lines[-2], "epoch 1/3  ")
        self.assertEqual(lines[-1], "  robust_interior_fraction 0.25")

    def test_an_unknown_number_of_steps(self):
        self.assertEqual(
            self.lines(range(10), 4, verbosity=1, epochs=2, steps=None),
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
        self.assertEqual(self.lines(range(10), 4, verbosity=-1), [])

    def test_goes_on_in_an_epoch(self):
        (line,) = self.lines(range(8, 10), 4)
        self.assertEndsWith(line, "4.00 s/step  100 s left")

    def test_goes_on_at_the_end_of_an_epoch(self):
        for verbosity in (0, 1):
            (line,) = self.lines((), 4, verbosity=verbosity)
            self.assertEqual(line, "epoch 1/3  loss 2.000  val 50.0%")


class TimeForecastTest(parameterized.TestCase, tf.test.TestCase):
    def test_prints_once(self):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            SmallTraining().fit(callbacks.TimeForecast("Buy a GPU.", steps=2))
        lines = printed.getvalue().strip().splitlines()
        self.assertLen(lines, 1)
        self.assertRegex(
            lines[0],
            r"^\d+\.\d\d s/step: about \d+ s for all 2 epochs, without "
            r"validation and measurement\.$",
        )

    @parameterized.parameters(
        # 2,000 steps, of which 3 are timed; long trainings get the hint.
        (7.5, "2.50 s/step: about 1 h 23 min", " Hint."),
        (2.73, "0.91 s/step: about 30 min", " Hint."),
        (2.67, "0.89 s/step: about 30 min", ""),
        (0.15, "0.05 s/step: about 100 s", ""),
    )
    def test_the_first_step_is_left_out(self, seconds, expected, hint):
        forecast = callbacks.TimeForecast("Hint.", steps=3)
        forecast.set_params({"steps": 100, "epochs": 20})
        printed, now = io.StringIO(), 0.0
        with (
            contextlib.redirect_stdout(printed),
            mock.patch.object(time, "perf_counter") as clock,
        ):
            clock.side_effect = lambda: now
            for step in range(200):
                # The first step, and those that are not timed, take a minute.
                now += seconds / 3 if 1 <= step <= 3 else 60
                forecast.on_train_batch_begin(step)
                forecast.on_train_batch_end(step)
                self.assertEqual(bool(printed.getvalue()), step >= 3)
        self.assertEqual(
            printed.getvalue().strip(),
            f"{expected} for all 20 epochs, without validation and "
            f"measurement.{hint}",
        )

    def test_a_generator_of_unknown_length(self):
        """The time left is unknown; everything else is shown."""
        batches = list(SmallTraining().batches.take(3).as_numpy_iterator())
        robust = SmallTraining().robust
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            robust.fit(
                (batch for batch in batches),
                epochs=1,
                shuffle=False,
                callbacks=[
                    callbacks.TrainingProgress(),
                    callbacks.TimeForecast("Buy a GPU.", steps=2),
                ],
                verbose=0,
            )
        forecast, epoch = printed.getvalue().splitlines()
        self.assertRegex(forecast, r"^\d+\.\d\d s/step$")
        self.assertRegex(epoch, r"^epoch 1/1  loss \d.* s/step$")


if __name__ == "__main__":
    absltest.main()
