"""FGSM-PGI: the attack begins where it ended in the epoch before."""

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods import memory, options
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.relaxation import relaxed


class FGSMPGI(Method):
    """FGSM from a perturbation that each example remembers, with momentum.

    ```
    a      = clip(x + delta_0, 0, 1)
    delta* = P_C(delta_0 + step_size * sign(g(a)))
    loss   = mean CE(x + delta*) + coefficient MSE(z(x + delta*), z(a))
    m     <- g / |g|_1 + momentum_decay m
    delta_0 <- P_C(delta_0 + step_size * sign(m))
    ```

    with delta_0 and m per training image, delta_0 at first `epsilon` or
    `-epsilon` in each pixel and m zero, both forgotten every `reset_epochs`
    epochs, `|g|_1` over the batch, and MSE the mean over all logits. The
    weight gradient goes through both forward passes. What is remembered does
    not move with the crop of the image. This is the FGSM-MEP of the paper, its
    prior from all epochs before.

    Reference: Jia, Zhang, Wei, Wu, Ma, Wang & Cao, "Prior-Guided Adversarial
    Initialization for Fast Adversarial Training", ECCV 2022 (arXiv
    2207.08859).

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
        step_size: Float, in pixels. Default: `epsilon`.
        coefficient: Float, the weight of the distance of the logits.
        momentum_decay: Float in [0, 1).
        reset_epochs: Integer of at least 1.
        label_factor: Float in (0, 1], what a relaxed label keeps of the class,
            in both losses; 1 leaves the labels to the loss.

    Example:

    >>> FGSMPGI(epsilon=8 / 255).reset_epochs
    40
    """

    name = "fgsm_pgi"
    needs_plan = True
    remembers_examples = True
    trains_through_solve = True

    def __init__(
        self,
        epsilon=options.EPSILON,
        step_size=None,
        coefficient=options.LOGIT_COEFFICIENT,
        momentum_decay=options.MOMENTUM_DECAY,
        reset_epochs=options.RESET_EPOCHS,
        label_factor=options.LABEL_FACTOR,
    ):
        self.set_options(
            epsilon=epsilon,
            step_size=step_size,
            coefficient=coefficient,
            momentum_decay=momentum_decay,
            reset_epochs=reset_epochs,
            label_factor=label_factor,
        )

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
        delta = perturbation.signed_step(
            start, gradient, self.step_size, context.images, self.epsilon
        )
        return Solution(delta, logits)

    def objective(self, context, solution):
        logits = context.logits(context.images + solution.perturbation)
        losses = relaxed(context.losses, logits, self.label_factor)
        distance = tf.reduce_mean((logits - solution.memory) ** 2)
        return tf.reduce_mean(losses) + self.coefficient * distance, logits

    def update(self, context):
        return memory.accumulate(context, self.epsilon, self.step_size)
