"""N-FGSM: one signed step from strong noise, not projected on the ball."""

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method, Solution


class NFGSM(Method):
    """FGSM training from a noisy image, without projection on the ball.

    ```
    eta    = clip(x + U(-k epsilon, k epsilon), 0, 1) - x,    k = noise_scale
    delta* = clip(x + eta + step_size * sign(g(eta)), 0, 1) - x
    ```

    The perturbation reaches `k epsilon + step_size`. Two forward and two
    backward passes, and no catastrophic overfitting up to large epsilon.

    Reference: de Jorge, Bibi, Volpi, Sanyal, Torr, Rogez & Dokania, "Make Some
    Noise: Reliable and Efficient Single-Step Adversarial Training", NeurIPS
    2022 (arXiv 2202.01181).

    Args:
        epsilon: Float in [0, 1], the radius that is defended, in pixels.
        step_size: Float, in pixels. Default: `epsilon`.
        noise_scale: Float, k.

    Example:

    >>> NFGSM(epsilon=8 / 255).noise_scale
    2.0
    """

    name = "nfgsm"

    def __init__(
        self,
        epsilon=options.EPSILON,
        step_size=None,
        noise_scale=options.NOISE_SCALE,
    ):
        self.set_options(
            epsilon=epsilon,
            step_size=step_size,
            noise_scale=noise_scale,
        )

    def solve(self, context):
        noise = context.random_start(self.noise_scale * self.epsilon, "noise")
        ascent = self.step_size * tf.sign(context.input_gradient(noise))
        return Solution(
            perturbation.clip_to_pixels(noise + ascent, context.images)
        )
