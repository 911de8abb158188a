"""The share of the radius that each step uses: a schedule, and chance."""

from typing import Any, Unpack

import keras
import tensorflow as tf

from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError
from fastbat_tf.layers.keras_arguments import LayerArguments


@keras.saving.register_keras_serializable("fastbat_tf")
class EpsilonSchedule(keras.layers.Layer):
    """Starts with clean steps, then raises epsilon linearly to its value.

    ```
    share(k) = factor * min(max(k + 1 - clean_steps, 0) / ramp_steps, 1)
    ```

    for step k = 0, 1, ... Without a ramp, the share is 0, then `factor`. The
    radii and step sizes of the method (`Method.radii`) are multiplied by the
    share. `factor` is 1 until `lower` is called, and is saved with the model.

    With `jitter=J`, each step multiplies its share by another number, which is
    drawn from U(1 - J, 1 + J), the same for all images and on all replicas. It
    depends on the seed and the step alone.

    Args:
        clean_steps: Integer, the number of steps at the start with a radius of
            0. Defaults to `0`.
        ramp_steps: Integer, the number of steps after that in which the radius
            rises. Defaults to `0`.
        jitter: Float in [0, 1), J. In L-infinity, `epsilon * (1 + J)` may not
            exceed 1. Validation and measurement keep epsilon. Defaults to
            `0.0`: no chance.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        InputError: If one of them is negative, or if `jitter` is not in
            [0, 1).

    Example:

    >>> float(fb.EpsilonSchedule(clean_steps=2, ramp_steps=4).share(3))
    0.5
    """

    def __init__(
        self,
        clean_steps: int = 0,
        ramp_steps: int = 0,
        jitter: float = 0.0,
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(**kwargs)
        if min(clean_steps, ramp_steps) < 0:
            raise InputError(
                "`clean_steps` and `ramp_steps` are expected to be at least 0. "
                f"Received: clean_steps={clean_steps}, "
                f"ramp_steps={ramp_steps}"
            )
        if not 0 <= jitter < 1:
            raise InputError(
                f"`jitter` is expected in [0, 1). Received: jitter={jitter}"
            )
        self.clean_steps = clean_steps
        self.ramp_steps = ramp_steps
        self.jitter = float(jitter)
        self.factor = self.add_weight(
            name="factor",
            shape=(),
            initializer="ones",
            dtype="float32",
            trainable=False,
            aggregation="only_first_replica",
        )
        self.built = True

    def share(self, step: Any) -> Any:
        """Returns the share of the radius, a float32 scalar in [0, 1].

        Args:
            step: Integer or scalar tensor, the number of updates so far.
        """
        ramped = tf.cast(step, tf.float32) + 1.0 - self.clean_steps
        share = tf.clip_by_value(ramped / max(self.ramp_steps, 1), 0.0, 1.0)
        return share * self.factor.value

    def jittered(self, step: Any, draws: Draws) -> Any:
        """Returns the share of the radius in a step, with its jitter.

        Args:
            step: Integer or scalar tensor, the number of updates so far.
            draws: The `fastbat_tf.draws.Draws` of the step.

        Returns:
            A float32 scalar in [0, 1 + jitter].
        """
        share = self.share(step)
        if not self.jitter:  # The same numbers as without one, to the bit.
            return share
        drawn = draws.uniform("epsilon_jitter", (), 0.0, 1.0, "float32")
        return share * (1.0 + self.jitter * (2.0 * drawn - 1.0))

    def lower(self, factor: float) -> None:
        """Multiplies the share of all later steps by `factor`."""
        self.factor.assign(self.factor * factor)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "clean_steps": self.clean_steps,
            "ramp_steps": self.ramp_steps,
            "jitter": self.jitter,
        }
