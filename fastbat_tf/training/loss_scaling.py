"""Keras' dynamic loss scaling, in a step that does more than update weights.

float16 holds no number below 6e-8. In `mixed_float16`, Keras multiplies the
loss by a scale, computes the gradient, and divides it by the scale in float32.
If the gradient is not finite, `keras.optimizers.LossScaleOptimizer` leaves the
weights as they are and halves the scale; after many finite steps it doubles
it. A step that is skipped is a batch, so our counter of batches counts it; it
is no update, so `optimizer.iterations` does not, and neither the learning
rate, the averaged weights nor what a method remembers move.
"""

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from fastbat_tf.errors import InputError
from fastbat_tf.layers import gradient_scaling

LossScaleOptimizer = keras.optimizers.LossScaleOptimizer


def inner(optimizer: Any) -> Any:
    """Returns the optimizer whose settings count, inside of the scaling."""
    if isinstance(optimizer, LossScaleOptimizer):
        return optimizer.inner_optimizer
    return optimizer


def wrap(optimizer: Any, layers: Iterable[Any], auto_scale_loss: bool) -> Any:
    """Adds dynamic loss scaling for layers that compute in float16.

    Args:
        optimizer: A Keras optimizer.
        layers: Keras layers, with those inside of them.
        auto_scale_loss: Boolean, as in `keras.Model.compile`.

    Returns:
        A `keras.optimizers.LossScaleOptimizer` around it, or `optimizer`.
    """
    if not auto_scale_loss or isinstance(optimizer, LossScaleOptimizer):
        return optimizer
    if not gradient_scaling.is_needed(layers):
        return optimizer
    return LossScaleOptimizer(optimizer, name="loss_scale_optimizer")


def refuse_half_weights(layers: Iterable[Any]) -> None:
    """Rejects layers with trainable weights in half precision.

    An update below 1/256 (bfloat16) or 1/2048 (float16) of a weight would be
    lost.

    Args:
        layers: Keras layers, with those inside of them.

    Raises:
        InputError: If there is such a layer.
    """
    for layer in layers:
        for variable in layer._trainable_variables:  # Not of sublayers.
            dtype = keras.backend.standardize_dtype(variable.dtype)
            if dtype in ("float16", "bfloat16"):
                raise InputError(
                    "Weights are expected in float32, as mixed_float16 and "
                    f"mixed_bfloat16 keep them, not in {dtype}, which loses "
                    f"small updates. Received: layer={layer.name} in {dtype}"
                )


def build(optimizer: Any, variables: list[Any]) -> None:
    """Creates the variables of a scaling optimizer, before a step is traced.

    Args:
        optimizer: A Keras optimizer; any other one is left alone.
        variables: List of the trainable variables.
    """
    if isinstance(optimizer, LossScaleOptimizer) and not optimizer.built:
        with keras.name_scope(optimizer.name, caller=optimizer):
            optimizer.build(variables)


def scale(optimizer: Any, loss: Any) -> Any:
    """Multiplies a loss by the scale, if there is one."""
    factor = _factor(optimizer)
    return loss if factor is None else loss * tf.cast(factor, loss.dtype)


def unscale(optimizer: Any, gradient: Any) -> Any:
    """Divides a gradient by the scale, if there is one."""
    gradient = tf.convert_to_tensor(gradient)
    factor = _factor(optimizer)
    if factor is None:
        return gradient
    return gradient / tf.cast(factor, gradient.dtype)


def scaled_pass(robust: Any) -> gradient_scaling.ScaledPass | None:
    """Returns what scales the gradients of the attack, in float16 alone.

    Args:
        robust: A compiled `RobustClassifier`.
    """
    if not robust.computes_in_float16:
        return None
    share = tf.constant(1.0)
    factor = _factor(robust.optimizer)
    if factor is not None:
        # The attack follows the loss scale if it falls below its first value.
        share = tf.minimum(factor / robust.optimizer.initial_scale, 1.0)
    return gradient_scaling.ScaledPass(
        gradient_scaling.CEILING * share,
        robust.method.differentiates_twice,
        robust.synchronizes,
    )


def all_finite(optimizer: Any, gradients: Iterable[Any]) -> Any:
    """Returns whether gradients are finite.

    Args:
        optimizer: A Keras optimizer.
        gradients: Iterable of tensors or None, the same on all replicas.

    Returns:
        A boolean scalar, or True if the optimizer skips no step.
    """
    if _factor(optimizer) is None:
        return True
    return gradient_scaling.all_finite(gradients)


def divisor(optimizer: Any) -> Any:
    """Returns what an optimizer divides its gradients by.

    Args:
        optimizer: A Keras optimizer. Its `loss_scale_factor` is a constant.
    """
    factor = _factor(optimizer)
    if factor is not None:
        return factor
    return optimizer.loss_scale_factor or 1.0


def is_excused(optimizer: Any, finite: Any) -> Any:
    """Returns whether a step fails because of the scale, and not of itself.

    Below 1, a smaller scale is no remedy, and the training has diverged.

    Args:
        optimizer: A Keras optimizer, before its update.
        finite: What `all_finite` returned.

    Returns:
        A boolean scalar or False.
    """
    if finite is True:
        return False
    return tf.logical_and(tf.logical_not(finite), _factor(optimizer) > 1.0)


def keep_unless(finite: Any, values: dict, state: dict) -> dict:
    """Returns new values of a method's variables, or the old ones.

    Args:
        finite: What `all_finite` returned.
        values: Dict of the new values.
        state: Dict of the old values, as the step has read them.
    """
    if finite is True:
        return values
    return {
        name: tf.where(finite, tf.cast(value, state[name].dtype), state[name])
        for name, value in values.items()
    }


def without(excused: Any, reports: dict, batch: Any) -> tuple[dict, Any]:
    """Leaves a skipped step out of what the training reports.

    Args:
        excused: What `is_excused` returned.
        reports: Dict of scalars.
        batch: Integer scalar tensor, the number of examples.

    Returns:
        The reports, and the number of examples that they stand for.
    """
    if excused is False:
        return reports, batch
    kept = {
        name: tf.where(excused, tf.zeros_like(value), value)
        for name, value in reports.items()
    }
    return kept, tf.where(excused, tf.zeros_like(batch), batch)


def _factor(optimizer):
    """The scale, or None."""
    if not isinstance(optimizer, LossScaleOptimizer):
        return None
    if not optimizer.built:
        return tf.constant(optimizer.initial_scale, tf.float32)
    return tf.convert_to_tensor(optimizer.dynamic_scale.value)
