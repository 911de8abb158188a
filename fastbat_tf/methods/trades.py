"""TRADES: accuracy on clean images, and agreement with perturbed ones."""

import tensorflow as tf

from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.pgd import climb

# Standard deviation of the first perturbation; at zero the divergence is flat.
START_DEVIATION = 1e-3


class TRADES(Method):
    """Trades clean accuracy against the change of the prediction nearby.

    ```
    delta_0     = 0.001 N(0, 1)
    delta_{k+1} = P_C(delta_k + step_size * sign(d KL(p(x) || p(x + delta_k))))
    loss        = mean CE(x) + coefficient * mean KL(p(x) || p(x + delta*))
    ```

    with p the softmax of the logits, and p(x) a constant in the attack but
    not in the loss. The attack raises the divergence whatever the losses are.

    Reference: Zhang, Yu, Jiao, Xing, El Ghaoui & Jordan, "Theoretically
    Principled Trade-off between Robustness and Accuracy", ICML 2019 (arXiv
    1901.08573).

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
        steps: Integer of at least 1.
        step_size: Float, in pixels. Default: `epsilon` for one step, `epsilon
            / 2` for two, `2 / 255` for any other number.
        coefficient: Float, the weight of the divergence, 1 / lambda there.
        attack_mode: The mode of BatchNormalization in the attack:
            `"inference"`, as published, or `"training"`.

    Example:

    >>> TRADES(epsilon=8 / 255).coefficient
    6.0
    """

    name = "trades"

    def __init__(
        self,
        epsilon=options.EPSILON,
        steps=10,
        step_size=None,
        coefficient=options.TRADES_COEFFICIENT,
        attack_mode=options.INFERENCE,
    ):
        self.set_options(
            epsilon=epsilon,
            steps=steps,
            step_size=step_size,
            coefficient=coefficient,
            attack_mode=attack_mode,
        )

    def solve(self, context):
        training = self.attack_mode == options.TRAINING
        clean = tf.stop_gradient(context.logits(context.images, training))
        start = context.normal("start", START_DEVIATION)

        def gradient(delta):
            return context.input_gradient(
                delta, lambda logits: divergence(clean, logits), training
            )

        delta = climb(
            context, start, gradient, self.steps, self.step_size, self.epsilon
        )
        return Solution(delta)

    def objective(self, context, solution):
        clean = context.logits(context.images)
        logits = context.logits(context.images + solution.perturbation)
        apart = tf.reduce_mean(divergence(clean, logits))
        loss = tf.reduce_mean(context.losses(clean))
        return loss + self.coefficient * apart, logits


def divergence(first, second):
    """KL of the softmax of `second` from that of `first`, per example.

    Args:
        first: Logits `(batch, classes)`.
        second: Logits `(batch, classes)`.
    """
    first, second = tf.nn.log_softmax(first), tf.nn.log_softmax(second)
    return tf.reduce_sum(tf.exp(first) * (first - second), -1)
