"""What watches a training."""

import contextlib
import math
import time

import keras
import numpy as np
import tensorflow as tf

from fastbat_tf.attacks.inputs import as_pixels
from fastbat_tf.errors import NonFiniteError

AVERAGED = "val_averaged_"


class RobustValidation(keras.callbacks.Callback):
    """Adds clean and robust validation accuracy to the logs of each epoch.

    The logs get `val_accuracy` and `val_robust_accuracy`, fractions, and
    `seconds`, the time of the epoch without this validation; if the weights
    are averaged, also `val_averaged_accuracy` and
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

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        logs["seconds"] = time.perf_counter() - self._start
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
                    self.model.save_weights(self.path)


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
