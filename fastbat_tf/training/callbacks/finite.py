"""Stops a training that has diverged.

Keras' `TerminateOnNaN(raise_error=True)` looks at the loss alone, and names
neither the epoch nor a step that a user counts; a gradient that is not finite
spoils the weights one step before the loss shows it.
"""

import math

import keras

from fastbat_tf.errors import NonFiniteError
from fastbat_tf.training.step_metrics import GRADIENT_NORM


class StopOnNonFinite(keras.callbacks.Callback):
    """Stops at the first step whose loss or gradient norm is not finite.

    Raises:
        NonFiniteError: With the epoch and the step, both counted from 1.
    """

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        # Means over the epoch: a single non-finite value makes them non-finite.
        for name, word in (("loss", "loss"), (GRADIENT_NORM, "gradient norm")):
            if not math.isfinite(logs[name]):
                raise NonFiniteError(
                    f"The {word} is not finite in epoch "
                    f"{self._epoch + 1}, step {batch + 1}; expected a number. "
                    f"Received: {name}={float(logs[name])}"
                )
