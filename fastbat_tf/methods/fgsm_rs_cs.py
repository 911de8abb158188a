"""FGSM-RS-CS: Fast-AT from a noisy image, with smooth convergence."""

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods import options
from fastbat_tf.methods.base import Solution
from fastbat_tf.methods.convergence import SmoothConvergence


class FGSMRSCS(SmoothConvergence):
    """One signed step from a noisy image, whose loss may not jump.

    ```
    a      = clip(x + U(-epsilon, epsilon), 0, 1)
    delta* = clip(a + step_size * sign(g(a)), 0, 1) - x
    l      = mean relaxed CE(a)
    loss   = mean relaxed CE(x + delta*)
             + coefficient sign(l - l') l   if |l - l'| > tolerance
    ```

    with l' the mean of l in the epoch before. The noisy image a stands for the
    clean one throughout, so the perturbation reaches `epsilon + step_size`.
    The second term is left out in the first epochs up to number `stride`,
    counting from 0, and in the last `stride`. A loss that fell too fast is
    raised. The attack raises the attack loss of labels that are not relaxed.

    Reference: Zhao, Zhang, Kong & Yin, "Fast Adversarial Training with Smooth
    Convergence", ICCV 2023 (arXiv 2308.12857).

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
        step_size: Float, in pixels. Default: `epsilon`.
        coefficient: Float, the weight of the second term.
        tolerance: Float, the jump that is allowed.
        stride: Integer, the epochs at either end without the second term.
        label_factor: Float in (0, 1], what a relaxed label keeps of the class,
            beside the label smoothing of the loss.

    Example:

    >>> FGSMRSCS(epsilon=8 / 255).tolerance
    0.03
    """

    name = "fgsm_rs_cs"

    def __init__(
        self,
        epsilon=options.EPSILON,
        step_size=None,
        coefficient=options.CONVERGENCE_COEFFICIENT,
        tolerance=options.TOLERANCE,
        stride=options.STRIDE,
        label_factor=options.LABEL_FACTOR,
    ):
        self.set_options(
            epsilon=epsilon,
            step_size=step_size,
            coefficient=coefficient,
            tolerance=tolerance,
            stride=stride,
            label_factor=label_factor,
        )

    def solve(self, context):
        start = context.random_start(self.epsilon)
        ascent = self.step_size * tf.sign(context.input_gradient(start))
        delta = perturbation.clip_to_pixels(start + ascent, context.images)
        return Solution(delta, start)
