"""FGSM adversarial training: one signed step from the clean image."""

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.spec import Paper, Passes


class FGSM(Method):
    """Adversarial training with one signed step from the image itself.

    ```
    delta* = P_C(step_size * sign(g(0)))
    ```

    A step takes two forward and two backward passes, and draws nothing at
    random. Training overfits catastrophically: the network learns to resist
    only this step.

    Reference: Goodfellow, Shlens & Szegedy, "Explaining and Harnessing
    Adversarial Examples", ICLR 2015 (arXiv 1412.6572).

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
            Defaults to `8 / 255`.
        step_size: Float, in pixels. Defaults to `epsilon`.

    Example:

    >>> fb.FGSM(epsilon=8 / 255).step_size * 255
    8.0
    """

    name = "fgsm"
    summary = "one signed step from the clean image"
    paper = Paper(
        "Goodfellow et al.", "ICLR 2015", "https://arxiv.org/abs/1412.6572"
    )
    passes = Passes(2, 2, 1)

    epsilon: float = options.EPSILON
    step_size: float | None = options.step_size()

    def solve(self, context):
        start = tf.zeros_like(context.images)
        gradient = context.input_gradient(start)
        return Solution(
            perturbation.step(
                start, gradient, self.step_size, context.images, self.epsilon
            )
        )
