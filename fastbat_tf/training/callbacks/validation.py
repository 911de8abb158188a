"""Clean and robust accuracy on the validation split, after each epoch."""

import keras

from fastbat_tf.runtime import display

AVERAGED = "val_averaged_"


class RobustValidation(keras.callbacks.Callback):
    """Adds clean and robust validation accuracy to the logs of each epoch.

    The logs get `val_accuracy` and `val_robust_accuracy`, fractions; if the
    weights are averaged, also `val_averaged_accuracy` and
    `val_averaged_robust_accuracy`. It stands before the callbacks that read
    them.

    Args:
        attack: A `PGDAttack` on the classifier in training.
        examples: `Examples` to validate on.
        epsilon: Float, the radius of the attack.
        seed: Integer.
        averaged_weights: `RobustClassifier.averaged_weights`, or None if
            there are none.

    Attributes:
        result: The `AttackResult` of the last epoch, of the raw weights.
    """

    def __init__(
        self, attack, examples, epsilon, seed=0, averaged_weights=None
    ):
        super().__init__()
        self.attack = attack
        self.examples = examples
        self.epsilon = epsilon
        self.seed = seed
        self.averaged_weights = averaged_weights
        self.result = None

    def on_epoch_end(self, epoch, logs=None):
        self.result = self._measure(logs, "val_")
        if self.averaged_weights is not None:
            with self.averaged_weights():
                self._measure(logs, AVERAGED)

    def _measure(self, logs, prefix):
        with display.task("validation") as task:
            result = self.attack(
                *self.examples,
                self.epsilon,
                self.seed,
                lambda decided, total: task.update(
                    decided, total, count=f"{decided}/{total}"
                ),
            )
        logs[f"{prefix}accuracy"] = float(result.clean_correct.mean())
        logs[f"{prefix}robust_accuracy"] = float(result.robust.mean())
        return result
