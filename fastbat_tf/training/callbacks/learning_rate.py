"""Adds the learning rate to the logs."""

from typing import Any

import keras
import numpy as np

from fastbat_tf.training import loss_scaling
from fastbat_tf.training.callbacks import columns

LEARNING_RATE = "learning_rate"


class LearningRate(keras.callbacks.Callback):
    """Adds `learning_rate` to the logs: the rate of the epoch's last step.

    List this callback before all that may change the rate for the next epoch.
    """

    def on_train_begin(self, logs=None):
        columns.refuse_metrics(self.model, LEARNING_RATE)

    def on_epoch_end(self, epoch, logs=None):
        columns.refuse_taken(logs, LEARNING_RATE)
        logs[LEARNING_RATE] = last_rate(self.model.optimizer)


def last_rate(optimizer: Any) -> float:
    """Returns the learning rate of the last step.

    `optimizer.learning_rate` of a schedule is that of the next step.

    Args:
        optimizer: A Keras optimizer.
    """
    optimizer = loss_scaling.inner(optimizer)
    rate = optimizer._learning_rate
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        # `iterations` counts updates, and so fewer if gradients accumulate.
        steps = keras.ops.convert_to_tensor(optimizer._iterations)
        rate = rate(keras.ops.maximum(steps - 1, 0))
    elif callable(rate) and not isinstance(rate, keras.Variable):
        rate = rate()
    # As the shortest text of the float32 that it is: 0.1 is 0.1.
    return float(str(np.float32(keras.ops.convert_to_tensor(rate))))
