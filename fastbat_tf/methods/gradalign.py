"""GradAlign: Fast-AT with a penalty on misaligned input gradients."""

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.spec import Paper, Passes


class GradAlign(Method):
    """FGSM training with the gradient alignment penalty.

    ```
    delta* = P_C(step_size * sign(g(0)))
    loss   = CE(x + delta*) + coefficient * (1 - mean cos(g(0), g(eta)))
    ```

    where `eta` is drawn from U(-epsilon, epsilon) and not clipped to the pixel
    range, and `g(0)` is a constant. The mean leaves out pairs in which a
    gradient is zero. The weight gradient of the penalty is a second
    derivative.

    Reference: Andriushchenko & Flammarion, "Understanding and Improving Fast
    Adversarial Training", NeurIPS 2020 (arXiv 2007.02617).

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
            Defaults to `8 / 255`.
        step_size: Float, in pixels. Defaults to `1.25 * epsilon`, which the
            projection reduces to `epsilon`.
        coefficient: Float, the weight of the penalty. Defaults to the `value
            published for epsilon`: 0.2 at `8 / 255`, 2.0 at `16 / 255`, linear
            in between.
        form: `"paper"`, or `"benchmark"` for the FastAT Benchmark's form: `x +
            eta` is clipped to the pixel range. Defaults to `"paper"`.

    Example:

    >>> fb.GradAlign(epsilon=8 / 255).coefficient
    0.2
    """

    name = "gradalign"
    summary = "one signed step; penalizes misaligned input gradients"
    paper = Paper(
        "Andriushchenko & Flammarion",
        "NeurIPS 2020",
        "https://arxiv.org/abs/2007.02617",
    )
    passes = Passes(3, 5, 3)
    differentiates_twice = True
    reports = {
        "gradient_alignment": "mean cosine between the input gradients at an "
        "image and at a random point of its ball; 1 is a linear loss",
    }

    epsilon: float = options.EPSILON
    step_size: float | None = options.step_size("1.25 * epsilon")
    # By gray levels of epsilon, as its authors published it for CIFAR-10.
    coefficient: float | None = options.coefficient(
        formula="interpolate(255 * epsilon, (2, 0.036), (4, 0.063), "
        "(6, 0.112), (8, 0.200), (10, 0.356), (12, 0.632), (14, 1.124), "
        "(16, 2.000))",
        help="Weight of the penalty on misalignment.",
        shown="value published for epsilon",
    )
    form: options.Form = options.FORM

    def solve(self, context):
        start = tf.zeros_like(context.images)
        clean_gradient = context.input_gradient(start)
        delta = perturbation.step(
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
    """Computes the mean cosine between two gradients over the batch.

    Pairs in which a gradient is zero are left out. If no pair is left, the mean
    is 1, which means no penalty.

    Args:
        first: Tensor, the batch first.
        second: Tensor like `first`.
    """
    cosine, valid = perturbation.cosines(first, second)
    count = tf.reduce_sum(tf.cast(valid, cosine.dtype))
    mean = tf.math.divide_no_nan(tf.reduce_sum(cosine), count)
    return tf.where(count > 0, mean, tf.ones_like(mean))
