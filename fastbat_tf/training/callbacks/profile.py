"""Records what the devices do in some steps, for TensorBoard."""

import keras
import tensorflow as tf

from fastbat_tf.errors import InputError
from fastbat_tf.runtime import display


class Profile(keras.callbacks.Callback):
    """Records a profile of some steps with TensorFlow's profiler.

    TensorBoard shows it on its page "Profile" if the package
    `tensorboard-plugin-profile` is installed. Steps are counted from 1 over
    all epochs. A call of several steps is recorded as a whole, and so is what
    happens between two epochs. The first step of a process also traces and
    compiles.

    Args:
        first: Integer, the first step to record.
        last: Integer, the last step to record.
        path: Path of the directory that TensorBoard shows.
        steps_per_execution: Integer, the most steps of a call. Defaults to
            `1`.

    Raises:
        InputError: When the training begins, if it has fewer steps than `last`.
    """

    def __init__(self, first, last, path, steps_per_execution=1):
        super().__init__()
        self.first, self.last, self.path = first, last, path
        self.steps_per_execution = steps_per_execution
        self._begin = None  # The first step of the profile being recorded.
        self._mark = None  # Of the call being made.

    def on_train_begin(self, logs=None):
        steps = self.params["steps"]
        total = steps and steps * self.params["epochs"]
        if total and self.last > total:
            raise InputError(
                f"`profile` is expected to end in the {total} steps of the "
                f"training. Received: profile={self.first},{self.last}"
            )

    def on_epoch_begin(self, epoch, logs=None):
        self._before = epoch * (self.params["steps"] or 0)

    def on_train_batch_begin(self, batch, logs=None):
        step = self._before + batch + 1
        reaches = step + self.steps_per_execution > self.first
        if self._begin is None and reaches and step <= self.last:
            self._begin = step
            tf.profiler.experimental.start(str(self.path))
        if self._begin is not None:
            # Without it, the page "Profile" cannot tell the time of a step.
            self._mark = tf.profiler.experimental.Trace(
                "train", step_num=step, _r=1
            )
            self._mark.__enter__()

    def on_train_batch_end(self, batch, logs=None):
        if self._mark is not None:
            self._mark.__exit__(None, None, None)
            self._mark = None
        step = self._before + batch + 1
        if self._begin is not None and step >= self.last:
            self._stop(step)

    def on_train_end(self, logs=None):
        if self._begin is not None:  # A callback has ended the training.
            self._stop(self.last)

    def _stop(self, step):
        tf.profiler.experimental.stop()
        display.log(
            f"Profile of the steps {self._begin} to {step}: {self.path}/plugins"
        )
        self._begin = None
