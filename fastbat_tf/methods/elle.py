"""ELLE: penalizes a loss that is not linear between random points."""

from typing import Literal, get_args

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.options import option
from fastbat_tf.methods.spec import Paper, Passes, Variant
from fastbat_tf.methods.state import Slot

# ELLE-A: how many standard deviations above the mean an error must be to raise
# the weight, and the factor of the weight in every other step.
SENSITIVITY = 2.0
DECAY = 0.99

CoefficientSchedule = Literal["constant", "adaptive"]


class ELLE(Method):
    """Fast-AT with a penalty on the curvature of the loss.

    ```
    delta_0 = clip(x + U(-epsilon, epsilon), 0, 1) - x
    delta*  = clip(x + delta_0 + step_size * sign(g(delta_0)), 0, 1) - x
    error   = mean (l(x_c) - (1 - t) l(x_a) - t l(x_b))^2
    loss    = mean CE(x + delta*) + w * error
    ```

    where x_a and x_b are drawn from x + U(-epsilon, epsilon), not clipped to
    the pixel range, t from U(0, 1), and x_c = (1 - t) x_a + t x_b. These three
    images per example take one forward pass. l is the attack loss. In the paper
    it is plain cross-entropy: with label smoothing, pass
    `attack_loss="crossentropy"`. The perturbation is not projected onto the
    ball.

    With `coefficient_schedule="adaptive"` (ELLE-A), w starts at zero, is set to
    `coefficient` when `error` exceeds its mean so far by two standard
    deviations, and is multiplied by 0.99 in every other step.

    Reference: Abad Rocamora, Liu, Chrysos, Olmos & Cevher, "Efficient local
    linearity regularization to overcome catastrophic overfitting", ICLR 2024
    (arXiv 2401.11618).

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
            Defaults to `8 / 255`.
        step_size: Float, in pixels. Defaults to `1.25 * epsilon`.
        coefficient_schedule: `"constant"` or `"adaptive"`. Defaults to
            `"constant"`.
        coefficient: Float, w, or its highest value. Defaults to `1, or 10 if
            adaptive`.

    Example:

    >>> fb.ELLE(epsilon=8 / 255).coefficient
    1.0
    """

    name = "elle"
    summary = "one signed step; penalizes a loss that is not locally linear"
    paper = Paper(
        "Abad Rocamora et al.", "ICLR 2024", "https://arxiv.org/abs/2401.11618"
    )
    passes = Passes(5, 5, 4, reach=2.25)
    variants = {"adaptive": Variant({"coefficient_schedule": "adaptive"})}
    reports = {
        "linearity_error": "mean squared error of the loss between two random "
        "points against the line through them; 0 is linear",
    }

    epsilon: float = options.EPSILON
    step_size: float | None = options.step_size("1.25 * epsilon")
    coefficient_schedule: CoefficientSchedule = option(
        "constant",
        "Whether the coefficient adapts, as in ELLE-A.",
        choices=get_args(CoefficientSchedule),
    )
    coefficient: float | None = options.coefficient(
        formula="10.0 if coefficient_schedule == 'adaptive' else 1.0",
        help="Weight of the linearity error.",
        shown="1, or 10 if adaptive",
    )

    @property
    def _adapts(self):
        return self.coefficient_schedule == "adaptive"

    def initial_state(self, sizes, draws):
        names = ("weight", "count", "mean", "squares") if self._adapts else ()
        return {name: Slot(()) for name in names}

    def solve(self, context):
        start = context.random_start(self.epsilon)
        ascent = self.step_size * tf.sign(context.input_gradient(start))
        return Solution(
            perturbation.clip_to_pixels(start + ascent, context.images)
        )

    def penalty(self, context, solution, logits):
        first = context.images + context.uniform("first", self.epsilon)
        second = context.images + context.uniform("second", self.epsilon)
        share = context.draw("share", tf.shape(context.images)[:1])
        pixel_share = tf.reshape(share, [-1, 1, 1, 1])
        between = (1.0 - pixel_share) * first + pixel_share * second
        images = tf.concat([first, second, between], 0)
        losses = context.attack_losses(
            context.logits(images, copies=3), context.tiled_labels(3)
        )
        at_first, at_second, at_between = tf.split(losses, 3)
        chord = (1.0 - share) * at_first + share * at_second
        errors = (at_between - chord) ** 2
        error = tf.reduce_mean(errors)
        context.report(linearity_error=error)
        weight = self.coefficient
        if self._adapts:
            weight = tf.cast(context.state["weight"], error.dtype)
            context.note(error=error)
        return weight * context.reduce(errors)

    def update(self, context):
        if not self._adapts:
            return {}
        state = context.state
        error = context.mean_over_replicas(context.notes["error"])
        error = tf.cast(error, state["mean"].dtype)
        # Welford's running mean and sum of squared deviations.
        count = state["count"] + 1.0
        apart = error - state["mean"]
        mean = state["mean"] + apart / count
        squares = state["squares"] + apart * (error - mean)
        limit = mean + SENSITIVITY * tf.sqrt(squares / count)
        jumped = tf.logical_and(count > 2.0, error > limit)
        highest = self.coefficient * tf.ones_like(mean)
        return {
            "weight": tf.where(jumped, highest, DECAY * state["weight"]),
            "count": count,
            "mean": mean,
            "squares": squares,
        }
