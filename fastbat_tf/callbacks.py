"""What watches a training."""

import contextlib
import csv
import math
import os
import time

import keras
import numpy as np
import tensorflow as tf

from fastbat_tf.attacks.inputs import as_pixels
from fastbat_tf.errors import NonFiniteError

AVERAGED = "val_averaged_"


class RobustValidation(keras.callbacks.Callback):
    """Adds clean and robust validation accuracy to the logs of each epoch.

    The logs get `val_accuracy` and `val_robust_accuracy`, fractions; if the
    weights are averaged, also `val_averaged_accuracy` and
    `val_averaged_robust_accuracy`. It stands before the callbacks that read
    them.

    Args:
        attack: A `PGDAttack` on the classifier in training.
        examples: `Examples` to validate on.
        epsilon: Float, the radius of the attack.
        seed: Integer.
        averaged_weights: `RobustClassifier.averaged_weights`, or None if
            there are none.

    Attributes:
        result: The `AttackResult` of the last epoch, of the raw weights.
    """

    def __init__(
        self, attack, examples, epsilon, seed=0, averaged_weights=None
    ):
        super().__init__()
        self.attack = attack
        self.examples = examples
        self.epsilon = epsilon
        self.seed = seed
        self.averaged_weights = averaged_weights
        self.result = None

    def on_epoch_end(self, epoch, logs=None):
        self.result = self._measure(logs, "val_")
        if self.averaged_weights is not None:
            with self.averaged_weights():
                self._measure(logs, AVERAGED)

    def _measure(self, logs, prefix):
        result = self.attack(*self.examples, self.epsilon, self.seed)
        logs[f"{prefix}accuracy"] = float(result.clean_correct.mean())
        logs[f"{prefix}robust_accuracy"] = float(result.robust.mean())
        return result


class BestWeights(keras.callbacks.Callback):
    """Saves the weights of the best epoch, raw or averaged.

    The averaged ones, if there are any, are saved in the place of the raw
    ones, so that the file is read without knowing. Of equals the first stay.

    Args:
        path: The file, ending in `.weights.h5`.
        monitor: Column of the logs of `RobustValidation` for raw weights.
        averaged_weights: As for `RobustValidation`.

    Attributes:
        best: The highest value of the column so far.
        column: The column that had it.
    """

    def __init__(self, path, monitor, averaged_weights=None):
        super().__init__()
        self.path = path
        self.best = -math.inf
        self.column = None
        self._candidates = {monitor: contextlib.nullcontext}
        if averaged_weights is not None:
            averaged = monitor.replace("val_", AVERAGED)
            self._candidates[averaged] = averaged_weights

    def on_epoch_end(self, epoch, logs=None):
        for column, weights in self._candidates.items():
            if logs[column] > self.best:
                self.best, self.column = logs[column], column
                with weights():
                    save_weights(self.model, self.path)

    @property
    def state(self):
        """What a checkpoint keeps."""
        return {"best": self.best, "column": self.column}

    @state.setter
    def state(self, state):
        self.best, self.column = state["best"], state["column"]


class LastWeights(keras.callbacks.Callback):
    """Saves the weights after each epoch.

    Args:
        path: The file, ending in `.weights.h5`.
    """

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch, logs=None):
        save_weights(self.model, self.path)


