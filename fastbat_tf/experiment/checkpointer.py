"""Saves and restores a training at any step."""

import time

from fastbat_tf import workers
from fastbat_tf.errors import InputError
from fastbat_tf.runtime import display
from fastbat_tf.runtime.options import parse_interval
from fastbat_tf.training import variables


class Interval:
    """The steps or minutes between two checkpoints.

    Args:
        every: String such as `"500"`, steps, or `"15min"`.
    """

    def __init__(self, every):
        self._steps, self._seconds = parse_interval(every)
        self.restart()

    def restart(self):
        """Starts counting again."""
        self._taken = 0
        self._start = time.monotonic()

    @property
    def steps_left(self):
        """The steps until the interval is over, infinite if it is a time."""
        return self._steps - self._taken

    def has_passed(self, steps=1):
        """Counts steps, and returns whether the interval is over.

        Args:
            steps: Integer. Defaults to `1`.
        """
        self._taken += steps
        elapsed = time.monotonic() - self._start
        return self._taken >= self._steps or elapsed >= self._seconds


class Checkpointer:
    """Saves and restores a training: variables, epoch, callbacks, files.

    All workers of a training call its methods, but only the chief reads and
    writes files.

    Args:
        robust: The `RobustClassifier`.
        backup: The `Backup` that holds the checkpoints.
        interval: The `Interval` between checkpoints within an epoch.
        callbacks: List of objects with a `state`, of JSON's types, that can be
            read and set. Defaults to `()`.
    """

    def __init__(self, robust, backup, interval, callbacks=()):
        self._robust = robust
        self._backup = backup
        self._interval = interval
        self._callbacks = callbacks
        self._workers = workers.of(robust.distribute_strategy)

    def restore(self):
        """Restores the last checkpoint.

        Returns:
            Its epoch and batch, or None if there is no checkpoint.

        Raises:
            InputError: If all checkpoints are damaged, or the last one is of
                another model.
        """
        kept = variables.state_variables(self._robust)
        arrays = []  # Of the chief.

        def read():
            saved = self._backup.restore()
            if saved is None:
                return None
            shapes = [tuple(variable.shape) for variable in kept]
            if shapes != [array.shape[1:] for array in saved.arrays]:
                raise InputError(
                    "The checkpoint is of another model or optimizer; expected "
                    "that of this version of the program. "
                    f"Received: path={saved.files.parent}"
                )
            arrays.extend(saved.arrays)
            return saved.state

        saved = self._workers.on_chief(read)
        if saved is None:
            return None
        for number, variable in enumerate(kept):
            own = arrays[number] if arrays else None
            array = self._workers.from_chief(own)
            variables.assign(variable, array, self._workers.index)
        # The last callback is new: checkpoints of earlier versions lack it.
        for callback, state in zip(
            self._callbacks, saved["callbacks"], strict=False
        ):
            callback.state = state
        epoch, batch = saved["epoch"], saved["batch"]
        display.log(f"Resuming: {epoch} epochs and {batch} steps are done.")
        return epoch, batch

    @property
    def steps_until_due(self):
        """The steps until a checkpoint is due, infinite if that is a time."""
        return self._interval.steps_left

    def is_due(self, steps=1):
        """Counts steps, and returns whether the interval is over.

        Args:
            steps: Integer, the steps since the last call. Defaults to `1`.
        """
        return self._interval.has_passed(steps)

    def snapshot(self, epoch, batch):
        """Copies everything that a checkpoint holds.

        Args:
            epoch: Integer, the number of finished epochs.
            batch: Integer, the number of finished batches of the next epoch.

        Returns:
            List of arrays, and a state of JSON's types.
        """
        kept = variables.state_variables(self._robust)
        arrays = variables.all_values(kept, self._workers)
        state = {
            "epoch": epoch,
            "batch": batch,
            "callbacks": [callback.state for callback in self._callbacks],
        }
        return arrays, state

    def save(self, snapshot):
        """Writes what `snapshot` returned, and restarts the interval."""
        if self._workers.is_chief:
            self._backup.save(*snapshot)
        self._interval.restart()
