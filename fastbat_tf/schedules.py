"""Learning-rate schedules, stepped per batch."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("fastbat_tf")
class Cyclic(keras.optimizers.schedules.LearningRateSchedule):
    """Linear from 0 up to a peak in the middle, and down to 0 at the end.

    ```
    rate(step) = peak * (1 - |2 step / steps - 1|)
    ```

    The first step has rate 0, as in the published programs.

    Args:
        peak: Float, the learning rate after half of the steps.
        steps: Integer, the number of steps of the whole training.

    Example:

    >>> [float(Cyclic(0.2, 4)(step)) for step in range(5)]
    [0.0, 0.1, 0.2, 0.1, 0.0]
    """

    def __init__(self, peak, steps):
        self.peak = peak
        self.steps = steps

    def __call__(self, step):
        share = ops.cast(step, "float32") / self.steps
        return self.peak * ops.maximum(1.0 - ops.abs(2.0 * share - 1.0), 0.0)

    def get_config(self):
        return {"peak": self.peak, "steps": self.steps}


def get(name, peak, epochs, steps_per_epoch):
    """Builds the schedule of a training of `epochs * steps_per_epoch` steps.

    Args:
        name: `"cyclic"`; `"multistep"`: the peak, a tenth of it after half of
            the epochs, a hundredth after three quarters; or `"constant"`.
        peak: Float, the highest learning rate.
        epochs: Integer.
        steps_per_epoch: Integer.

    Returns:
        A schedule, or a float for `"constant"`.
    """
    steps = epochs * steps_per_epoch
    if name == "cyclic":
        return Cyclic(peak, steps)
    if name == "multistep":
        return keras.optimizers.schedules.PiecewiseConstantDecay(
            [steps // 2, steps * 3 // 4], [peak, peak / 10, peak / 100]
        )
    return peak
