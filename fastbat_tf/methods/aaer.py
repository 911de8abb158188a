"""AAER: no adversarial example may be easier than its start."""

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method, Solution

# The largest difference of variations that counts, in the benchmark's form.
LARGEST_DIFFERENCE = 100.0


class AAER(Method):
    """Single-step training that regularizes abnormal adversarial examples.

    An example is abnormal if the attack lowered its loss. With n of B examples
    abnormal, and at least one and not all of them:

    ```
    v     = |z(x + delta_0) - z(x + delta*)|^2 per example, first term constant
    V     = mean v of the abnormal - mean v of the normal, a constant
    K     = mean fall of the loss of the abnormal, a constant
    loss  = mean CE(x + delta*)
            + coefficient n / B (loss_coefficient K + logit_coefficient V+)
    ```

    with V+ = max(V, 0). K counts in the loss and gives no gradient, in the
    authors' program too. The losses of the regularization are those of the
    training. On several replicas n, V and K are those of one replica.

    Reference: Lin, Yu & Liu, "Eliminating Catastrophic Overfitting Via Abnormal
    Adversarial Examples Regularization", NeurIPS 2023 (arXiv 2404.08154).

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
        base_attack: `"nfgsm"`: noise of 2 epsilon, a step of epsilon, no
            projection on the ball; `"fastat"`: noise of epsilon, a step of
            1.25 epsilon, projected.
        step_size: Float, in pixels. Default: by the attack.
        coefficient: Float, lambda_1.
        loss_coefficient: Float, lambda_2. Default: 1.5 for `nfgsm`, else 2.5.
        logit_coefficient: Float, lambda_3. Default: 0.15 for `nfgsm`, else
            1.5.
        form: `"paper"`, or `"benchmark"` as the FastAT Benchmark has it: V is
            at most 100, and one more forward pass in training mode follows
            the update of the weights.

    Example:

    >>> AAER(epsilon=8 / 255, base_attack="fastat").loss_coefficient
    2.5
    """

    name = "aaer"
    reports = ("abnormal_share",)

    def __init__(
        self,
        epsilon=options.EPSILON,
        base_attack=options.NFGSM,
        step_size=None,
        coefficient=options.AAER_COEFFICIENT,
        loss_coefficient=None,
        logit_coefficient=None,
        form=options.PAPER,
    ):
        self.set_options(
            epsilon=epsilon,
            base_attack=base_attack,
            step_size=step_size,
            coefficient=coefficient,
            loss_coefficient=loss_coefficient,
            logit_coefficient=logit_coefficient,
            form=form,
        )

    def solve(self, context):
        strong = self.base_attack == options.NFGSM
        radius = 2 * self.epsilon if strong else self.epsilon
        start = context.random_start(radius)
        gradient, logits = context.input_gradient_and_logits(start)
        delta = start + self.step_size * tf.sign(gradient)
        if strong:
            delta = perturbation.clip_to_pixels(delta, context.images)
        else:
            delta = perturbation.project(delta, context.images, self.epsilon)
        if self.form == options.BENCHMARK:
            context.note(images=context.images + delta)
        return Solution(delta, logits)

    def penalty(self, context, solution, logits):
        before = context.losses(solution.memory)
        after = tf.stop_gradient(context.losses(logits))
        abnormal = before > after
        variation = tf.reduce_sum((solution.memory - logits) ** 2, -1)
        difference = mean_where(abnormal, variation) - tf.stop_gradient(
            mean_where(~abnormal, variation)
        )
        if self.form == options.BENCHMARK:
            difference = tf.clip_by_value(
                difference, -LARGEST_DIFFERENCE, LARGEST_DIFFERENCE
            )
        fall = mean_where(abnormal, before - after)
        share = tf.reduce_mean(tf.cast(abnormal, logits.dtype))
        context.report(abnormal_share=share)
        term = (
            self.loss_coefficient * fall
            + self.logit_coefficient * tf.nn.relu(difference)
        )
        mixed = tf.cast(tf.logical_and(share > 0.0, share < 1.0), share.dtype)
        return mixed * self.coefficient * share * term

    def update(self, context):
        if self.form == options.BENCHMARK:
            context.logits(context.notes["images"])
        return {}


def mean_where(chosen, values):
    """The mean of `values` where `chosen`, zero if nothing is."""
    weights = tf.cast(chosen, values.dtype)
    return tf.math.divide_no_nan(
        tf.reduce_sum(weights * values), tf.reduce_sum(weights)
    )
