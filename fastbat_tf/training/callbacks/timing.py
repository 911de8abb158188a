"""How long the epochs take, and how much memory."""

import csv
import time

import keras

from fastbat_tf import distribution

COLUMNS = "epoch", "seconds", "first_step_seconds", "peak_gigabytes"


class Timing(keras.callbacks.Callback):
    """Writes the time of each epoch to a file, and adds it to the logs.

    The file goes on where a killed process has left it.

    The columns are `epoch`; `seconds`, of the steps of the epoch;
    `first_step_seconds`, of the first step that this process made in it:
    tracing and compilation; and `peak_gigabytes`, the most memory that the
    fullest GPU, or without one the process, has held so far. It stands behind
    what must not depend on the time.

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
                writer.writerow(COLUMNS)
            peak = distribution.peak_gigabytes()
            row = epoch, logs["seconds"], self._first_step, peak
            writer.writerow(row)
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
