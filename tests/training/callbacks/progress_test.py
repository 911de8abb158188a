"""The lines and bars of a training."""

import contextlib
import io
import re
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
        """Returns the lines, without the time; the first step takes a minute.

        A value of the logs may be a list of those of the epochs.
        """
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
                progress.on_epoch_end(
                    epoch,
                    {
                        name: value[epoch] if isinstance(value, list) else value
                        for name, value in logs.items()
                    },
                )
            progress.on_train_end()
        date, *lines = printed.getvalue().splitlines() or [""]
        self.assertRegex(date, r"^(\d{4}-\d\d-\d\d .*)?$")
        for line in lines:
            self.assertRegex(line, r"^(\d\d:\d\d:\d\d| {8}) ")
        return [line[9:] for line in lines]

    def test_a_line_for_an_epoch(self):
        # Left: 20 steps of 4 seconds, and 10 seconds for each validation.
        self.assertEqual(
            self.lines(range(10), 4, epochs=3),
            [
                "epoch     loss    val  s/step        left",
                "  1/3    2.000  50.0%   4.000       100 s",
                "  2/3    2.000  50.0%   4.000        50 s",
                "  3/3    2.000  50.0%   4.000",
            ],
        )

    def test_columns_stay_where_they_are(self):
        """Whatever the values are, and if one is missing."""
        headings, *lines = self.lines(
            range(10),
            4,
            epochs=3,
            loss=[123.4567, 0.00012345, 2.0],
            perturbed_accuracy=[0.0, 1.0, 0.5],
            val_robust_accuracy=[0.125, 0.05, float("nan")],
        )
        self.assertEqual(
            headings,
            "epoch     loss  train    val  val robust  s/step        left",
        )
        ends = [match.end() for match in re.finditer(r"\S+( \S+)?", headings)]
        for line in lines:
            for end in ends[:-1]:
                self.assertRegex(line[end - 1 : end + 2], r"^\S( |$)")
        self.assertIn("100%", lines[1])

    def test_what_is_told_in_which_order(self):
        """With averages, too, the line fits into a terminal of 80 columns."""
        told = {
            "perturbed_accuracy": 0.25,
            "val_robust_accuracy": 0.125,
            "val_averaged_clean_accuracy": 0.75,
            "val_averaged_robust_accuracy": 1.0,
        }
        self.assertEqual(
            self.lines(range(10), 4, **told, robust_interior_fraction=0.1),
            [
                "epoch     loss  train    val  val robust    avg  avg robust  "
                "s/step        left",
                "  1/3    2.000  25.0%  50.0%       12.5%  75.0%        100%  "
                " 4.000       100 s",
            ],
        )
        bars = mock.Mock(is_live=True)
        with mock.patch.object(
            display, "task", lambda *_: contextlib.nullcontext(bars)
        ):
            for line in self.lines(range(10), 4, **told):
                self.assertLessEqual(len(f"12:34:56 {line}"), 80)

    def test_the_accuracy_of_clean_training(self):
        headings, line = self.lines(range(10), 4, accuracy=0.25)
        self.assertRegex(headings, "^epoch +loss +train +val ")
        self.assertRegex(line, r"^ +1/3 +2\.000 +25\.0% +50\.0% ")

    @parameterized.parameters(
        (0.00012345, "0.00012"), (0.05, "0.050"), (123.4567, "123.457"),
        (123456.7, "1.2e+05"), (-2.5, "-2.500"), (0.0, "0"),
    )  # fmt: skip
    def test_loss(self, loss, expected):
        _, line = self.lines(range(10), 4, loss=loss)
        self.assertStartsWith(line, f"  1/3  {expected:>7}  50.0%  ")

    def test_more_lines(self):
        lines = self.lines(
            range(10),
            4,
            verbosity=1,
            robust_interior_fraction=0.25,
            val_overfitting_gap=-0.012345,
            overfitting_alarm=0.0,
        )
        self.assertEqual(
            lines[:-4],
            [
                "step  1/10  loss   2.500  60.000 s/step  9 min left in the "
                "epoch",
                "step  4/10  loss   2.500   4.000 s/step  24 s left in the "
                "epoch",
                "step  7/10  loss   2.500   4.000 s/step  12 s left in the "
                "epoch",
                "step 10/10  loss   2.500   4.000 s/step  0 s left in the "
                "epoch",
            ],
        )
        self.assertStartsWith(lines[-3], "  1/3  ")
        self.assertEqual(
            lines[-2:],
            [
                "overfitting_alarm    0           robust_interior_fraction  "
                "0.25",
                "val_overfitting_gap  -0.01235",
            ],
        )

    def test_an_unknown_number_of_steps(self):
        steps = [
            "step 1  loss   2.500   4.000 s/step",
            "step 4  loss   2.500   4.000 s/step",
            "step 7  loss   2.500   4.000 s/step",
            "step 10  loss   2.500   4.000 s/step",
        ]
        self.assertEqual(
            self.lines(range(10), 4, verbosity=1, epochs=2, steps=None),
            [
                "step 1  loss   2.500  60.000 s/step",
                *steps[1:],
                "epoch     loss    val  s/step        left",
                "  1/3    2.000  50.0%   4.000",
                *steps,
                "  2/3    2.000  50.0%   4.000",
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
        _, line = self.lines(range(8, 10), 4)
        self.assertEndsWith(line, " 4.000       100 s")

    def test_goes_on_at_the_end_of_an_epoch(self):
        for verbosity in (0, 1):
            headings, line = self.lines((), 4, verbosity=verbosity)
            self.assertStartsWith(headings, "epoch     loss    val  ")
            self.assertEqual(line, "  1/3    2.000  50.0%")


class TimeForecastTest(parameterized.TestCase, tf.test.TestCase):
    def test_prints_once(self):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            SmallTraining().fit(callbacks.TimeForecast("Buy a GPU.", steps=2))
        lines = printed.getvalue().strip().splitlines()
        self.assertLen(lines, 1)
        self.assertRegex(
            lines[0],
            r"^\d+\.\d{3} s/step: about \d+ s for all 2 epochs, without "
            r"validation and measurement\.$",
        )

    @parameterized.parameters(
        # 2,000 steps, of which 3 are timed; long trainings get the hint.
        (7.5, "2.500 s/step: about 1 h 23 min", " Hint."),
        (2.73, "0.910 s/step: about 30 min", " Hint."),
        (2.67, "0.890 s/step: about 30 min", ""),
        (0.15, "0.050 s/step: about 100 s", ""),
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
        # Without the time, as the display is that of somebody else.
        forecast, headings, epoch = printed.getvalue().splitlines()
        self.assertRegex(forecast, r"^\d+\.\d{3} s/step$")
        self.assertRegex(headings, "^epoch +loss .* s/step +left$")
        self.assertRegex(epoch, r"^ +1/1 +\d+\.\d{3} .*\d$")


if __name__ == "__main__":
    absltest.main()
