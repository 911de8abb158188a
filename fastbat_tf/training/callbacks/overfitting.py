"""A guard against catastrophic overfitting.

A network that is trained with single-step attacks may, within an epoch, become
robust to these alone: FGSM fails on it, and PGD always succeeds. Wong et al.
describe this (ICLR 2020, arXiv 2001.03994).
"""

import os
import pathlib
from collections.abc import Callable
from typing import Any, Literal

import keras
import numpy as np

from fastbat_tf import npz, workers
from fastbat_tf.attacks.base import Attack
from fastbat_tf.errors import InputError, one_of
from fastbat_tf.files import replacing
from fastbat_tf.runtime import display
from fastbat_tf.training import loss_scaling, variables
from fastbat_tf.training.callbacks import columns
from fastbat_tf.training.callbacks.examples import ExamplesCallback
from fastbat_tf.training.options import ROLLBACK, STOP, WARN

ROBUST, GAP = "val_robust_accuracy", "val_overfitting_gap"
SCORES = "val_fgsm_accuracy", GAP, "val_gradient_alignment"
ALARM, ROLLED_BACK = "overfitting_alarm", "overfitting_rollback"


class OverfittingScores(ExamplesCallback):
    """Adds signs of catastrophic overfitting to the logs of each epoch.

    The logs get `val_fgsm_accuracy`, a fraction in [0, 1];
    `val_overfitting_gap`, which is `val_fgsm_accuracy - val_robust_accuracy`;
    and `val_gradient_alignment`, a cosine in [-1, 1]. List this callback after
    `RobustAccuracy`, with the same images and radius.

    Args:
        data: Images and labels, as `RobustAccuracy` takes them.
        fgsm: The attack `attacks.FGSM`. Its radius and its seed are those of
            the alignment, too.
        alignment: A `GradientAlignment` of the classifier in training.

    Raises:
        InputError: If an argument is not as described. At the end of an epoch,
            if the logs hold one of these names already.

    Example:

    ```python
    alignment = fb.GradientAlignment(robust.network)
    scores = fb.OverfittingScores(validation, fb.attacks.FGSM(), alignment)
    robust.fit(data, epochs=20, callbacks=[robust_accuracy, scores])
    ```
    """

    def __init__(
        self, data: Any, fgsm: Attack, alignment: Callable[..., float]
    ) -> None:
        super().__init__(data, fgsm)
        self.alignment = alignment

    def on_epoch_end(self, epoch, logs=None):
        columns.refuse_taken(logs, *SCORES)
        robust = columns.read(logs, ROBUST, "RobustAccuracy")
        with display.task("signs of overfitting"):
            accuracy = float(self.attack_examples().robust.mean())
            alignment = self.alignment(
                *self.examples,
                epsilon=self.attack.epsilon,
                seed=self.attack.seed,
            )
        found = accuracy, accuracy - robust, alignment
        logs.update(zip(SCORES, found, strict=True))


