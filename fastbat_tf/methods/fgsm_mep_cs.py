"""FGSM-MEP-CS: FGSM from a remembered start, with smooth convergence."""

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods import memory, options
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.convergence import SmoothConvergence
from fastbat_tf.methods.relaxation import relaxed
from fastbat_tf.methods.spec import Paper, Passes


class FGSMMEPCS(SmoothConvergence, Method):
    """One signed step from a remembered start, with smooth convergence.

    ```
    delta* = P_C(delta_0 + step_size * sign(g(x + delta_0)))
    l      = mean relaxed CE(x)
    loss   = mean relaxed CE(x + delta*)
             + coefficient sign(l - l') l   if |l - l'| > tolerance
    m     <- g / |g|_1 + momentum_decay m
    delta_0 <- P_C(delta_0 + step_size * sign(m))
    ```

    where l' is the mean of l in the previous epoch. delta_0 and m are kept for
    each training image. At first, delta_0 is `epsilon` or `-epsilon` in each
    pixel and m is zero; both are forgotten every `reset_epochs` epochs. `x +
    delta_0` is not clipped to the pixel range. The second term of the loss is
    left out up to epoch number `stride`, counting from 0, and in the last
    `stride` epochs. The attack maximizes the relaxed attack loss.

    Reference: Zhao, Zhang, Kong & Yin, "Fast Adversarial Training with Smooth
    Convergence", ICCV 2023 (arXiv 2308.12857).

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
            Defaults to `8 / 255`.
        step_size: Float, in pixels. Defaults to `epsilon`.
        coefficient: Float, the weight of the second term. Defaults to 1.
        tolerance: Float, the change of l that is not penalized. Defaults to
            0.03.
        stride: Integer, the number of epochs without the second term, at
            either end of the training. Defaults to 1.
        momentum_decay: Float in [0, 1), the decay of m. Defaults to 0.3.
        reset_epochs: Integer of at least 1, the number of epochs after which
            delta_0 and m are forgotten. Defaults to 40.
        label_factor: Float in (0, 1], the share of a label that its class
            keeps, in addition to the label smoothing of the loss. Defaults to
            0.6.

    Example:

    >>> fb.FGSMMEPCS(epsilon=8 / 255).momentum_decay
    0.3
    """

    name = "fgsm_mep_cs"
    summary = "a remembered start, as in `fgsm_pgi`; smooth convergence"
    paper = Paper(
        "Zhao et al.", "ICCV 2023", "https://arxiv.org/abs/2308.12857"
    )
    passes = Passes(3, 3, 2)
    remembers_examples = True

    epsilon: float = options.EPSILON
    step_size: float | None = options.step_size()
    coefficient: float = options.coefficient(
        1.0, "Weight of the penalty on jumps of the clean loss."
    )
    tolerance: float = options.TOLERANCE
    stride: int = options.STRIDE
    momentum_decay: float = options.MOMENTUM_DECAY
    reset_epochs: int = options.RESET_EPOCHS
    label_factor: float = options.LABEL_FACTOR

    def initial_state(self, sizes, draws):
        rows = memory.slots(sizes, "delta", "momentum")
        return {**rows, **super().initial_state(sizes, draws)}

    def solve(self, context):
        start, momentum = memory.recall_prior(
            context, self.epsilon, self.reset_epochs, self.momentum_decay
        )
        gradient = context.input_gradient(
            start,
            lambda z: relaxed(context.attack_losses, z, self.label_factor),
        )
        context.note(gradient=gradient, start=start, momentum=momentum)
        delta = perturbation.step(
            start, gradient, self.step_size, context.images, self.epsilon
        )
        return Solution(delta, tf.zeros_like(context.images))

    def update(self, context):
        return {
            **memory.accumulate(context, self.epsilon, self.step_size),
            **super().update(context),
        }
