"""The weights that a training keeps."""

import contextlib
import math
import os

import keras
import numpy as np

from fastbat_tf.callbacks.validation import AVERAGED


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
