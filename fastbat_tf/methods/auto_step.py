"""A step size that holds the share of pixels on no bound.

A pixel stays inside the ball if the step times its gradient is below about
epsilon, so the step size is

    a = epsilon / q,

where q is a quantile of the absolute input gradients. It is followed by
stochastic approximation (Robbins & Monro, "A Stochastic Approximation Method",
Annals of Mathematical Statistics 22, 1951), on a logarithmic scale, because the
gradients shrink by orders of magnitude in a training:

    log q <- log q - GAIN * (f - target)

where f is the share of a step's pixel values that are on no bound. Where it is
above the target, gradients have become smaller than thought: q falls, and the
step grows. As a is a multiple of epsilon, it follows a radius that is ramped.
"""

import tensorflow as tf

from fastbat_tf.methods.state import Slot

AUTO = "auto"
GAIN = 0.5
# Below this radius, rounding and not the step decides what is on a bound.
SMALLEST_RADIUS = 1e-6
SMALLEST, LARGEST = 1e-12, 1e12  # They keep q finite if all gradients vanish.


def slots(epsilon, fixed):
    """Declares q, which begins where the fixed step size is.

    Args:
        epsilon: Float, the radius.
        fixed: Float, the fixed step size for this radius.
    """
    return {"gradient_quantile": Slot((), max(epsilon, SMALLEST) / fixed)}


def step_size(context, epsilon):
    """Returns the step size, a scalar.

    Args:
        context: The `StepContext`.
        epsilon: Float or scalar tensor, the radius of this step.
    """
    quantile = tf.cast(context.state["gradient_quantile"], context.images.dtype)
    return epsilon / quantile


def update(context, epsilon, target):
    """Returns the new q.

    It is held as long as the radius is 0, when all pixels are on a bound.

    Args:
        context: The `StepContext`, with the note `interior`: the share of this
            replica's pixel values that are on no bound.
        epsilon: Float or scalar tensor, the radius of this step.
        target: Float, the share to be held.
    """
    old = context.state["gradient_quantile"]
    measured = context.mean_over_replicas(context.notes["interior"])
    new = old * tf.exp(GAIN * (target - tf.cast(measured, old.dtype)))
    new = tf.clip_by_value(new, SMALLEST, LARGEST)
    return {"gradient_quantile": tf.where(epsilon > SMALLEST_RADIUS, new, old)}
