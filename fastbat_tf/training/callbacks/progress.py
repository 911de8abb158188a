"""Shows the progress of a training: lines, bars, and the time left."""

import contextlib
import time

import keras

from fastbat_tf.runtime import bars, display
from fastbat_tf.runtime.formatting import duration, in_pairs

SECONDS_BETWEEN_LINES = 10.0
WIDTH = 70  # Of lines without columns, so that they fit beside the time.
# The accuracies in the line of an epoch, and their headings. The first two are
# those of the images that the step sees: perturbed ones, or the images as such.
LABELS = {
    "perturbed_accuracy": "train",
    "accuracy": "train",
    "val_clean_accuracy": "val",
    "val_robust_accuracy": "val robust",
    "val_averaged_clean_accuracy": "avg",
    "val_averaged_robust_accuracy": "avg robust",
}


class Pace:
    """Measures the speed of a training, and estimates the time left.

    The first step of the process, which also traces and compiles, is left out
    unless it is the only one.

    Args:
        steps: Integer, the steps of an epoch, or None if unknown.
        epochs: Integer, the epochs of the training.
    """

    def __init__(self, steps, epochs):
        self._steps, self._epochs = steps, epochs
        self._overhead = 0.0  # Seconds of an epoch outside its steps.
        self.step_seconds = None

    def begin_epoch(self):
        """Starts measuring an epoch."""
        self._begin = self._end = time.perf_counter()
        self._taken = 0

    def step(self, count=1):
        """Counts steps that have ended together.

        Args:
            count: Integer. Defaults to `1`.
        """
        self._end = time.perf_counter()
        self._taken += count
        if self.step_seconds is None:
            self.step_seconds = (self._end - self._begin) / count
            self._begin, self._taken = self._end, 0
        else:
            self.step_seconds = (self._end - self._begin) / self._taken

    def end_epoch(self):
        """Ends the measurement, after validation and other callbacks."""
        self._overhead = time.perf_counter() - self._end

    def left_of_epoch(self, batch):
        """Seconds from this batch to the end of the epoch's steps, or None."""
        if self._steps is None:
            return None
        return (self._steps - batch - 1) * self.step_seconds

    def left(self, epoch, batch=None):
        """Seconds to the end of the training, or None if unknown.

        Args:
            epoch: Integer, the current epoch.
            batch: Integer, the last finished batch of the epoch. Defaults to
                `None`: the whole epoch is finished.
        """
        if self._steps is None:
            return None
        steps = (self._epochs - epoch) * self._steps
        steps -= self._steps if batch is None else batch + 1
        epochs = self._epochs - epoch - (batch is None)
        return steps * self.step_seconds + epochs * self._overhead


class EpochLines:
    """Prints the lines of epochs, in the columns of the first one.

    Args:
        epochs: Integer, the epochs of the training.
    """

    def __init__(self, epochs):
        self._epochs = epochs
        self._headings = ()
        self._widths = {
            "epoch": max(5, len(self._count(epochs))),
            "loss": 7,
            "s/step": 6,
            "left": 10,
        }

    def _count(self, epoch):
        return f"{epoch}/{self._epochs}"

    def print(self, epoch, logs, **measured):
        """Prints the line of an epoch, and below it what else is known.

        Args:
            epoch: Integer, counted from 1.
            logs: Dict of the epoch.
            **measured: The strings of the last columns, by heading.
        """
        cells = {"epoch": self._count(epoch)}
        if "loss" in logs:
            cells["loss"] = _number(logs["loss"])
        for name, heading in LABELS.items():
            if name in logs:
                cells[heading] = _percent(logs[name])
        cells |= measured
        if not set(cells) <= set(self._headings):
            self._headings = tuple(cells)
            self._print({heading: heading for heading in cells})
        self._print(cells)
        others = [
            (name, f"{value:.4g}")
            for name, value in sorted(logs.items())
            if name not in {"loss", *LABELS}
        ]
        if others:
            display.log("\n".join(in_pairs(others, WIDTH)), verbosity=1)

    def _print(self, cells):
        texts = []
        for heading in self._headings:
            width = self._widths.get(heading, max(5, len(heading)))
            texts.append(cells.get(heading, "").rjust(width))
        display.log("  ".join(texts).rstrip())


