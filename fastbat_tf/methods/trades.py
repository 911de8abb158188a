"""TRADES: accuracy on clean images, and agreement with perturbed ones."""

import tensorflow as tf

from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.pgd import climb
from fastbat_tf.methods.spec import Paper, Passes

# Standard deviation of the start; at zero the divergence has no gradient.
START_DEVIATION = 1e-3


class TRADES(Method):
    """Trades clean accuracy against the change of the prediction nearby.

    ```
    delta_0     = 0.001 N(0, 1)
    delta_{k+1} = P_C(delta_k + step_size * d(grad KL(p(x) || p(x + delta_k))))
    loss        = mean CE(x) + coefficient * mean KL(p(x) || p(x + delta*))
    ```

    where p is the softmax of the logits, p(x) is a constant in the attack but
    not in the loss, and `d(g)` is `sign(g)` in L-infinity and `g / ||g||` in
    L2. The attack maximizes the divergence, not the attack loss.

    Reference: Zhang, Yu, Jiao, Xing, El Ghaoui & Jordan, "Theoretically
    Principled Trade-off between Robustness and Accuracy", ICML 2019 (arXiv
    1901.08573).

    Args:
        epsilon: Float, radius of the ball in pixels: in [0, 1] in L-infinity.
            Defaults to `8 / 255, in L2 128 / 255`.
        steps: Integer of at least 1, the steps of the attack. Defaults to 10.
        step_size: Float, in pixels. Defaults to `epsilon for 1 step, epsilon /
            2 for 2, else 2/255; in L2 2 * epsilon / steps`. The size in L2 is
            that of the published program.
        coefficient: Float, the weight of the divergence, 1 / lambda in the
            paper. Defaults to 6.
        attack_mode: The mode of BatchNormalization and Dropout in the attack:
            `"inference"`, as published, or `"training"`. Defaults to
            `"inference"`.
        norm: `"linf"` or `"l2"`. Defaults to `"linf"`.

    Example:

    >>> fb.TRADES(epsilon=8 / 255).coefficient
    6.0
    """

    name = "trades"
    summary = "clean loss, and agreement (KL) with the result of K steps"
    paper = Paper(
        "Zhang et al.", "ICML 2019", "https://arxiv.org/abs/1901.08573"
    )
    passes = Passes(13, 12, 2)

    epsilon: float = options.EPSILON_OF_NORM
    steps: int = options.steps(10)
    step_size: float | None = options.step_size(
        "2 * epsilon / steps if norm == 'l2' else "
        "epsilon if steps == 1 else epsilon / 2 if steps == 2 else 2 / 255",
        shown="epsilon for 1 step, epsilon / 2 for 2, else 2/255; in L2 "
        "2 * epsilon / steps",
    )
    coefficient: float = options.coefficient(6.0, "Weight of the divergence.")
    attack_mode: options.Mode = options.attack_mode(options.INFERENCE)
    norm: str | float = options.NORM

    def solve(self, context):
        training = self.attack_mode == options.TRAINING
        clean = tf.stop_gradient(context.logits(context.images, training))
        start = context.normal("start", START_DEVIATION)

        def gradient(delta):
            return context.input_gradient(
                delta, lambda logits: divergence(clean, logits), training
            )

        delta = climb(
            context,
            start,
            gradient,
            steps=self.steps,
            step_size=self.step_size,
            epsilon=self.epsilon,
            norm=self.norm,
        )
        return Solution(delta)

    def objective(self, context, solution):
        clean = context.logits(context.images)
        logits = context.logits(context.images + solution.perturbation)
        apart = context.reduce(divergence(clean, logits))
        loss = context.reduce(context.losses(clean))
        return loss + self.coefficient * apart, logits


def divergence(first, second):
    """Computes KL(p || q) per example, for the softmaxes p and q.

    Args:
        first: Logits of p, `(batch, classes)`.
        second: Logits of q, `(batch, classes)`.

    Returns:
        A tensor `(batch,)`.
    """
    first, second = tf.nn.log_softmax(first), tf.nn.log_softmax(second)
    return tf.reduce_sum(tf.exp(first) * (first - second), -1)