def save_weights(model, path):
    """Saves to the side and renames, so that the file is whole or old.

    Args:
        model: A compiled `keras.Model`.
        path: A `pathlib.Path`, ending in `.weights.h5`.

    Raises:
        OSError: If there is no room on the disk.
    """
    partial = path.with_name(f"partial.{path.name}")
    variables = [*model.variables, *model.optimizer.variables]
    # Values, and what HDF5 writes around each of them.
    room = sum(v.value.dtype.size * int(np.prod(v.shape)) for v in variables)
    room += 100_000 + 8_000 * len(variables)
    try:
        # Where the disk is full, HDF5 ends the process without a word.
        with partial.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, room)
        model.save_weights(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


class Curves(keras.callbacks.TensorBoard):
    """Keras' callback, with all of an epoch on the disk at its end."""

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        for writer in self._writers.values():
            writer.flush()


class Timing(keras.callbacks.Callback):
    """Writes the time of each epoch to a file, and adds it to the logs.

    The file goes on where a killed process has left it.

    The columns are `epoch`, `seconds`, of the steps of the epoch, and
    `first_step_seconds`, of the first step that this process made in it:
    tracing and compilation. It stands behind what must not depend on the time.

    Args:
        path: The file, `timing.csv`.
    """

    def __init__(self, path):
        super().__init__()
        self.path = path
        self._before = 0.0  # Of this epoch, in processes that were killed.
        self._start = self._first_step = self._seconds = None

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()
        self._first_step = None

    def on_train_batch_end(self, batch, logs=None):
        self._seconds = time.perf_counter() - self._start
        if self._first_step is None:
            self._first_step = self._seconds

    def on_epoch_end(self, epoch, logs=None):
        logs["seconds"] = self.state
        is_new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(["epoch", "seconds", "first_step_seconds"])
            first = self._first_step
            writer.writerow([epoch, logs["seconds"], first])
        self._before, self._seconds = 0.0, None

    def total(self):
        """The seconds of all epochs so far."""
        with self.path.open(newline="") as file:
            return sum(float(row["seconds"]) for row in csv.DictReader(file))

    @property
    def state(self):
        """The seconds of this epoch so far; what a checkpoint keeps."""
        return self._before + (self._seconds or 0.0)

    @state.setter
    def state(self, state):
        self._before = state


class EpochLine(keras.callbacks.Callback):
    """One line for each epoch: how it went, how fast, how long it will last.

    For a file or a pipe, where a progress bar cannot be read.

    Args:
        detailed: Whether a line every ten seconds tells more.
    """

    def __init__(self, detailed=False):
        super().__init__()
        self.detailed = detailed

    def on_train_begin(self, logs=None):
        self._start = self._said = time.perf_counter()
        self._steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self._steps += 1
        now = time.perf_counter()
        if self.detailed and now - self._said > 10:
            self._said = now
            rate = (now - self._start) / self._steps
            steps = self.params["steps"]
            print(
                f"  step {batch + 1}/{steps}  loss {logs['loss']:.4g}  "
                f"{rate:.2f} s a step, "
                f"{duration((steps - batch - 1) * rate)} to the epoch's end",
                flush=True,
            )

    def on_epoch_end(self, epoch, logs=None):
        epochs = self.params["epochs"]
        parts = [f"epoch {epoch + 1}/{epochs}"]
        parts += [f"{name} {value:.4g}" for name, value in sorted(logs.items())]
        if self._steps:  # None, if the steps were made by a killed process.
            # All that belongs to an epoch, divided by its steps.
            rate = (time.perf_counter() - self._start) / self._steps
            left = (epochs - epoch - 1) * self.params["steps"] * rate
            parts.append(f"{rate:.2f} s a step, {duration(left)} left")
        print("  ".join(parts), flush=True)


class PerturbationPanel(keras.callbacks.Callback):
    """Shows clean and perturbed images, and their difference, in TensorBoard.

    Three rows: images that were classified correctly, the same with the
    perturbation that the validation found, and the difference, with -epsilon
    black, zero gray and +epsilon white.

    Args:
        validation: The `RobustValidation` whose perturbations are shown.
        directory: TensorBoard's directory.
        columns: Integer, how many images.
    """

    def __init__(self, validation, directory, columns=8):
        super().__init__()
        self.validation = validation
        self.directory = directory
        self.columns = columns

    def on_train_begin(self, logs=None):
        self._writer = tf.summary.create_file_writer(str(self.directory))

    def on_train_end(self, logs=None):
        self._writer.close()

    def on_epoch_end(self, epoch, logs=None):
        result = self.validation.result
        shown = np.flatnonzero(result.clean_correct)[: self.columns]
        if not len(shown):
            return
        clean = as_pixels(self.validation.examples.images[shown])
        delta = result.perturbation[shown]
        contrast = 0.5 + delta / (2 * max(self.validation.epsilon, 1e-6))
        rows = [np.hstack(row) for row in (clean, clean + delta, contrast)]
        panel = np.vstack(rows)
        # Enlarged: TensorBoard shows small images small.
        panel = panel.repeat(3, axis=0).repeat(3, axis=1)[np.newaxis]
        with self._writer.as_default():
            tf.summary.image("clean, perturbed, difference", panel, epoch)
        self._writer.flush()


class StopOnNonFinite(keras.callbacks.Callback):
    """Stops at the first step whose loss or gradient is not finite.

    Raises:
        NonFiniteError: Names epoch and step.
    """

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        # Means over the epoch: one value that is not finite stays in them.
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(logs[name]):
                raise NonFiniteError(
                    f"The {name.replace('_', ' ')} is not finite in epoch "
                    f"{self._epoch + 1}, step {batch + 1}; expected a number. "
                    f"Received: {name}={float(logs[name])}"
                )


class TimeForecast(keras.callbacks.Callback):
    """Says after the first steps how long the training will take.

    Args:
        hint: String, printed behind a forecast of more than half an hour.
        steps: Integer, how many steps after the first are timed.
    """

    LONG = 1800  # Seconds.

    def __init__(self, hint, steps=5):
        super().__init__()
        self.hint = hint
        self.steps = steps
        self._seen = 0

    def on_train_batch_end(self, batch, logs=None):
        self._seen += 1
        if self._seen == 1:  # The first step also traces and compiles.
            self._start = time.perf_counter()
        elif self._seen == 1 + self.steps:
            seconds = (time.perf_counter() - self._start) / self.steps
            total = seconds * self.params["steps"] * self.params["epochs"]
            forecast = (
                f"\n{seconds:.2f} s a step: about {duration(total)} for all "
                f"{self.params['epochs']} epochs, validation aside."
            )
            hint = f" {self.hint}" if total > self.LONG else ""
            print(forecast + hint, flush=True)


def duration(seconds):
    """Seconds as a person would say them.

    >>> duration(5000)
    '1 h 23 min'
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
