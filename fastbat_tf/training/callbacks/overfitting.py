"""A guard against catastrophic overfitting.

A network that is trained with single-step attacks may, within an epoch, learn
to withstand them alone: FGSM fails on it, and PGD always succeeds. It was
described by Wong et al. (ICLR 2020, arXiv 2001.03994).
"""

import pathlib

import keras
import numpy as np

from fastbat_tf.errors import InputError, one_of
from fastbat_tf.files import replacing
from fastbat_tf.runtime import display
from fastbat_tf.training import variables
from fastbat_tf.training.options import ROLLBACK, STOP, WARN


class OverfittingScores(keras.callbacks.Callback):
    """Adds the signs of catastrophic overfitting to the logs of each epoch.

    `val_fgsm_accuracy`, a fraction; `val_overfitting_gap`, by how much it is
    above `val_robust_accuracy`; and `val_gradient_alignment`. It stands behind
    `RobustValidation`, and measures the same images at the same radius.

    Args:
        fgsm: An `FGSMAttack` on the classifier in training.
        alignment: A `GradientAlignment` of it.
        examples: `Examples` to validate on.
        epsilon: Float, the radius.
        seed: Integer.
    """

    def __init__(self, fgsm, alignment, examples, epsilon, seed=0):
        super().__init__()
        self.fgsm = fgsm
        self.alignment = alignment
        self.examples = examples
        self.epsilon = epsilon
        self.seed = seed

    def on_epoch_end(self, epoch, logs=None):
        where = *self.examples, self.epsilon, self.seed
        with display.task("signs of overfitting"):
            accuracy = float(self.fgsm(*where).robust.mean())
            alignment = self.alignment(*where)
        logs["val_fgsm_accuracy"] = accuracy
        logs["val_overfitting_gap"] = accuracy - logs["val_robust_accuracy"]
        logs["val_gradient_alignment"] = alignment


class OverfittingGuard(keras.callbacks.Callback):
    """Raises an alarm where FGSM is far less successful than PGD.

    An epoch whose `val_overfitting_gap` is above the threshold is an alarm; a
    third of it is enough if `val_robust_accuracy` has fallen below half of its
    best. A line is printed, `overfitting_alarm` is 1 in the logs, and

    * `"warn"`: the training goes on;
    * `"stop"`: it ends;
    * `"rollback"`: weights, averages, optimizer and what the method remembers
      become those of the last good epoch (or those at the beginning), the
      share of epsilon that is used is multiplied by `factor`, and the training
      goes on with the next epoch: the learning rate and the random numbers are
      those of its place. An epoch is good if it has no alarm, and
      `val_robust_accuracy` is at least 3/4 of the best since the last
      rollback: a collapse may take some epochs until its alarm.

    It stands behind `OverfittingScores`.

    Args:
        action: `"warn"`, `"stop"` or `"rollback"`.
        threshold: Float in (0, 1), the largest gap without an alarm.
        path: rollback: path of the file, ending in `.npz`, that keeps what it
            goes back to.
        factor: rollback: Float in (0, 1). The classifier is compiled with an
            `EpsilonSchedule`.
        say: Function that prints a line.

    Raises:
        InputError: If the action is another, or a rollback has no path or no
            schedule.

    Example:

    ```python
    robust.compile(optimizer, epsilon_schedule=EpsilonSchedule())
    guard = OverfittingGuard("rollback", path=pathlib.Path("good.npz"))
    robust.fit(data, epochs=20, callbacks=[validation, scores, guard])
    ```
    """

    def __init__(
        self, action=WARN, threshold=0.15, path=None, factor=0.5, say=print
    ):
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
        self.say = say
        # Of the last good epoch, counting from 1; 0: the beginning.
        self._good_epoch = None
        self._best = 0.0  # Of `val_robust_accuracy`, since a rollback.
        self._has_stopped = False

    def on_train_begin(self, logs=None):
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
            # Keras makes momenta and the like later.
            with model.distribute_strategy.scope():
                model.optimizer.build(model.trainable_variables)
            self._keep(0)

    def on_epoch_end(self, epoch, logs=None):
        gap, robust = logs["val_overfitting_gap"], logs["val_robust_accuracy"]
        has_fallen = robust < self._best / 2
        is_alarm = gap > self.threshold / (3 if has_fallen else 1)
        logs["overfitting_alarm"] = float(is_alarm)
        if is_alarm:
            self.say(
                f"Catastrophic overfitting in epoch {epoch + 1}: "
                f"{100 * logs['val_fgsm_accuracy']:.1f} % of the validation "
                f"images withstand FGSM, {100 * robust:.1f} % the validation "
                f"attack (the best so far: {100 * self._best:.1f} %). "
                f"{self._act()}"
            )
            return
        if self.action == ROLLBACK and robust >= 0.75 * self._best:
            self._keep(epoch + 1)
        self._best = max(self._best, robust)

    def _act(self):
        """Does what is to be done, and says what it was."""
        if self.action == WARN:
            return "The training goes on."
        if self.action == STOP:
            self.model.stop_training = self._has_stopped = True
            return "The training ends."
        with np.load(self.path) as kept:
            for number, variable in enumerate(self._variables()):
                variables.assign(variable, kept[f"arr_{number}"])
        schedule = self.model.epsilon_schedule
        schedule.lower(self.factor)
        self._best = 0.0  # Less epsilon may withstand less.
        whence = f"after epoch {self._good_epoch}"
        if not self._good_epoch:
            whence = "at the beginning"
        return (
            f"Back to the weights {whence}, and on with "
            f"{float(schedule.factor.numpy()):.3g} of epsilon."
        )

    def _keep(self, epoch):
        with replacing(self.path) as file:
            np.savez(file, *map(variables.values, self._variables()))
        self._good_epoch = epoch

    def _variables(self):
        """What goes back: not where the training is, nor the factor."""
        model = self.model
        stay = {
            id(variable)
            for variable in (
                model.step,
                # `iterations` is no variable where gradients are accumulated.
                model.optimizer._iterations,
                *model.epsilon_schedule.variables,
                *model.metrics_variables,
            )
        }
        return [
            variable
            for variable in variables.state_variables(model)
            # The latter are those of Dropout.
            if id(variable) not in stay
            and variable.name != "seed_generator_state"
        ]

    @property
    def state(self):
        """What a checkpoint keeps, beside the file."""
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