class TrainingProgress(keras.callbacks.Callback):
    """Prints a line for each epoch and, on a terminal, shows two bars.

    One bar is for the epoch, one for the whole training. Both are drawn by the
    `fastbat_tf.runtime.display.Display` that is shown; if none is shown, there
    are only lines.
    """

    def on_train_begin(self, logs=None):
        self._pace = Pace(self.params["steps"], self.params["epochs"])
        self._lines = EpochLines(self.params["epochs"])
        self._last_line = time.perf_counter()
        self._last_refresh = 0.0
        self._is_compiled = False
        with contextlib.ExitStack() as stack:
            self._epoch_task = stack.enter_context(display.task("epoch"))
            self._run_task = stack.enter_context(display.task("run"))
            self._tasks = stack.pop_all()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._pace.begin_epoch()

    def on_train_batch_begin(self, batch, logs=None):
        self._first = batch
        if not self._is_compiled:
            self._show(batch, "compiling ...")

    def on_train_batch_end(self, batch, logs=None):
        self._is_compiled = True
        steps = self.params["steps"]
        batch = _last_step(batch, steps)
        self._pace.step(batch + 1 - self._first)
        now = time.perf_counter()
        is_last = batch + 1 == steps
        # Not after each step: reading the loss waits for the device.
        if self._epoch_task.is_live and (
            is_last or now - self._last_refresh > 1 / bars.REFRESHES_PER_SECOND
        ):
            self._last_refresh = now
            rate = 1 / max(self._pace.step_seconds, 1e-9)
            speed = (
                f"{rate:.3g} steps/s" if rate >= 1 else f"{1 / rate:.3g} s/step"
            )
            self._show(batch + 1, f"loss {_number(logs['loss'])}  {speed}")
        elif now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now
            left = self._pace.left_of_epoch(batch)
            line = (
                f"step {self._count(batch + 1, len(str(steps or '')))}  "
                f"loss {_number(logs['loss']):>7}  "
                f"{_seconds(self._pace.step_seconds):>6} s/step"
            )
            if left is not None:
                line += f"  {duration(left)} left in the epoch"
            display.log(line, verbosity=1)

    def _count(self, done, width=0):
        """Such as `"4/10"`; a generator has no known number of steps."""
        steps = self.params["steps"]
        return f"{done}" if steps is None else f"{done:{width}}/{steps}"

    def _show(self, done, detail):
        """Updates both bars; during compilation the epoch's only pulses."""
        steps, epochs = self.params["steps"], self.params["epochs"]
        known = self._is_compiled
        self._epoch_task.update(
            done,
            steps if known else None,
            self._pace.left_of_epoch(done - 1) if known else None,
            description=f"epoch {self._epoch + 1}/{epochs}",
            count=self._count(done),
            detail=detail,
        )
        if steps is None:
            return
        total, done_in_all = epochs * steps, self._epoch * steps + done
        self._run_task.update(
            done_in_all,
            total,
            self._pace.left(self._epoch, done - 1) if known else None,
            count=f"{done_in_all / total:.0%}",
        )

    def on_epoch_end(self, epoch, logs=None):
        self._pace.end_epoch()
        speed, left = self._pace.step_seconds, None
        if speed is not None:  # A process that was killed made all the steps.
            left = self._pace.left(epoch)
        measured = {"s/step": "" if speed is None else _seconds(speed)}
        if not self._epoch_task.is_live:
            is_last = epoch + 1 == self.params["epochs"]
            measured["left"] = "" if is_last or not left else duration(left)
        self._lines.print(epoch + 1, logs, **measured)

    def on_train_end(self, logs=None):
        self._tasks.close()


class TimeForecast(keras.callbacks.Callback):
    """Prints after the first steps how long the training will take.

    Args:
        hint: String, printed after a forecast of more than half an hour.
        steps: Integer, how many steps after the first call are timed. Defaults
            to `5`.
    """

    LONG = 1800  # Seconds.

    def __init__(self, hint, steps=5):
        super().__init__()
        self.hint = hint
        self.steps = steps
        self._seen = None
        self._has_told = False

    def on_train_batch_begin(self, batch, logs=None):
        self._first = batch

    def on_train_batch_end(self, batch, logs=None):
        steps, epochs = self.params["steps"], self.params["epochs"]
        if self._seen is None:  # It also traced and compiled.
            self._start = time.perf_counter()
            self._seen = 0
            return
        self._seen += _last_step(batch, steps) + 1 - self._first
        if self._seen >= self.steps and not self._has_told:
            self._has_told = True
            seconds = (time.perf_counter() - self._start) / self._seen
            if steps is None:  # A generator: it may yield any number.
                display.log(f"{_seconds(seconds)} s/step")
                return
            total = seconds * steps * epochs
            forecast = (
                f"{_seconds(seconds)} s/step: about {duration(total)} for all "
                f"{epochs} epochs, without validation and measurement."
            )
            hint = f" {self.hint}" if total > self.LONG else ""
            display.log(forecast + hint)


def _last_step(batch, steps):
    """The last step of a call; Keras counts on beyond the end of an epoch."""
    return batch if steps is None else min(batch, steps - 1)


def _number(value):
    """A loss in at most seven characters, if it is not below zero."""
    value = float(value)
    return f"{value:.3f}" if 1e-2 <= abs(value) < 1e3 else f"{value:.2g}"


def _percent(share):
    """A share in at most five characters."""
    return "100%" if share == 1 else f"{share:.1%}"


def _seconds(seconds):
    """The time of a step in at most six characters, up to 100 seconds."""
    return f"{seconds:.3f}"
