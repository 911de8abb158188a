"""The weights that a training keeps."""

import contextlib
import io
import math

import keras

from fastbat_tf.files import replacing
from fastbat_tf.training.callbacks.validation import AVERAGED


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


class _Memory(io.BytesIO):
    """A file in memory, with the name that Keras checks."""

    def __init__(self, path):
        super().__init__()
        self._path = path

    def __str__(self):
        return str(self._path)


def save_weights(model, path):
    """Saves so that the file is whole or old; it takes its size in memory.

    Args:
        model: A compiled `keras.Model`.
        path: A `pathlib.Path`, ending in `.weights.h5`.

    Raises:
        OSError: If there is no room on the disk.
    """
    # Where the disk is full, HDF5 ends the process without a word: it writes
    # to memory.
    memory = _Memory(path)
    model.save_weights(memory)
    with replacing(path) as file:
        file.write(memory.getbuffer())
