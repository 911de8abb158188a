"""FGSM-PGI: the attack starts where it ended in the previous epoch."""

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods import memory, options
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.relaxation import relaxed
from fastbat_tf.methods.spec import Paper, Passes


class FGSMPGI(Method):
    """FGSM from a perturbation that each example remembers, with momentum.

    ```
    a      = clip(x + delta_0, 0, 1)
    delta* = P_C(delta_0 + step_size * sign(g(a)))
    loss   = mean CE(x + delta*) + coefficient MSE(z(x + delta*), z(a))
    m     <- g / |g|_1 + momentum_decay m
    delta_0 <- P_C(delta_0 + step_size * sign(m))
    ```

    where delta_0 and m are kept for each training image. At first, delta_0 is
    `epsilon` or `-epsilon` in each pixel and m is zero; both are forgotten
    every `reset_epochs` epochs. `|g|_1` is the norm over the whole batch, and
    MSE is the mean over all logits. The weight gradient goes through both
    forward passes. delta_0 and m do not follow the random crop of the image.
    This is the paper's FGSM-MEP, whose prior comes from all epochs so far.

    Reference: Jia, Zhang, Wei, Wu, Ma, Wang & Cao, "Prior-Guided Adversarial
    Initialization for Fast Adversarial Training", ECCV 2022 (arXiv
    2207.08859).

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
            Defaults to `8 / 255`.
        step_size: Float, in pixels. Defaults to `epsilon`.
        coefficient: Float, the weight of the distance of the logits. Defaults
            to 10.
        momentum_decay: Float in [0, 1), the decay of m. Defaults to 0.3.
        reset_epochs: Integer of at least 1, the number of epochs after which
            delta_0 and m are forgotten. Defaults to 40.
        label_factor: Float in (0, 1], the share of a label that its class
            keeps in both losses; 1 leaves the labels unchanged. Defaults to
            0.6.

    Example:

    >>> fb.FGSMPGI(epsilon=8 / 255).reset_epochs
    40
    """

    name = "fgsm_pgi"
    summary = "starts where the attack of the previous epoch ended"
    paper = Paper("Jia et al.", "ECCV 2022", "https://arxiv.org/abs/2207.08859")
    passes = Passes(2, 3, 2)
    needs_plan = True
    remembers_examples = True
    trains_through_solve = True

    epsilon: float = options.EPSILON
    step_size: float | None = options.step_size()
    coefficient: float = options.coefficient(
        10.0, "Weight of the distance of the logits."
    )
    momentum_decay: float = options.MOMENTUM_DECAY
    reset_epochs: int = options.RESET_EPOCHS
    label_factor: float = options.LABEL_FACTOR

    def initial_state(self, sizes, draws):
        return memory.slots(sizes, "delta", "momentum")

    def solve(self, context):
        start, momentum = memory.recall_prior(
            context, self.epsilon, self.reset_epochs, self.momentum_decay
        )
        gradient, logits = context.input_gradient_and_logits(
            perturbation.clip_to_pixels(start, context.images),
            lambda z: relaxed(context.attack_losses, z, self.label_factor),
        )
        gradient = tf.stop_gradient(gradient)
        context.note(gradient=gradient, start=start, momentum=momentum)
        delta = perturbation.step(
            start, gradient, self.step_size, context.images, self.epsilon
        )
        return Solution(delta, logits)

    def objective(self, context, solution):
        logits = context.logits(context.images + solution.perturbation)
        losses = relaxed(context.losses, logits, self.label_factor)
        distances = tf.reduce_mean((logits - solution.memory) ** 2, -1)
        loss = context.reduce(losses)
        return loss + self.coefficient * context.reduce(distances), logits

    def update(self, context):
        return memory.accumulate(context, self.epsilon, self.step_size)
