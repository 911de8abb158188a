"""Fast-AT: adversarial training with one signed step from a random start."""

from fastbat_tf.methods import options
from fastbat_tf.methods.pgd import PGD


class FastAT(PGD):
    """Fast adversarial training, also called FGSM-RS.

    ```
    delta_0 = clip(x + U(-epsilon, epsilon), 0, 1) - x
    delta*  = P_C(delta_0 + step_size * sign(g(delta_0)))
    ```

    This is PGD with one long step: two forward and two backward passes. It
    overfits catastrophically at large epsilon.

    Reference: Wong, Rice & Kolter, "Fast is better than free: Revisiting
    adversarial training", ICLR 2020 (arXiv 2001.03994).

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
        step_size: Float, in pixels. Default: `1.25 * epsilon`.

    Example:

    >>> FastAT(epsilon=8 / 255).step_size * 255
    10.0
    """

    name = "fastat"
    steps = 1
    attack_mode = options.TRAINING

    def __init__(self, epsilon=options.EPSILON, step_size=None):
        self.set_options(epsilon=epsilon, step_size=step_size)
