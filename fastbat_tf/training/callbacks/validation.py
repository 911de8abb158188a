"""Measures clean and robust validation accuracy after each epoch."""

from collections.abc import Callable
from typing import Any

from fastbat_tf.attacks.base import Attack
from fastbat_tf.attacks.pgd import PGD
from fastbat_tf.errors import InputError
from fastbat_tf.runtime import display
from fastbat_tf.training.callbacks import columns
from fastbat_tf.training.callbacks.examples import (
    ExamplesCallback,
    listed_before,
)

RAW, AVERAGED = "val_", "val_averaged_"
KINDS = "clean_accuracy", "robust_accuracy"


class RobustAccuracy(ExamplesCallback):
    """Adds clean and robust validation accuracy to the logs of each epoch.

    The logs get `val_clean_accuracy` and `val_robust_accuracy`, fractions in
    [0, 1], in the `fit` of a `RobustClassifier` or of any other Keras
    classifier. With `averaged_weights`, they also get
    `val_averaged_clean_accuracy` and `val_averaged_robust_accuracy`.

    List this callback before those that read these columns, such as
    `EarlyStopping` and `ModelCheckpoint`, which need `mode="max"`.

    Measuring changes nothing of the training, which goes on bit by bit as
    without this callback.

    Args:
        data: Images and labels to validate on, in any form that `fit` takes:
            a pair of arrays, or a finite `tf.data.Dataset`, `PyDataset` or
            generator of batches. They are read into memory. Images are in
            `pixel_range`, or uint8 gray levels if it is no wider than 2;
            labels are integers or one-hot.
        attack: An attack of `fastbat_tf.attacks`. Defaults to None,
            `PGD(steps=10)` at 8/255 in L-infinity.
        pixel_range: Pair of floats, the range of the pixels that the model
            takes, such as `(0, 255)`. Defaults to None, the range of a
            `RobustClassifier`, and `(0, 1)` for any other model.
        averaged_weights: The method `RobustClassifier.averaged_weights`, to
            measure the averaged weights, too. Defaults to None.

    Attributes:
        examples: `Examples`, the images as attacks take them, in [0, 1] or
            uint8, and the class numbers; from `set_model` on.
        result: The `AttackResult` of the last epoch, for the raw weights.

    Raises:
        InputError: If an argument is not as described. When `fit` begins, if
            the model cannot be attacked, or if a callback that monitors one of
            the columns is listed before this one. At the end of an epoch, if
            the logs hold one of the names already.

    Example:

    ```python
    robust_accuracy = fb.RobustAccuracy(
        (validation_images, validation_labels), fb.attacks.PGD(8 / 255)
    )
    stopping = keras.callbacks.EarlyStopping(
        "val_robust_accuracy", mode="max", patience=5
    )
    model.fit(images, labels, epochs=50, callbacks=[robust_accuracy, stopping])
    ```
    """

    def __init__(
        self,
        data: Any,
        attack: Attack | None = None,
        *,
        pixel_range: Any = None,
        averaged_weights: Callable | None = None,
    ) -> None:
        attack = PGD(steps=10) if attack is None else attack
        super().__init__(data, attack, pixel_range=pixel_range)
        self.averaged_weights = averaged_weights
        self.result = None

    def on_train_begin(self, logs=None):
        added = [
            f"{prefix}{kind}" for prefix in self._prefixes for kind in KINDS
        ]
        columns.refuse_metrics(self.model, *added)
        for other in listed_before(self):
            if getattr(other, "monitor", None) in added:
                raise InputError(
                    f"`{type(other).__name__}` monitors `{other.monitor}`, "
                    "which RobustAccuracy adds to the logs; expected it after "
                    "RobustAccuracy in the list. "
                    f"Received: callbacks=[{type(other).__name__}, ..., "
                    "RobustAccuracy]"
                )
        super().on_train_begin(logs)

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        for prefix in self._prefixes:
            columns.refuse_taken(logs, *(f"{prefix}{kind}" for kind in KINDS))
        self.result = self._measure(logs, RAW)
        if self.averaged_weights is not None:
            with self.averaged_weights():
                self._measure(logs, AVERAGED)

    @property
    def _prefixes(self):
        return (RAW,) if self.averaged_weights is None else (RAW, AVERAGED)

    def _measure(self, logs, prefix):
        with display.task("validation") as task:
            result = self.attack_examples(
                lambda decided, total: task.update(
                    decided, total, count=f"{decided}/{total}"
                )
            )
        accuracies = result.clean_correct.mean(), result.robust.mean()
        for kind, accuracy in zip(KINDS, accuracies, strict=True):
            logs[f"{prefix}{kind}"] = float(accuracy)
        return result
