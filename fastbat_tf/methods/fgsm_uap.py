"""FGSM-UAP: the attack starts at a universal perturbation."""

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.layers.derivatives import connected
from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.spec import Paper, Passes
from fastbat_tf.methods.state import Slot


class UniversalStart:
    """A mixin for methods that start at universal perturbations.

    It comes before `Method` in the bases of a class. The class declares the
    options, and may override `count`, `choose` and `begin`.
    """

    epsilon: float
    step_size: float | None
    uap_epsilon: float | None
    coefficient: float
    momentum_decay: float
    form: str

    radii = ("epsilon", "step_size", "uap_epsilon")
    trains_through_solve = True

    def count(self, sizes):
        """Returns the number of universal perturbations."""
        del sizes
        return 1

    def choose(self, context):
        """Returns the index of each image's perturbation, int32 `(batch,)`."""
        return tf.zeros(tf.shape(context.images)[:1], tf.int32)

    def begin(self, context):
        """Returns the noise that the perturbation is added to; zero here."""
        return tf.zeros_like(context.images)

    def initial_state(self, sizes, draws):
        shape = (self.count(sizes), *sizes.image_shape)
        drawn = draws.uniform("uap", shape, -1.0, 1.0, tf.float32)
        first = self.uap_epsilon * tf.where(drawn < 0, -1.0, 1.0)
        return {"uap": Slot(shape, first), "momentum": Slot(shape)}

    def solve(self, context):
        begin, chosen = self.begin(context), self.choose(context)
        added = tf.cast(tf.gather(context.state["uap"], chosen), begin.dtype)
        start = perturbation.project(
            begin + added, context.images, self.epsilon
        )
        with tf.GradientTape(
            persistent=True, watch_accessed_variables=False
        ) as tape:
            tape.watch(start)
            logits = context.logits(context.images + start)
            loss = tf.reduce_mean(context.attack_losses(logits))
        gradient = tf.stop_gradient(connected(tape.gradient(loss, start)))
        context.note(gradient=gradient, chosen=chosen)
        delta = perturbation.step(
            start, gradient, self.step_size, context.images, self.epsilon
        )
        return Solution(delta, (tape, start, logits))

    def objective(self, context, solution):
        tape, start, at_start = solution.memory
        logits = context.logits(context.images + solution.perturbation)
        apart = logits - at_start
        distance = context.reduce(tf.reduce_mean(apart**2, -1))
        if self.form == options.BENCHMARK:
            size = tf.cast(tf.size(apart), apart.dtype)
            extra = tape.gradient(
                at_start,
                start,
                output_gradients=-2.0 * self.coefficient * apart / size,
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            context.note(gradient=context.notes["gradient"] + extra)
        loss = context.reduce(context.losses(logits))
        return loss + self.coefficient * distance, logits

    def update(self, context):
        gradient = context.as_share(context.notes["gradient"])
        chosen = context.notes["chosen"]
        uap, momentum = context.state["uap"], context.state["momentum"]
        length = context.sum_over_replicas(tf.reduce_sum(tf.abs(gradient)))
        gradient = tf.math.divide_no_nan(gradient, length)
        sums = context.sum_over_replicas(
            tf.math.unsorted_segment_sum(gradient, chosen, uap.shape[0])
        )
        counts = context.sum_over_replicas(
            tf.math.unsorted_segment_sum(
                tf.ones_like(gradient[:, 0, 0, 0]), chosen, uap.shape[0]
            )
        )
        counts = tf.reshape(counts, [-1, 1, 1, 1])
        means = tf.cast(tf.math.divide_no_nan(sums, counts), uap.dtype)
        moved = means + self.momentum_decay * momentum
        momentum = tf.where(counts > 0, moved, momentum)
        radius = tf.cast(self.uap_epsilon, uap.dtype)
        moved = tf.clip_by_value(
            uap + radius * tf.sign(momentum), -radius, radius
        )
        return {
            "uap": tf.where(counts > 0, moved, uap),
            "momentum": momentum,
        }


class FGSMUAP(UniversalStart, Method):
    """FGSM from one perturbation that all images share.

    ```
    a      = P_C(u)
    delta* = P_C(a + step_size * sign(g(a)))
    loss   = mean CE(x + delta*) + coefficient MSE(z(x + delta*), z(x + a))
    m     <- mean of g / |g|_1 + momentum_decay m
    u     <- clip(u + uap_epsilon * sign(m), -uap_epsilon, uap_epsilon)
    ```

    At first, u is `uap_epsilon` or its negative in each pixel and m is zero.
    `|g|_1` is the norm over the whole batch, and MSE is the mean over all
    logits. The weight gradient goes through both forward passes.

    Reference: Pan, Li & Yao, "Adversarial Initialization with Universal
    Adversarial Perturbation: A New Approach to Fast Adversarial Training",
    AAAI 2024.

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
            Defaults to `8 / 255`.
        step_size: Float, in pixels. Defaults to `epsilon`.
        uap_epsilon: Float in [0, 1], the radius of u. Defaults to
            `min(1.25 * epsilon, 1.0)`.
        coefficient: Float, the weight of the distance of the logits. Defaults
            to 10.
        momentum_decay: Float in [0, 1), the decay of m. Defaults to 0.3.
        form: `"paper"`: g is the gradient of the attack loss; `"benchmark"`, as
            in the programs of the authors and of the FastAT Benchmark: the
            momentum also takes the gradient of the distance of the logits,
            through `z(x + a)`, which takes another backward pass. Defaults to
            `"paper"`.

    Example:

    >>> fb.FGSMUAP(epsilon=8 / 255).uap_epsilon * 255
    10.0
    """

    name = "fgsm_uap"
    summary = "starts at one universal perturbation"
    paper = Paper("Pan et al.", "AAAI 2024")
    passes = Passes(2, 3, 2)

    epsilon: float = options.EPSILON
    step_size: float | None = options.step_size()
    uap_epsilon: float | None = options.UAP_EPSILON
    coefficient: float = options.coefficient(
        10.0, "Weight of the distance of the logits."
    )
    momentum_decay: float = options.MOMENTUM_DECAY
    form: options.Form = options.FORM
