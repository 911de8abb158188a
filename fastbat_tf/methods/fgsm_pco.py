"""FGSM-PCO: a mixture of the remembered and the new adversarial image."""

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods import memory, options
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.relaxation import relaxed


class FGSMPCO(Method):
    """FGSM that mixes its result with the start that each example remembers.

    ```
    d    = P_C(delta_0 + step_size * sign(g(x + delta_0)))
    c    = 1 - p_y(x + delta_0)
    x'   = c (x + delta_0) + (1 - c) (x + reach d)
    loss = mean relaxed CE(x') + coefficient
           |MSE(z(x + d), z(x + delta_0)) - MSE(z(x + d), z(x'))|
    delta_0 <- d
    ```

    with delta_0 per training image, at first `epsilon` or `-epsilon` in each
    pixel, and p_y the probability of the label. The weight gradient goes
    through all three forward passes, and through c into x'. Neither x' nor `x
    + delta_0` is clipped to the pixels; x' may leave the ball.

    Reference: Wang, Wang, Tian & Jin, "Preventing Catastrophic
    Overfitting in Fast Adversarial Training: A Bi-level Optimization
    Perspective", ECCV 2024 (arXiv 2407.12443).

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
        step_size: Float, in pixels. Default: `epsilon`.
        reach: Float, what the new perturbation is multiplied by in x'.
        coefficient: Float, the weight of the second term.
        label_factor: Float in (0, 1], what a relaxed label keeps of the class,
            in both losses, beside the label smoothing of the loss.

    Example:

    >>> FGSMPCO(epsilon=8 / 255).reach
    1.5
    """

    name = "fgsm_pco"
    needs_plan = True
    remembers_examples = True
    trains_through_solve = True

    def __init__(
        self,
        epsilon=options.EPSILON,
        step_size=None,
        reach=options.REACH,
        coefficient=options.LOGIT_COEFFICIENT,
        label_factor=options.LABEL_FACTOR,
    ):
        self.set_options(
            epsilon=epsilon,
            step_size=step_size,
            reach=reach,
            coefficient=coefficient,
            label_factor=label_factor,
        )

    def initial_state(self, sizes, draws):
        return memory.slots(sizes, "delta")

    def solve(self, context):
        start, _ = memory.recall_prior(context, self.epsilon)
        gradient, logits = context.input_gradient_and_logits(
            start,
            lambda z: relaxed(context.attack_losses, z, self.label_factor),
        )
        gradient = tf.stop_gradient(gradient)
        moved = perturbation.signed_step(
            start, gradient, self.step_size, context.images, self.epsilon
        )
        context.note(moved=moved)
        probability = tf.gather(
            tf.nn.softmax(logits), context.label_ids, batch_dims=1
        )
        share = tf.reshape(1.0 - probability, [-1, 1, 1, 1])
        mixed = share * start + (1.0 - share) * self.reach * moved
        return Solution(mixed, (logits, moved))

    def objective(self, context, solution):
        at_start, moved = solution.memory
        logits = context.logits(context.images + solution.perturbation)
        at_moved = context.logits(context.images + moved)
        losses = relaxed(context.losses, logits, self.label_factor)
        difference = tf.reduce_mean((at_moved - at_start) ** 2)
        difference -= tf.reduce_mean((at_moved - logits) ** 2)
        loss = tf.reduce_mean(losses) + self.coefficient * tf.abs(difference)
        return loss, logits

    def update(self, context):
        return memory.record(context, delta=context.notes["moved"])
