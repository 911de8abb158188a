"""Writes curves for TensorBoard."""

import math

import keras
import tensorflow as tf

POINTS = 20  # The most within an epoch.
STEPS = 50  # Between two points, if an epoch has no known number of steps.


class Curves(keras.callbacks.TensorBoard):
    """Keras' `TensorBoard` callback, with curves within the epochs.

    As in Keras, the runs `train` and `validation` hold a point of `epoch_loss`
    and of all other logs for each epoch, which is counted from 1. Loss and
    accuracies of the training also have points within the epoch, at most 20:
    `batch_loss` is the mean of the steps since the point before, as if all
    batches were of one size, and its x axis the number of steps. Few steps are
    read, because reading waits for the device. All points are on the disk when
    they are written, so that files that are copied at any step hold them.

    Args:
        log_dir: Path of the directory that TensorBoard shows.
        **kwargs: Other arguments of `keras.callbacks.TensorBoard`.
    """

    def __init__(self, log_dir, **kwargs):
        super().__init__(str(log_dir), **kwargs)
        self._steps_before = 0  # In finished epochs.
        self._step = 0  # Of this epoch.
        self._forget_epoch()

    def _forget_epoch(self):
        self._last = 0  # The step of the epoch with the last point.
        self._means = {}  # Of all steps of the epoch until then.

    @property
    def validation_writer(self):
        """The summary writer of the run `validation`."""
        return self._val_writer

    @property
    def state(self):
        """The last point of this epoch, which a checkpoint keeps."""
        return {"step": self._last, "means": self._means}

    @state.setter
    def state(self, state):
        self._last, self._means = state["step"], state["means"]

    def on_epoch_begin(self, epoch, logs=None):
        super().on_epoch_begin(epoch, logs)
        steps = self.params["steps"]
        if steps is not None:
            self._steps_before = epoch * steps

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        steps = self.params["steps"]
        # Keras counts the steps of a call on beyond the end of an epoch.
        self._step = batch + 1 if steps is None else min(batch + 1, steps)
        between = STEPS if steps is None else math.ceil(steps / POINTS)
        if self._step < self._last:  # An epoch was interrupted.
            self._forget_epoch()
        if self._step // between > self._last // between:
            self._write(logs or {})

    def _write(self, logs):
        """Writes the means of the steps since the last point."""
        means = {
            name: float(value)
            for name, value in logs.items()
            if name == "loss" or name.endswith("accuracy")
        }
        with self._train_writer.as_default():
            for name, mean in means.items():
                before = self._means.get(name, 0.0) * self._last
                value = (mean * self._step - before) / (self._step - self._last)
                step = self._steps_before + self._step
                tf.summary.scalar(f"batch_{name}", value, step)
        self._train_writer.flush()
        self._last, self._means = self._step, means

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch + 1, logs)
        for writer in self._writers.values():
            writer.flush()
        self._steps_before += self._step
        self._forget_epoch()

    def _collect_learning_rate(self, logs):
        # Keras would replace the rate of the last step by that of the next.
        if "learning_rate" in logs:
            return logs
        return super()._collect_learning_rate(logs)
