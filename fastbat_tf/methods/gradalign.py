"""GradAlign: Fast-AT with a penalty on misaligned input gradients."""

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method, Solution


class GradAlign(Method):
    """FGSM training with the gradient alignment penalty.

    ```
    delta* = P_C(step_size * sign(g(0)))
    loss   = CE(x + delta*) + coefficient * (1 - mean cos(g(0), g(eta)))
    ```

    with `eta` from U(-epsilon, epsilon), not clipped to the pixels, `g(0)` a
    constant, and pairs in which a gradient is zero left out of the mean. The
    weight gradient of the penalty is a second derivative.

    Reference: Andriushchenko & Flammarion, "Understanding and Improving Fast
    Adversarial Training", NeurIPS 2020 (arXiv 2007.02617).

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
        step_size: Float, in pixels. Default: `1.25 * epsilon`, of which the
            projection leaves `epsilon`.
        coefficient: Float, the weight of the penalty. Default: the authors'
            table by epsilon, 0.2 at `8 / 255` and 2.0 at `16 / 255`, linear
            in between.
        form: `"paper"`, or `"benchmark"` as the FastAT Benchmark has it: `x +
            eta` is clipped to the pixels.

    Example:

    >>> GradAlign(epsilon=8 / 255).coefficient
    0.2
    """

    name = "gradalign"
    differentiates_twice = True
    reports = ("gradient_alignment",)

    def __init__(
        self,
        epsilon=options.EPSILON,
        step_size=None,
        coefficient=None,
        form=options.PAPER,
    ):
        self.set_options(
            epsilon=epsilon,
            step_size=step_size,
            coefficient=coefficient,
            form=form,
        )

    def solve(self, context):
        start = tf.zeros_like(context.images)
        clean_gradient = context.input_gradient(start)
        delta = perturbation.signed_step(
            start, clean_gradient, self.step_size, context.images, self.epsilon
        )
        return Solution(delta, memory=clean_gradient)

    def penalty(self, context, solution, logits):
        noise = context.uniform("alignment", self.epsilon)
        if self.form == options.BENCHMARK:
            noise = perturbation.clip_to_pixels(noise, context.images)
        alignment = mean_cosine(solution.memory, context.input_gradient(noise))
        context.report(gradient_alignment=alignment)
        return self.coefficient * (1.0 - alignment)


def mean_cosine(first, second):
    """Mean over the batch of the cosine between two gradients.

    Pairs in which a gradient is zero are left out; with none left the mean is
    1, which is no penalty.
    """
    cosine, valid = perturbation.cosines(first, second)
    count = tf.reduce_sum(tf.cast(valid, cosine.dtype))
    mean = tf.math.divide_no_nan(tf.reduce_sum(cosine), count)
    return tf.where(count > 0, mean, tf.ones_like(mean))
