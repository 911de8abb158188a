"""MART: a boosted loss, and agreement where the prediction is uncertain."""

import math

import tensorflow as tf

from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.pgd import climb
from fastbat_tf.methods.spec import Paper, Passes
from fastbat_tf.methods.trades import START_DEVIATION, divergence


class MART(Method):
    """Misclassification-aware adversarial training.

    ```
    delta_0     = 0.001 N(0, 1)
    delta_{k+1} = P_C(delta_k + step_size * d(grad CE(x + delta_k)))
    boosted     = CE(x') - log(1 - max_{k != y} p_k(x')),  x' = x + delta*
    loss        = mean boosted
                + coefficient * mean KL(p(x) || p(x')) (1 - p_y(x))
    ```

    where p is the softmax of the logits, y is the true class, and `d(g)` is
    `sign(g)` in L-infinity and `g / ||g||` in L2. The gradient goes through all
    of the loss, also through p(x) and 1 - p_y(x).

    CE is the loss of the training, with its label smoothing, or what
    `RobustClassifier.compile(loss=...)` sets; the attack maximizes the attack
    loss. If the labels are probabilities, y is the likeliest class.

    The published program adds constants of 1e-12 to 1e-4 within the logarithms.
    They keep -log(1 - p_k) below 9.22, and let its gradient vanish where p_k is
    above 0.9999. Here both are those of the equation.

    Reference: Wang, Zou, Yi, Bailey, Ma & Gu, "Improving Adversarial
    Robustness Requires Revisiting Misclassified Examples", ICLR 2020.

    Args:
        epsilon: Float, radius of the ball in pixels: in [0, 1] in L-infinity.
            Defaults to `8 / 255, in L2 128 / 255`. The published program has
            0.031.
        steps: Integer of at least 1, the steps of the attack. Defaults to 10.
        step_size: Float, in pixels. Defaults to `epsilon for 1 step, epsilon /
            2 for 2, else 2/255; in L2 2 * epsilon / steps`. The published
            program has 0.007, and no attack in L2.
        coefficient: Float, the weight of the divergence, lambda in the paper.
            Defaults to 5, that of the published program for ResNet-18. It has
            6 for WideResNet-34-10.
        attack_mode: The mode of BatchNormalization and Dropout in the attack:
            `"inference"`, as published, or `"training"`. Defaults to
            `"inference"`.
        norm: `"linf"` or `"l2"`. Defaults to `"linf"`.

    Example:

    >>> fb.MART(epsilon=8 / 255).coefficient
    5.0
    """

    name = "mart"
    summary = "boosted loss after K steps; agreement where it is uncertain"
    paper = Paper(
        "Wang et al.",
        "ICLR 2020",
        "https://openreview.net/forum?id=rklOg6EFwS",
    )
    passes = Passes(12, 12, 2)

    epsilon: float = options.EPSILON_OF_NORM
    steps: int = options.steps(10)
    step_size: float | None = options.step_size(
        "2 * epsilon / steps if norm == 'l2' else "
        "epsilon if steps == 1 else epsilon / 2 if steps == 2 else 2 / 255",
        shown="epsilon for 1 step, epsilon / 2 for 2, else 2/255; in L2 "
        "2 * epsilon / steps",
    )
    coefficient: float = options.coefficient(5.0, "Weight of the divergence.")
    attack_mode: options.Mode = options.attack_mode(options.INFERENCE)
    norm: str | float = options.NORM

    def solve(self, context):
        training = self.attack_mode == options.TRAINING
        delta = climb(
            context,
            context.normal("start", START_DEVIATION),
            lambda delta: context.input_gradient(delta, training=training),
            steps=self.steps,
            step_size=self.step_size,
            epsilon=self.epsilon,
            norm=self.norm,
        )
        return Solution(delta)

    def objective(self, context, solution):
        clean = context.logits(context.images)
        logits = context.logits(context.images + solution.perturbation)
        classes = context.label_ids
        boosted = context.losses(logits) + margin_losses(logits, classes)
        doubt = tf.exp(log_others(clean, classes))
        apart = context.reduce(divergence(clean, logits) * doubt)
        return context.reduce(boosted) + self.coefficient * apart, logits


def margin_losses(logits, label_ids):
    """Computes -log(1 - p_k), for the likeliest wrong class k.

    Args:
        logits: Float tensor `(batch, classes)`.
        label_ids: Integer tensor `(batch,)`, the true classes.

    Returns:
        A tensor `(batch,)`.
    """
    wrong = tf.argmax(_without(logits, label_ids), -1)
    return -log_others(logits, wrong)


def log_others(logits, classes):
    """Computes log(1 - p_k), the probability of all classes but k.

    As `logsumexp_{j != k} z_j - logsumexp_j z_j`, which keeps its digits where
    p_k is next to 1.

    Args:
        logits: Float tensor `(batch, classes)`, z.
        classes: Integer tensor `(batch,)`, k.

    Returns:
        A tensor `(batch,)`.
    """
    others = tf.reduce_logsumexp(_without(logits, classes), -1)
    return others - tf.reduce_logsumexp(logits, -1)


def _without(logits, classes):
    """Replaces the logit of a class in each row by minus infinity."""
    is_class = tf.one_hot(
        classes, logits.shape[-1], on_value=True, off_value=False
    )
    return tf.where(is_class, tf.cast(-math.inf, logits.dtype), logits)
