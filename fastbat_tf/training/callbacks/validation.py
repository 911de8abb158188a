"""Measures clean and robust validation accuracy after each epoch."""

import keras

from fastbat_tf.runtime import display
from fastbat_tf.training.callbacks import columns
from fastbat_tf.training.callbacks.examples import in_unit_range

RAW, AVERAGED = "val_", "val_averaged_"
KINDS = "clean_accuracy", "robust_accuracy"


class RobustValidation(keras.callbacks.Callback):
    """Adds clean and robust validation accuracy to the logs of each epoch.

    The logs get `val_clean_accuracy` and `val_robust_accuracy`, fractions in
    [0, 1]. With `averaged_weights`, they also get `val_averaged_clean_accuracy`
    and `val_averaged_robust_accuracy`. List this callback before those that
    read these columns.

    Args:
        attack: An attack on the classifier in training, such as a `PGDAttack`.
        examples: Pair of images and labels to validate on: uint8 images, or
            floats in the classifier's `pixel_range`, `(examples, height, width,
            channels)`, and integers `(examples,)` or `(examples, 1)`; or a
            `tf.data.Dataset` of such batches, which is read into memory.
        epsilon: Float, the radius of the attack, a fraction of the pixel
            range.
        seed: Integer, the seed of the attack. Defaults to `0`.
        averaged_weights: The method `RobustClassifier.averaged_weights`, to
            measure the averaged weights, too. Defaults to `None`.

    Attributes:
        examples: `Examples`, the pair with floats in [0, 1].
        result: The `AttackResult` of the last epoch, for the raw weights.

    Raises:
        InputError: At the end of an epoch, if the logs hold one of these names
            already.

    Example:

    ```python
    validation = RobustValidation(
        PGDAttack(robust.network, steps=10), examples, epsilon=8 / 255
    )
    robust.fit(data, epochs=20, callbacks=[validation])
    ```
    """

    def __init__(
        self, attack, examples, epsilon, *, seed=0, averaged_weights=None
    ):
        super().__init__()
        self.attack = attack
        self.examples = self._given = examples
        self.epsilon = epsilon
        self.seed = seed
        self.averaged_weights = averaged_weights
        self.result = None

    def set_model(self, model):
        super().set_model(model)
        self.examples = in_unit_range(model, self._given)

    def on_epoch_end(self, epoch, logs=None):
        averages = self.averaged_weights is not None
        for prefix in (RAW, AVERAGED) if averages else (RAW,):
            columns.refuse_taken(logs, *(f"{prefix}{kind}" for kind in KINDS))
        self.result = self._measure(logs, RAW)
        if averages:
            with self.averaged_weights():
                self._measure(logs, AVERAGED)

    def _measure(self, logs, prefix):
        with display.task("validation") as task:
            result = self.attack(
                *self.examples,
                self.epsilon,
                seed=self.seed,
                listener=lambda decided, total: task.update(
                    decided, total, count=f"{decided}/{total}"
                ),
            )
        accuracies = result.clean_correct.mean(), result.robust.mean()
        for kind, accuracy in zip(KINDS, accuracies, strict=True):
            logs[f"{prefix}{kind}"] = float(accuracy)
        return result
