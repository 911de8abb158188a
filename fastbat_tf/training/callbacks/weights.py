"""Saves the best and the last weights of a training."""

import contextlib
import io
import math

import keras

from fastbat_tf import workers
from fastbat_tf.files import replacing
from fastbat_tf.training import records
from fastbat_tf.training.callbacks import columns
from fastbat_tf.training.callbacks.validation import AVERAGED


class BestWeights(keras.callbacks.Callback):
    """Saves the weights of the best epoch, raw or averaged.

    Averaged weights are saved as the weights of the model, so the file is read
    like any other. Ties keep the earlier epoch, and raw weights over averaged
    ones.

    Args:
        path: A `pathlib.Path` of the file, ending in `.weights.h5`.
        monitor: String, the column of the logs that decides for raw weights:
            `"val_clean_accuracy"` or `"val_robust_accuracy"`. Higher is better.
        averaged_weights: The method `RobustClassifier.averaged_weights`, to
            consider the averaged weights, too. Defaults to `None`.

    Attributes:
        best: The highest value so far.
        column: The column in which it was found.
        epoch: Integer, the epoch, counted from 1. None before the first, and
            if an earlier version, which did not keep it, has found the best.
    """

    def __init__(self, path, monitor, averaged_weights=None):
        super().__init__()
        self.path = path
        self.best = -math.inf
        self.column = self.epoch = None
        self._candidates = {monitor: contextlib.nullcontext}
        if averaged_weights is not None:
            averaged = monitor.replace("val_", AVERAGED)
            self._candidates[averaged] = averaged_weights

    def on_epoch_end(self, epoch, logs=None):
        for column, weights in self._candidates.items():
            value = columns.read(logs, column, "RobustAccuracy")
            if value > self.best:
                self.best, self.column = value, column
                self.epoch = epoch + 1
                with weights():
                    save_weights(self.model, self.path)

    @property
    def state(self):
        """What a checkpoint keeps."""
        return {
            "best": self.best,
            "column": self.column,
            "epoch": self.epoch,
        }

    @state.setter
    def state(self, state):
        self.best = state["best"]
        self.column = records.current(state["column"])
        self.epoch = state.get("epoch")


class LastWeights(keras.callbacks.Callback):
    """Saves the weights after each epoch.

    Args:
        path: A `pathlib.Path` of the file, ending in `.weights.h5`.
    """

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch, logs=None):
        save_weights(self.model, self.path)


class _Memory(io.BytesIO):
    """A file in memory, with a name whose extension Keras checks."""

    def __init__(self, path):
        super().__init__()
        self._path = path

    def __str__(self):
        return str(self._path)


def save_weights(model, path):
    """Saves the weights of a model to a file, completely or not at all.

    The file is first written to memory, which takes as much as its size. All
    workers of a training call this; the chief alone writes the file.

    Args:
        model: A compiled `keras.Model`.
        path: A `pathlib.Path` of the file, ending in `.weights.h5`.

    Raises:
        OSError: If the file cannot be written; it is then left as it was.
    """
    # HDF5 would end the process without a message if the disk were full, so
    # it writes to memory.
    memory = _Memory(path)
    # On all workers: what differs between replicas is reduced over them.
    model.save_weights(memory)
    if workers.of(model.distribute_strategy).is_chief:
        with replacing(path) as file:
            file.write(memory.getbuffer())
