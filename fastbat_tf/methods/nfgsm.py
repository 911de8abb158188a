"""N-FGSM: one signed step from strong noise, not projected onto the ball."""

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.options import option
from fastbat_tf.methods.spec import Paper, Passes


class NFGSM(Method):
    """FGSM training from a noisy image, without projection onto the ball.

    ```
    eta    = clip(x + U(-k epsilon, k epsilon), 0, 1) - x,    k = noise_scale
    delta* = clip(x + eta + step_size * sign(g(eta)), 0, 1) - x
    ```

    The perturbation reaches `k epsilon + step_size`. A step takes two forward
    and two backward passes. Training does not overfit catastrophically, even at
    large epsilon.

    Reference: de Jorge, Bibi, Volpi, Sanyal, Torr, Rogez & Dokania, "Make Some
    Noise: Reliable and Efficient Single-Step Adversarial Training", NeurIPS
    2022 (arXiv 2202.01181).

    Args:
        epsilon: Float in [0, 1], the radius to defend against, in pixels.
            Defaults to `8 / 255`.
        step_size: Float, in pixels. Defaults to `epsilon`.
        noise_scale: Float, k. Defaults to 2.

    Example:

    >>> fb.NFGSM(epsilon=8 / 255).noise_scale
    2.0
    """

    name = "nfgsm"
    summary = "one signed step from strong noise, not projected"
    paper = Paper(
        "de Jorge et al.", "NeurIPS 2022", "https://arxiv.org/abs/2202.01181"
    )
    passes = Passes(2, 2, 1, reach=3)

    epsilon: float = options.EPSILON
    step_size: float | None = options.step_size()
    noise_scale: float = option(
        2.0, "Radius of the noise, in units of epsilon.", interval="[0, inf)"
    )

    def solve(self, context):
        noise = context.random_start(self.noise_scale * self.epsilon, "noise")
        ascent = self.step_size * tf.sign(context.input_gradient(noise))
        return Solution(
            perturbation.clip_to_pixels(noise + ascent, context.images)
        )
