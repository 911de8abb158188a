"""AAER: penalizes adversarial examples that are easier than their start."""

from typing import Literal, get_args

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.options import option
from fastbat_tf.methods.spec import Paper, Passes, Variant

# The bound on V in the benchmark's form.
LARGEST_DIFFERENCE = 100.0

BaseAttack = Literal["nfgsm", "fastat"]


class AAER(Method):
    """Single-step training that regularizes abnormal adversarial examples.

    An example is abnormal if the attack lowered its loss. If at least one of B
    examples is abnormal, but not all of them:

    ```
    v     = |z(x + delta_0) - z(x + delta*)|^2 per example, first term constant
    V     = mean v of the abnormal - mean v of the normal, a constant
    K     = mean decrease of the loss of the abnormal, a constant
    loss  = mean CE(x + delta*)
            + coefficient n / B (loss_coefficient K + logit_coefficient V+)
    ```

    where n is the number of abnormal examples and V+ = max(V, 0). K adds to the
    loss but has no gradient, as in the authors' program. The regularization
    uses the training losses. Each replica computes its own n, V and K.

    Reference: Lin, Yu & Liu, "Eliminating Catastrophic Overfitting Via Abnormal
    Adversarial Examples Regularization", NeurIPS 2023 (arXiv 2404.08154).

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
            Defaults to `8 / 255`.
        base_attack: `"nfgsm"`: noise of `2 * epsilon`, a step of `epsilon`, no
            projection onto the ball; `"fastat"`: noise of `epsilon`, a step of
            `1.25 * epsilon`, projected. Defaults to `"nfgsm"`.
        step_size: Float, in pixels. Defaults to `epsilon for nfgsm, 1.25 *
            epsilon for fastat`.
        coefficient: Float, lambda_1 of the paper. Defaults to 1.
        loss_coefficient: Float, lambda_2 of the paper. Defaults to `1.5 for
            nfgsm, 2.5 for fastat`.
        logit_coefficient: Float, lambda_3 of the paper. Defaults to `0.15 for
            nfgsm, 1.5 for fastat`.
        form: `"paper"`, or `"benchmark"` for the FastAT Benchmark's form: V is
            clipped to [-100, 100], and another forward pass in training mode
            follows the update of the weights. Defaults to `"paper"`.

    Example:

    >>> fb.AAER(epsilon=8 / 255, base_attack="fastat").loss_coefficient
    2.5
    """

    name = "aaer"
    summary = "penalizes adversarial examples that are easier than their start"
    paper = Paper(
        "Lin et al.", "NeurIPS 2023", "https://arxiv.org/abs/2404.08154"
    )
    passes = Passes(2, 2, 1, reach=3)
    variants = {
        "fastat_benchmark": Variant(
            {"base_attack": "fastat", "form": "benchmark"}, Passes(3, 2, 1)
        )
    }
    reports = {
        "abnormal_share": "share of the examples whose loss the attack lowers; "
        "it jumps with catastrophic overfitting",
    }
    batch_wide = True

    epsilon: float = options.EPSILON
    base_attack: BaseAttack = option(
        "nfgsm", "Attack that is regularized.", choices=get_args(BaseAttack)
    )
    step_size: float | None = options.step_size(
        "epsilon if base_attack == 'nfgsm' else 1.25 * epsilon",
        shown="epsilon for nfgsm, 1.25 * epsilon for fastat",
    )
    coefficient: float = options.coefficient(
        1.0, "Weight of the regularization, lambda_1."
    )
    loss_coefficient: float | None = options.coefficient(
        formula="1.5 if base_attack == 'nfgsm' else 2.5",
        help="Weight of the decrease of the loss, lambda_2.",
        shown="1.5 for nfgsm, 2.5 for fastat",
    )
    logit_coefficient: float | None = options.coefficient(
        formula="0.15 if base_attack == 'nfgsm' else 1.5",
        help="Weight of the variation of the logits, lambda_3.",
        shown="0.15 for nfgsm, 1.5 for fastat",
    )
    form: options.Form = options.FORM

    def solve(self, context):
        strong = self.base_attack == "nfgsm"
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
    """Computes the mean of `values` where `chosen`; zero if nothing is."""
    weights = tf.cast(chosen, values.dtype)
    return tf.math.divide_no_nan(
        tf.reduce_sum(weights * values), tf.reduce_sum(weights)
    )
