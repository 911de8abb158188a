"""Records the time and the memory of each epoch."""

import time

import keras

from fastbat_tf import distribution
from fastbat_tf.training import records
from fastbat_tf.training.callbacks import columns

COLUMNS = "epoch", "seconds", "first_step_seconds", "peak_gigabytes"


class Timing(keras.callbacks.Callback):
    """Appends the time of each epoch to a file, and adds it to the logs.

    The columns are:

    * `epoch`, counted from 1;
    * `seconds`: the time of the epoch's steps;
    * `first_step_seconds`: the time of the first step that this process made
      in the epoch, with tracing and compilation, or of the first call of
      several steps;
    * `peak_gigabytes`: the most memory, in units of 2**30 bytes, that the
      fullest GPU has held so far, or the process if there is no GPU.

    After an interruption the file continues. List this callback after all that
    must not depend on the time.

    Args:
        path: A `pathlib.Path` of the file, such as `timing.csv`.
    """

    def __init__(self, path):
        super().__init__()
        self.path = path
        self._before = 0.0  # Seconds of this epoch in earlier processes.
        self._start = self._first_step = self._seconds = None

    def on_train_begin(self, logs=None):
        columns.refuse_metrics(self.model, "seconds")

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()
        self._first_step = None

    def on_train_batch_end(self, batch, logs=None):
        self._seconds = time.perf_counter() - self._start
        if self._first_step is None:
            self._first_step = self._seconds

    def on_epoch_end(self, epoch, logs=None):
        columns.refuse_taken(logs, "seconds")
        logs["seconds"] = self.state
        peak = distribution.peak_gigabytes()
        row = epoch + 1, logs["seconds"], self._first_step, peak
        records.append(self.path, dict(zip(COLUMNS, row, strict=True)))
        self._before, self._seconds = 0.0, None

    def total(self):
        """Returns the seconds of all epochs so far."""
        return sum(row["seconds"] for row in records.read(self.path))

    @property
    def state(self):
        """The seconds of this epoch so far, which a checkpoint keeps."""
        return self._before + (self._seconds or 0.0)

    @state.setter
    def state(self, state):
        self._before = state
