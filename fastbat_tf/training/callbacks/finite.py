"""Stops a training that has diverged."""

import math

import keras

from fastbat_tf.errors import NonFiniteError


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
