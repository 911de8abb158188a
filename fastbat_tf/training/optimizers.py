"""Optimizers, gradient clipping and weight decay."""

import dataclasses
import functools

import keras
import tensorflow as tf

from fastbat_tf.errors import InputError, at_least, look_up, one_of
from fastbat_tf.training import loss_scaling
from fastbat_tf.training.options import WEIGHT_DECAY_MODES, WEIGHT_DECAY_ON
from fastbat_tf.training.summed_gradients import summed_before

# `epsilon` as in the papers: Kingma & Ba, ICLR 2015 (arXiv 1412.6980);
# Loshchilov & Hutter, ICLR 2019 (1711.05101); You et al., ICLR 2020
# (1904.00962). `UpdateRule` applies the weight decay of AdamW.
_OPTIMIZERS = {
    "sgd": keras.optimizers.SGD,
    "adam": functools.partial(keras.optimizers.Adam, epsilon=1e-8),
    "adamw": functools.partial(
        keras.optimizers.AdamW, epsilon=1e-8, weight_decay=0.0
    ),
    "lamb": functools.partial(keras.optimizers.Lamb, epsilon=1e-6),
}


def get(name, learning_rate, **options):
    """Builds a Keras optimizer.

    Args:
        name: A key of `fastbat_tf.training.options.OPTIMIZERS`.
        learning_rate: Float or `LearningRateSchedule`.
        **options: `momentum` and `nesterov` for `"sgd"`, or `beta_1` and
            `beta_2` for the others.

    Returns:
        A `keras.optimizers.Optimizer`.

    Example:

    >>> get("sgd", 0.1, momentum=0.9, nesterov=True).nesterov
    True
    """
    build = look_up(_OPTIMIZERS, "optimizer", optimizer=name)
    return build(learning_rate, **options)


def check(optimizer, layers):
    """Rejects an optimizer that cannot train these layers.

    Args:
        optimizer: A `keras.optimizers.Optimizer` or None.
        layers: List of the classifier's layers.

    Raises:
        InputError: If it is None, or if the layers have weights in half
            precision.
    """
    if optimizer is None:
        raise InputError(
            "`optimizer` is expected to be a keras.optimizers.Optimizer or "
            "its name. Received: optimizer=None"
        )
    loss_scaling.refuse_half_weights(layers)


