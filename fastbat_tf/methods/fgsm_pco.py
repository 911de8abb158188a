"""FGSM-PCO: mixes the remembered and the new adversarial image."""

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods import memory, options
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.options import option
from fastbat_tf.methods.relaxation import relaxed
from fastbat_tf.methods.spec import Paper, Passes


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

    where p_y is the probability of the label, and delta_0 is kept for each
    training image. At first, it is `epsilon` or `-epsilon` in each pixel. The
    weight gradient goes through all three forward passes, and through c into
    x'. Neither x' nor `x + delta_0` is clipped to the pixel range, and x' may
    leave the ball.

    Reference: Wang, Wang, Tian & Jin, "Preventing Catastrophic
    Overfitting in Fast Adversarial Training: A Bi-level Optimization
    Perspective", ECCV 2024 (arXiv 2407.12443).

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
            Defaults to `8 / 255`.
        step_size: Float, in pixels. Defaults to `epsilon`.
        reach: Float, the factor of d in x'. Defaults to 1.5.
        coefficient: Float, the weight of the second term. Defaults to 10.
        label_factor: Float in (0, 1], the share of a label that its class
            keeps in both losses, in addition to the label smoothing of the
            loss. Defaults to 0.6.

    Example:

    >>> fb.FGSMPCO(epsilon=8 / 255).reach
    1.5
    """

    name = "fgsm_pco"
    summary = "mixes the remembered and the new adversarial image"
    paper = Paper(
        "Wang et al.", "ECCV 2024", "https://arxiv.org/abs/2407.12443"
    )
    passes = Passes(3, 4, 3, reach=1.5, in_range=False)
    needs_plan = True
    remembers_examples = True
    batch_wide = True
    trains_through_solve = True

    epsilon: float = options.EPSILON
    step_size: float | None = options.step_size()
    reach: float = option(
        1.5, "Factor of the new perturbation.", interval="[0, inf)"
    )
    coefficient: float = options.coefficient(
        10.0, "Weight of the difference of the distances of the logits."
    )
    label_factor: float = options.LABEL_FACTOR

    def initial_state(self, sizes, draws):
        return memory.slots(sizes, "delta")

    def solve(self, context):
        start, _ = memory.recall_prior(context, self.epsilon)
        gradient, logits = context.input_gradient_and_logits(
            start,
            lambda z: relaxed(context.attack_losses, z, self.label_factor),
        )
        gradient = tf.stop_gradient(gradient)
        moved = perturbation.step(
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
        differences = tf.reduce_mean((at_moved - at_start) ** 2, -1)
        differences -= tf.reduce_mean((at_moved - logits) ** 2, -1)
        penalty = tf.abs(context.reduce(differences))
        return context.reduce(losses) + self.coefficient * penalty, logits

    def update(self, context):
        return memory.record(context, delta=context.notes["moved"])
