"""Fast-AT: adversarial training with one signed step from a random start."""

from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.pgd import climb
from fastbat_tf.methods.spec import Paper, Passes


class FastAT(Method):
    """Fast adversarial training, also called FGSM-RS.

    ```
    delta_0 = clip(x + U(B), 0, 1) - x
    delta*  = P_C(delta_0 + step_size * d(g(delta_0)))
    ```

    where `U(B)` is uniform in the ball of radius epsilon, and `d` is the
    direction of the gradient: `sign(g)` in L-infinity, `g / ||g||` in L2. This
    is PGD with one long step. It takes two forward and two backward
    passes. Training overfits catastrophically at large epsilon.

    Reference: Wong, Rice & Kolter, "Fast is better than free: Revisiting
    adversarial training", ICLR 2020 (arXiv 2001.03994).

    Args:
        epsilon: Float, radius of the ball in pixels: in [0, 1] in L-infinity.
            Defaults to `8 / 255, in L2 128 / 255`.
        step_size: Float, in pixels. Defaults to `1.25 * epsilon`, which was
            published for L-infinity.
        norm: `"linf"` or `"l2"`. Defaults to `"linf"`.

    Example:

    >>> fb.FastAT(epsilon=8 / 255).step_size * 255
    10.0
    """

    name = "fastat"
    summary = "one signed step from a random start (FGSM-RS)"
    paper = Paper(
        "Wong et al.", "ICLR 2020", "https://arxiv.org/abs/2001.03994"
    )
    passes = Passes(2, 2, 1)

    epsilon: float = options.EPSILON_OF_NORM
    step_size: float | None = options.step_size("1.25 * epsilon")
    norm: str | float = options.NORM

    def solve(self, context):
        delta = climb(
            context,
            context.random_start(self.epsilon, norm=self.norm),
            context.input_gradient,
            steps=1,
            step_size=self.step_size,
            epsilon=self.epsilon,
            norm=self.norm,
        )
        return Solution(delta)