@dataclasses.dataclass(frozen=True)
class UpdateRule:
    """Gradient clipping and weight decay, around a Keras optimizer.

    ```
    g <- g * min(1, c / norm(g))      the global norm of all gradients
    g <- g + d * w                    weight_decay_mode="l2"
    w <- w - learning_rate * d * w    "decoupled", before the step
    ```

    where `g` is the gradient averaged over the replicas, `w` the weights, `c`
    is `clip_norm` and `d` is `weight_decay`.

    Clipping is done here because Keras clips before it sums over the replicas,
    and would also clip the L2 term. The decoupled decay is the one of Keras
    optimizers. It is done here so that the user's optimizer is not changed. All
    other settings of the optimizer have the same meaning as in
    `keras.Model.fit`.

    Attributes:
        weight_decay: Float of at least 0. Defaults to `0.0`.
        weight_decay_mode: `"l2"`, as in PyTorch's SGD and Adam, or
            `"decoupled"`, as in AdamW (Loshchilov & Hutter, ICLR 2019, arXiv
            1711.05101). Defaults to `"l2"`.
        weight_decay_on: `"all"` weights, or only `"kernels"`: weights of two
            or more dimensions, so no biases, and no scales or offsets of
            normalization layers. Defaults to `"all"`.
        clip_norm: Float of at least 0. Defaults to `0.0`, which disables
            clipping.
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
        """Rejects an optimizer that does not work with this rule.

        Args:
            optimizer: The Keras optimizer; it is not changed.
            variables: List of the trainable variables.

        Raises:
            InputError: If the optimizer has a different weight decay, or a
                setting that would be wrong with clipping or on several
                replicas.
        """
        optimizer = loss_scaling.inner(optimizer)
        self._refuse_second_decay(optimizer, variables)
        if self.clip_norm and optimizer.gradient_accumulation_steps:
            steps = optimizer.gradient_accumulation_steps
            raise InputError(
                f"`clip_norm` would clip each of the {steps} gradients that "
                "are accumulated; expected the optimizer's `global_clipnorm`, "
                f"which clips their mean. Received: clip_norm={self.clip_norm},"
                f" optimizer.gradient_accumulation_steps={steps}"
            )
        if _replicas() > 1:
            _refuse_on_replicas(optimizer)

    def apply(self, optimizer, gradients, variables, finite=True):
        """Updates the weights with gradients that all replicas have.

        Args:
            optimizer: The Keras optimizer.
            gradients: List of tensors, one for each variable, the same on all
                replicas. It is None if the loss does not depend on the
                variable, which then neither the optimizer nor the weight decay
                changes.
            variables: List of the trainable variables.
            finite: Boolean, whether the gradients are finite; if not, nothing
                is updated. Defaults to True, for an optimizer that does not
                scale the loss.

        Returns:
            Whether the weights were updated: True or, if the optimizer
            accumulates gradients or scales the loss, a scalar boolean tensor.
        """
        scaling, optimizer = optimizer, loss_scaling.inner(optimizer)
        updates = _is_update(optimizer)
        if finite is not True:
            updates = tf.logical_and(updates, finite)
        gradients = self._clip(list(gradients))
        if self.weight_decay and self.weight_decay_mode == "l2":
            gradients = [
                self._add_decay(gradient, variable)
                for gradient, variable in zip(gradients, variables, strict=True)
            ]
        # An optimizer that has the same decay applies it itself.
        elif self.weight_decay and not optimizer.weight_decay:
            moved = [
                variable
                for gradient, variable in zip(gradients, variables, strict=True)
                if gradient is not None
            ]
            self._decay(optimizer, moved, updates)
        # The optimizer divides by its loss scale.
        scale = loss_scaling.divisor(scaling)
        gradients = [
            gradient if gradient is None else gradient * scale
            for gradient in gradients
        ]
        with summed_before(optimizer):
            scaling.apply_gradients(zip(gradients, variables, strict=True))
        return updates

    def _refuse_second_decay(self, optimizer, variables):
        decays = {
            name: value
            for name in ("weight_decay", "adam_weight_decay")
            if (value := getattr(optimizer, name, None))
        }
        if not self.weight_decay or not decays:
            return
        same = (
            self.weight_decay_mode == "decoupled"
            and decays == {"weight_decay": self.weight_decay}
            and all(map(self._decays, variables))
        )
        if not same:
            name, value = next(iter(decays.items()))
            raise InputError(
                "`weight_decay` is expected once. Received: "
                f"weight_decay={self.weight_decay}, optimizer.{name}={value}"
            )

    def _clip(self, gradients):
        if not self.clip_norm:
            return gradients
        return tf.clip_by_global_norm(gradients, self.clip_norm)[0]

    def _add_decay(self, gradient, variable):
        if gradient is None or not self._decays(variable):
            return gradient
        return gradient + self.weight_decay * variable

    def _decay(self, optimizer, variables, updates):
        for variable in filter(self._decays, variables):
            rate = tf.cast(optimizer.learning_rate, variable.dtype)
            if updates is not True:
                rate *= tf.cast(updates, variable.dtype)
            variable.assign_sub(variable * self.weight_decay * rate)

    def _decays(self, variable):
        return self.weight_decay_on == "all" or len(variable.shape) > 1


def _is_update(optimizer):
    """Returns whether the next gradients update the weights.

    Returns:
        True or, if the optimizer accumulates gradients, a boolean tensor.
    """
    steps = optimizer.gradient_accumulation_steps
    if not steps:
        return True
    # `iterations` counts the updates, `_iterations` the gradients.
    return tf.equal((optimizer._iterations + 1) % steps, 0)


def _refuse_on_replicas(optimizer):
    for name in ("clipnorm", "clipvalue", "global_clipnorm"):
        value = getattr(optimizer, name)
        if value is not None:
            raise InputError(
                f"`{name}` of an optimizer clips the gradient of each of the "
                f"{_replicas()} replicas by itself; expected `clip_norm` "
                f"instead. Received: optimizer.{name}={value}"
            )
    overwrites = optimizer.use_ema and optimizer.ema_overwrite_frequency
    for name, value in (
        ("gradient_accumulation_steps", optimizer.gradient_accumulation_steps),
        ("ema_overwrite_frequency", overwrites),
    ):
        if value:
            raise InputError(
                f"Keras does not support `{name}` on several replicas; "
                f"expected None on {_replicas()} replicas. "
                f"Received: optimizer.{name}={value}"
            )


def _replicas():
    return tf.distribute.get_strategy().num_replicas_in_sync
