"""Which share of its radius a method uses in each step."""

import keras
import tensorflow as tf

from fastbat_tf.errors import InputError


@keras.saving.register_keras_serializable("fastbat_tf")
class EpsilonSchedule(keras.layers.Layer):
    """Clean steps, then a straight line up to the whole of epsilon.

    ```
    share(k) = factor * min(max(k + 1 - clean_steps, 0) / ramp_steps, 1)
    ```

    for the step k = 0, 1, ...; without a ramp the share is 0 or `factor`. The
    radii and signed steps of the method (`Method.radii`) are multiplied by
    it. The factor is 1 until it is lowered; it is saved with the model.

    Args:
        clean_steps: Integer, steps at the beginning with epsilon = 0.
        ramp_steps: Integer, steps of the line after them.

    Raises:
        InputError: If one of them is negative.

    Example:

    >>> float(EpsilonSchedule(clean_steps=2, ramp_steps=4).share(3))
    0.5
    """

    def __init__(self, clean_steps=0, ramp_steps=0, **kwargs):
        super().__init__(**kwargs)
        if min(clean_steps, ramp_steps) < 0:
            raise InputError(
                "`clean_steps` and `ramp_steps` are expected to be zero or "
                f"above. Received: clean_steps={clean_steps}, "
                f"ramp_steps={ramp_steps}"
            )
        self.clean_steps = clean_steps
        self.ramp_steps = ramp_steps
        self.factor = self.add_weight(
            name="factor",
            shape=(),
            initializer="ones",
            dtype="float32",
            trainable=False,
            aggregation="only_first_replica",
        )
        self.built = True

    def share(self, step):
        """The share in [0, 1], float32.

        Args:
            step: Integer or scalar tensor, the updates so far.
        """
        behind = tf.cast(step, tf.float32) + 1.0 - self.clean_steps
        line = tf.clip_by_value(behind / max(self.ramp_steps, 1), 0.0, 1.0)
        return line * self.factor.value

    def lower(self, factor):
        """Multiplies the share of all steps that come."""
        self.factor.assign(self.factor * factor)

    def get_config(self):
        return {
            **super().get_config(),
            "clean_steps": self.clean_steps,
            "ramp_steps": self.ramp_steps,
        }
