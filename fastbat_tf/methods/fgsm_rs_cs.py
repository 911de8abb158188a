"""FGSM-RS-CS: Fast-AT from a noisy image, with smooth convergence."""

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.convergence import SmoothConvergence
from fastbat_tf.methods.spec import Paper, Passes


class FGSMRSCS(SmoothConvergence, Method):
    """One signed step from a noisy image, with smooth convergence.

    ```
    a      = clip(x + U(-epsilon, epsilon), 0, 1)
    delta* = clip(a + step_size * sign(g(a)), 0, 1) - x
    l      = mean relaxed CE(a)
    loss   = mean relaxed CE(x + delta*)
             + coefficient sign(l - l') l   if |l - l'| > tolerance
    ```

    where l' is the mean of l in the previous epoch. The noisy image a replaces
    the clean image throughout, so the perturbation reaches `epsilon +
    step_size`. The second term is left out up to epoch number `stride`,
    counting from 0, and in the last `stride` epochs. It raises a loss that fell
    too fast. The attack maximizes the attack loss without relaxed labels.

    Reference: Zhao, Zhang, Kong & Yin, "Fast Adversarial Training with Smooth
    Convergence", ICCV 2023 (arXiv 2308.12857).

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
            Defaults to `8 / 255`.
        step_size: Float, in pixels. Defaults to `epsilon`.
        coefficient: Float, the weight of the second term. Defaults to 1.
        tolerance: Float, the change of l that is not penalized. Defaults to
            0.03.
        stride: Integer, the number of epochs without the second term, at
            either end of the training. Defaults to 1.
        label_factor: Float in (0, 1], the share of a label that its class
            keeps, in addition to the label smoothing of the loss. Defaults to
            0.6.

    Example:

    >>> fb.FGSMRSCS(epsilon=8 / 255).tolerance
    0.03
    """

    name = "fgsm_rs_cs"
    summary = "one signed step from a noisy image; smooth convergence"
    paper = Paper(
        "Zhao et al.", "ICCV 2023", "https://arxiv.org/abs/2308.12857"
    )
    passes = Passes(3, 3, 2, reach=2)

    epsilon: float = options.EPSILON
    step_size: float | None = options.step_size()
    coefficient: float = options.coefficient(
        1.0, "Weight of the penalty on jumps of the clean loss."
    )
    tolerance: float = options.TOLERANCE
    stride: int = options.STRIDE
    label_factor: float = options.LABEL_FACTOR

    def solve(self, context):
        start = context.random_start(self.epsilon)
        ascent = self.step_size * tf.sign(context.input_gradient(start))
        delta = perturbation.clip_to_pixels(start + ascent, context.images)
        return Solution(delta, start)
