"""The training loop of a run, which can be left and entered at any batch.

Keras' `fit` begins with a whole epoch. This loop is what `fit` does, around the
same `train_function` and the same callbacks, with a place to begin.
"""

import time

import keras
import tensorflow as tf

from fastbat_tf.errors import InputError
from fastbat_tf.experiment.config import parse_interval
from fastbat_tf.experiment.preemption import Preempted
from fastbat_tf.training import variables


def fit(
    robust,
    make_batches,
    epochs,
    steps_per_epoch,
    validations,
    callbacks,
    keeper,
    preemption,
):
    """Trains, from where the last checkpoint is, to the end.

    Args:
        robust: A compiled `RobustClassifier`.
        make_batches: Function from an integer, the number of batches to skip,
            to a `tf.data.Dataset` that does not end.
        epochs: Integer.
        steps_per_epoch: Integer.
        validations: List of callbacks that add to the logs of an epoch. They
            may take long, and are interrupted by signals.
        callbacks: List of other callbacks.
        keeper: A `Keeper`.
        preemption: A `Preemption`.

    Returns:
        Whether there was anything left to do.

    Raises:
        Preempted: After a checkpoint, if SIGTERM or Ctrl-C has come.
    """
    strategy = robust.distribute_strategy
    build(robust)
    place = keeper.restore()
    if place is None:
        # From now on the files that grow can always be put back.
        keeper.save(keeper.snapshot(0, 0))
    epoch, batch = begin = place or (0, 0)
    if epoch == epochs:
        return False
    batches = make_batches(epoch * steps_per_epoch + batch)
    iterator = iter(strategy.experimental_distribute_dataset(batches))
    callbacks = keras.callbacks.CallbackList(
        callbacks, model=robust, epochs=epochs, steps=steps_per_epoch
    )
    for validation in validations:
        validation.set_model(robust)
    robust.make_train_function()
    robust.stop_training = False
    callbacks.on_train_begin()
    snapshot, is_first = None, True
    try:
        while epoch < epochs and not robust.stop_training:
            callbacks.on_epoch_begin(epoch)
            while batch < steps_per_epoch:
                with preemption.deferred():
                    callbacks.on_train_batch_begin(batch)
                    # It compiles; the last checkpoint is from before it.
                    with preemption.expendable(is_first):
                        logs = robust.train_function(iterator)
                    is_first = False
                    callbacks.on_train_batch_end(batch, logs)
                    batch += 1
                    if batch < steps_per_epoch:
                        keeper.save_if_due(epoch, batch)
            logs = {k: float(v) for k, v in robust.get_metrics_result().items()}
            # Taken now: the validation puts averaged weights in their place.
            snapshot = keeper.snapshot(epoch, batch)
            with preemption.interruptible():
                for validation in validations:
                    validation.on_epoch_end(epoch, logs)
            with preemption.deferred():
                snapshot = None
                callbacks.on_epoch_end(epoch, logs)
                robust.reset_metrics()
                epoch, batch = epoch + 1, 0
                keeper.save(keeper.snapshot(epoch, batch))
    except Preempted:
        keeper.save(snapshot or keeper.snapshot(epoch, batch))
        raise
    callbacks.on_train_end()
    return (epoch, batch) != begin


def build(robust):
    """Makes the variables that Keras makes in the first step.

    They are those of the optimizer and of the metrics; a checkpoint must have
    where to put them.
    """
    shape = (robust.distribute_strategy.num_replicas_in_sync,)
    images = tf.zeros(shape + robust.classifier.input_shape[1:])
    logits = tf.zeros(shape + robust.classifier.output_shape[1:])
    with robust.distribute_strategy.scope():
        robust.optimizer.build(robust.trainable_variables)
        robust.compute_metrics(images, tf.zeros(shape, tf.int32), logits)
    robust.reset_metrics()


class Interval:
    """So many steps, or so many minutes.

    Args:
        every: Text such as `"500"`, steps, or `"15min"`.
    """

    def __init__(self, every):
        self._steps, self._seconds = parse_interval(every)
        self.restart()

    def restart(self):
        """Begins to count anew."""
        self._taken = 0
        self._start = time.monotonic()

    def has_passed(self):
        """Counts a step, and answers."""
        self._taken += 1
        elapsed = time.monotonic() - self._start
        return self._taken >= self._steps or elapsed >= self._seconds


class Keeper:
    """Saves and restores a training: variables, place, callbacks, files.

    Args:
        robust: The `RobustClassifier`.
        backup: A `Backup`.
        interval: An `Interval` that says when, beside the end of each epoch.
        callbacks: List of objects with an attribute `state`, of JSON's types,
            that can be read and set.
        say: Function that prints a line.
    """

    def __init__(self, robust, backup, interval, callbacks=(), say=print):
        self._robust = robust
        self._backup = backup
        self._interval = interval
        self._callbacks = callbacks
        self._say = say

    def restore(self):
        """Goes back to the last checkpoint.

        Returns:
            Its epoch and batch; None if there is no checkpoint.

        Raises:
            InputError: If none is whole, or it is of another model.
        """
        saved = self._backup.restore()
        if saved is None:
            return None
        kept = variables.state_variables(self._robust)
        shapes = [tuple(variable.shape) for variable in kept]
        if shapes != [array.shape[1:] for array in saved.arrays]:
            raise InputError(
                "The checkpoint is of another model or optimizer; expected "
                "that of this version of the program. "
                f"Received: path={saved.files.parent}"
            )
        for variable, array in zip(kept, saved.arrays, strict=True):
            variables.assign(variable, array)
        states = saved.state["callbacks"]
        for callback, state in zip(self._callbacks, states, strict=True):
            callback.state = state
        epoch, batch = saved.state["epoch"], saved.state["batch"]
        self._say(f"Going on: {epoch} epochs and {batch} steps are done.")
        return epoch, batch

    def save_if_due(self, epoch, batch):
        """Saves, if so many steps or minutes have passed."""
        if self._interval.has_passed():
            self.save(self.snapshot(epoch, batch))

    def snapshot(self, epoch, batch):
        """A copy of all that is saved: `batch` batches of `epoch` are done."""
        arrays = [
            variables.values(v) for v in variables.state_variables(self._robust)
        ]
        state = {
            "epoch": epoch,
            "batch": batch,
            "callbacks": [callback.state for callback in self._callbacks],
        }
        return arrays, state

    def save(self, snapshot):
        """Writes a checkpoint."""
        self._backup.save(*snapshot)
        self._interval.restart()
