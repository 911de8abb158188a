"""FGSM-MEP-CS: FGSM from a remembered start, with smooth convergence."""

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods import memory, options
from fastbat_tf.methods.base import Solution
from fastbat_tf.methods.convergence import SmoothConvergence
from fastbat_tf.methods.relaxation import relaxed


class FGSMMEPCS(SmoothConvergence):
    """One signed step from a remembered start; the benign loss may not jump.

    ```
    delta* = P_C(delta_0 + step_size * sign(g(x + delta_0)))
    l      = mean relaxed CE(x)
    loss   = mean relaxed CE(x + delta*)
             + coefficient sign(l - l') l   if |l - l'| > tolerance
    ```

    with delta_0 and its momentum per training image, as `fgsm_pgi` has them,
    but `x + delta_0` not clipped to the pixels, and the second term as
    `fgsm_rs_cs` has it. The attack raises the relaxed attack loss.

    Reference: Zhao, Zhang, Kong & Yin, "Fast Adversarial Training with Smooth
    Convergence", ICCV 2023 (arXiv 2308.12857).

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
        step_size: Float, in pixels. Default: `epsilon`.
        coefficient: Float, the weight of the second term.
        tolerance: Float, the jump that is allowed.
        stride: Integer, the epochs at either end without the second term.
        momentum_decay: Float in [0, 1).
        reset_epochs: Integer of at least 1.
        label_factor: Float in (0, 1], what a relaxed label keeps of the class,
            beside the label smoothing of the loss.

    Example:

    >>> FGSMMEPCS(epsilon=8 / 255).momentum_decay
    0.3
    """

    name = "fgsm_mep_cs"
    remembers_examples = True

    def __init__(
        self,
        epsilon=options.EPSILON,
        step_size=None,
        coefficient=options.CONVERGENCE_COEFFICIENT,
        tolerance=options.TOLERANCE,
        stride=options.STRIDE,
        momentum_decay=options.MOMENTUM_DECAY,
        reset_epochs=options.RESET_EPOCHS,
        label_factor=options.LABEL_FACTOR,
    ):
        self.set_options(
            epsilon=epsilon,
            step_size=step_size,
            coefficient=coefficient,
            tolerance=tolerance,
            stride=stride,
            momentum_decay=momentum_decay,
            reset_epochs=reset_epochs,
            label_factor=label_factor,
        )

    def initial_state(self, sizes, draws):
        rows = memory.slots(sizes, "delta", "momentum")
        return {**rows, **super().initial_state(sizes, draws)}

    def solve(self, context):
        start, momentum = memory.recall_prior(
            context, self.epsilon, self.reset_epochs, self.momentum_decay
        )
        gradient = context.input_gradient(
            start,
            lambda z: relaxed(context.attack_losses, z, self.label_factor),
        )
        context.note(gradient=gradient, start=start, momentum=momentum)
        delta = perturbation.signed_step(
            start, gradient, self.step_size, context.images, self.epsilon
        )
        return Solution(delta, tf.zeros_like(context.images))

    def update(self, context):
        return {
            **memory.accumulate(context, self.epsilon, self.step_size),
            **super().update(context),
        }