class OverfittingGuard(keras.callbacks.Callback):
    """Raises an alarm if FGSM is far less successful than PGD.

    An epoch raises an alarm if its `val_overfitting_gap` is above `threshold`,
    or above a third of it when `val_robust_accuracy` has fallen below half of
    its best. The guard then prints a line, sets `overfitting_alarm` to 1 in
    the logs, and acts:

    * `"warn"`: training continues.
    * `"stop"`: training ends.
    * `"rollback"`: weights, averages, optimizer state and the method's state
      are restored from the last good epoch, or from the beginning if there is
      none. The radius in use is multiplied by `factor`. Training continues
      with the next epoch, with that epoch's learning rate and random numbers.
      An epoch is good if it raises no alarm and its `val_robust_accuracy` is
      at least 3/4 of the best since the last rollback: a collapse may begin a
      few epochs before its alarm. `overfitting_rollback` in the logs is 1 if
      the epoch ends with a rollback, else 0.

    List this callback after `OverfittingScores`.

    Args:
        action: `"warn"`, `"stop"` or `"rollback"`. Defaults to `"warn"`.
        threshold: Float in (0, 1), the largest gap without an alarm. Defaults
            to `0.15`.
        path: Path of a file, ending in `.npz`, to which a rollback saves what
            it restores. Required for `"rollback"`. Defaults to `None`.
        factor: Float in (0, 1), by which a rollback multiplies the radius. The
            classifier must be compiled with an `EpsilonSchedule`. Defaults to
            `0.5`.

    Raises:
        InputError: If `action` is unknown, if a rollback has no `path` or no
            `EpsilonSchedule`, or if a metric has the name of a column.

    Example:

    ```python
    robust.compile(optimizer, epsilon_schedule=fb.EpsilonSchedule())
    guard = fb.OverfittingGuard("rollback", path=pathlib.Path("good.npz"))
    robust.fit(data, epochs=20, callbacks=[robust_accuracy, scores, guard])
    ```
    """

    def __init__(
        self,
        action: Literal["warn", "stop", "rollback"] = "warn",
        *,
        threshold: float = 0.15,
        path: str | os.PathLike[str] | None = None,
        factor: float = 0.5,
    ) -> None:
        super().__init__()
        self.action = action
        one_of(self, "action", (WARN, STOP, ROLLBACK))
        if action == ROLLBACK and path is None:
            raise InputError(
                "A rollback expects the path of a file. Received: path=None"
            )
        self.threshold = threshold
        self.path = path and pathlib.Path(path)
        self.factor = factor
        self._columns = (ALARM, ROLLED_BACK) if action == ROLLBACK else (ALARM,)
        # The last good epoch, counted from 1; 0 is the beginning.
        self._good_epoch = None
        self._best = 0.0  # `val_robust_accuracy`, since the last rollback.
        self._has_stopped = False

    def on_train_begin(self, logs=None):
        columns.refuse_metrics(self.model, *self._columns)
        if self._has_stopped:
            self.model.stop_training = True
        elif self.action == ROLLBACK:
            self._begin()

    def _begin(self):
        model = self.model
        if model.epsilon_schedule is None:
            raise InputError(
                "A rollback expects compile(epsilon_schedule=fastbat_tf."
                "EpsilonSchedule(...)). Received: epsilon_schedule=None"
            )
        if self._good_epoch is None:
            # Keras would create its variables in the first step.
            with model.distribute_strategy.scope():
                model.optimizer.build(model.trainable_variables)
            self._keep(0)

    def on_epoch_end(self, epoch, logs=None):
        gap = columns.read(logs, GAP, "OverfittingScores")
        robust = logs[ROBUST]
        has_fallen = robust < self._best / 2
        is_alarm = gap > self.threshold / (3 if has_fallen else 1)
        columns.refuse_taken(logs, *self._columns)
        logs.update(dict.fromkeys(self._columns, float(is_alarm)))
        if is_alarm:
            best = self._best
            action = self._act()
            display.warn(
                f"Catastrophic overfitting in epoch {epoch + 1}: "
                f"{100 * logs['val_fgsm_accuracy']:.1f} % of the validation "
                f"images withstand FGSM, {100 * robust:.1f} % the validation "
                f"attack (best so far: {100 * best:.1f} %). {action}"
            )
            return
        if self.action == ROLLBACK and robust >= 0.75 * self._best:
            self._keep(epoch + 1)
        self._best = max(self._best, robust)

    def _act(self):
        """Takes the action, and returns a sentence about it."""
        if self.action == WARN:
            return "Training continues."
        if self.action == STOP:
            self.model.stop_training = self._has_stopped = True
            return "Training ends."
        everyone = workers.of(self.model.distribute_strategy)
        kept = npz.read(self.path) if everyone.is_chief else None
        for number, variable in enumerate(self._variables()):
            array = None if kept is None else kept[f"arr_{number}"]
            array = everyone.from_chief(array)
            variables.assign(variable, array, everyone.index)
        schedule = self.model.epsilon_schedule
        schedule.lower(self.factor)
        self._best = 0.0  # With a smaller radius it may stay lower.
        source = f"after epoch {self._good_epoch}"
        if not self._good_epoch:
            source = "at the beginning"
        return (
            f"Back to the weights {source}; training continues with "
            f"{float(schedule.factor.numpy()):.3g} of epsilon."
        )

    def _keep(self, epoch):
        everyone = workers.of(self.model.distribute_strategy)
        arrays = variables.all_values(self._variables(), everyone)
        if everyone.is_chief:
            with replacing(self.path) as file:
                np.savez(file, *arrays)
        self._good_epoch = epoch

    def _variables(self):
        """What a rollback restores: neither the step nor the factor."""
        model = self.model
        kept = {
            id(variable)
            for variable in (
                model.step,
                # `iterations` is not a variable if gradients accumulate.
                loss_scaling.inner(model.optimizer)._iterations,
                *model.epsilon_schedule.variables,
                *model.metrics_variables,
            )
        }
        return [
            variable
            for variable in variables.state_variables(model)
            if id(variable) not in kept
            and variable.name != "seed_generator_state"  # Dropout's.
        ]

    @property
    def state(self):
        """What a checkpoint keeps, besides the file."""
        return {
            "good_epoch": self._good_epoch,
            "best": self._best,
            "stopped": self._has_stopped,
        }

    @state.setter
    def state(self, state):
        self._good_epoch = state["good_epoch"]
        self._best = state["best"]
        self._has_stopped = state["stopped"]
