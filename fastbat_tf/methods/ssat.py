"""SSAT: takes the smallest part of a step that is misclassified."""

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.options import option
from fastbat_tf.methods.spec import Paper, Passes


class SSAT(Method):
    """Stable single-step adversarial training.

    ```
    delta_0 = clip(x + U(-epsilon, epsilon), 0, 1) - x
    delta   = P_C(delta_0 + step_size * sign(g(delta_0)))
    delta*  = k delta / c,  k in {1, ..., c} the smallest that is misclassified
    ```

    and k = c if none is. The parts 1 / c, ..., (c - 1) / c are classified in
    inference mode, in one forward pass. An example that is already
    misclassified at `x + delta_0`, in training mode, is not perturbed.

    Reference: Kim, Lee & Lee, "Understanding Catastrophic Overfitting in
    Single-step Adversarial Training", AAAI 2021 (arXiv 2010.01799).

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
            Defaults to `8 / 255`.
        step_size: Float, in pixels. Defaults to `1.25 * epsilon`.
        checkpoints: Integer of at least 1, c. Defaults to 3.

    Example:

    >>> fb.SSAT(epsilon=8 / 255).checkpoints
    3
    """

    name = "ssat"
    summary = "the smallest part of one signed step that is misclassified"
    paper = Paper("Kim et al.", "AAAI 2021", "https://arxiv.org/abs/2010.01799")
    passes = Passes(4, 2, 1)
    reports = {
        "step_fraction": "mean share of the step that is taken: the smallest "
        "that is misclassified, 0 where the start already is",
    }

    epsilon: float = options.EPSILON
    step_size: float | None = options.step_size("1.25 * epsilon")
    checkpoints: int = option(
        3, "Number of parts of the step that are tried.", interval="[1, inf)"
    )

    def solve(self, context):
        start = context.random_start(self.epsilon)
        gradient, logits = context.input_gradient_and_logits(start)
        delta = perturbation.step(
            start, gradient, self.step_size, context.images, self.epsilon
        )
        fraction = self._fractions(context, delta)
        fraction *= tf.cast(_correct(context, logits), fraction.dtype)
        context.report(step_fraction=tf.reduce_mean(fraction))
        return Solution(tf.reshape(fraction, [-1, 1, 1, 1]) * delta, fraction)

    def _fractions(self, context, delta):
        """Returns the smallest misclassified fraction of each example."""
        count = self.checkpoints
        smallest = tf.ones(tf.shape(delta)[:1], delta.dtype)
        if count == 1:
            return smallest
        parts = [context.images + k / count * delta for k in range(1, count)]
        logits = context.logits(
            tf.concat(parts, 0), training=False, copies=count - 1
        )
        for k, part in reversed(
            list(enumerate(tf.split(logits, count - 1), 1))
        ):
            here = tf.fill(tf.shape(smallest), tf.cast(k / count, delta.dtype))
            smallest = tf.where(_correct(context, part), smallest, here)
        return smallest


def _correct(context, logits):
    return tf.equal(tf.argmax(logits, -1, tf.int32), context.label_ids)
