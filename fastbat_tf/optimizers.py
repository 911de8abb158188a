"""Optimizers, and what happens to a gradient on its way to them."""

import dataclasses
import functools

import keras
import tensorflow as tf

from fastbat_tf.errors import InputError, at_least, look_up, one_of
from fastbat_tf.training_config import WEIGHT_DECAY_MODES, WEIGHT_DECAY_ON

# With the epsilon of their papers: Kingma & Ba, ICLR 2015 (arXiv 1412.6980);
# Loshchilov & Hutter, ICLR 2019 (1711.05101); You et al., ICLR 2020
# (1904.00962). AdamW's weight decay is given to the `UpdateRule`.
_OPTIMIZERS = {
    "sgd": keras.optimizers.SGD,
    "adam": functools.partial(keras.optimizers.Adam, epsilon=1e-8),
    "adamw": functools.partial(
        keras.optimizers.AdamW, epsilon=1e-8, weight_decay=0.0
    ),
    "lamb": functools.partial(keras.optimizers.Lamb, epsilon=1e-6),
}


def get(name, learning_rate, **options):
    """Builds an optimizer of Keras.

    Args:
        name: A key of `fastbat_tf.training_config.OPTIMIZERS`.
        learning_rate: Float or `LearningRateSchedule`.
        **options: `momentum` and `nesterov`, or `beta_1` and `beta_2`.

    Example:

    >>> get("sgd", 0.1, momentum=0.9, nesterov=True).nesterov
    True
    """
    build = look_up(_OPTIMIZERS, "optimizer", optimizer=name)
    return build(learning_rate, **options)


@dataclasses.dataclass(frozen=True)
class UpdateRule:
    """Gradient clipping and weight decay, around an optimizer of Keras.

    With g the mean of the gradients over the replicas, w the weights, and c
    and d the settings:

    ```
    g <- g * min(1, c / norm(g))      the norm of all gradients together
    g <- g + d * w                    "l2"
    w <- w - rate * d * w             "decoupled", before the step
    ```

    Keras' own clipping comes before the sum over the replicas and, with L2,
    would clip the decay too; so it is done here. The decoupled decay is that
    of Keras' optimizers.

    Attributes:
        weight_decay: Float of at least 0, d.
        weight_decay_mode: `"l2"`, as PyTorch's SGD and Adam, or
            `"decoupled"`, as AdamW (Loshchilov & Hutter, ICLR 2019, arXiv
            1711.05101).
        weight_decay_on: `"all"` weights, or `"kernels"`: those of two and
            more dimensions, which no bias is, nor the scale or the offset of
            a normalization.
        clip_norm: Float of at least 0, c; 0 for no clipping.
    """

    weight_decay: float = 0.0
    weight_decay_mode: str = "l2"
    weight_decay_on: str = "all"
    clip_norm: float = 0.0

    def __post_init__(self):
        at_least(self, "weight_decay", 0)
        one_of(self, "weight_decay_mode", WEIGHT_DECAY_MODES)
        one_of(self, "weight_decay_on", WEIGHT_DECAY_ON)
        at_least(self, "clip_norm", 0)

    def prepare(self, optimizer, variables):
        """Sets the decoupled weight decay of an optimizer.

        Raises:
            InputError: If the optimizer has another one already, or clips the
                gradient of each replica for itself.
        """
        decoupled = self.weight_decay and self.weight_decay_mode == "decoupled"
        own = optimizer.weight_decay
        if self.weight_decay and own:
            if not decoupled or own != self.weight_decay:
                raise InputError(
                    "`weight_decay` is expected in one place. Received: "
                    f"weight_decay={self.weight_decay}, "
                    f"optimizer.weight_decay={own}"
                )
        for name in ("clipnorm", "clipvalue", "global_clipnorm"):
            value = getattr(optimizer, name)
            if value is not None and _replicas() > 1:
                raise InputError(
                    f"`{name}` of an optimizer clips what each of the "
                    f"{_replicas()} replicas has; expected `clip_norm` "
                    f"instead. Received: optimizer.{name}={value}"
                )
        if decoupled:
            optimizer.weight_decay = self.weight_decay
            optimizer.exclude_from_weight_decay(
                [v for v in variables if not self._decays(v)]
            )

    def apply(self, optimizer, gradients, variables):
        """Updates the weights by the gradients of one replica."""
        if self.clip_norm:
            context = tf.distribute.get_replica_context()
            gradients = context.all_reduce(
                tf.distribute.ReduceOp.MEAN, list(gradients)
            )
            gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm)
        if self.weight_decay and self.weight_decay_mode == "l2":
            gradients = [
                gradient + self.weight_decay * variable
                if self._decays(variable)
                else gradient
                for gradient, variable in zip(gradients, variables, strict=True)
            ]
        # The optimizer sums over the replicas; the mean is wanted.
        optimizer.apply([g / _replicas() for g in gradients], variables)

    def _decays(self, variable):
        return self.weight_decay_on == "all" or len(variable.shape) > 1


def _replicas():
    return tf.distribute.get_strategy().num_replicas_in_sync
