"""GAT: a guided attack, and a penalty on squared changes of predictions."""

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.options import option
from fastbat_tf.methods.spec import Paper, Passes, Variant

# The percentage of the epochs after which the coefficient grows, as published.
GROWTH_BEGINS = 86


class GAT(Method):
    """Guided adversarial training with a single step.

    ```
    delta_0 = clip(x + B(epsilon / 2), 0, 1) - x,    B: + or - for each pixel
    a       = CE(x + delta_0) + m coefficient |p(x) - p(x + delta_0)|^2
    delta*  = P_C(delta_0 + step_size * sign(d a / d delta_0))
    loss    = mean CE(x) + coefficient mean |p(x) - p(x + delta*)|^2
    ```

    where p is the softmax, and m = 0, 1, 0, ... alternates over the batches of
    an epoch. The forward pass of the attack runs in inference mode. After 86 %
    of the epochs, the coefficient is multiplied by `growth`.

    Reference: Sriramanan, Addepalli, Baburaj & Babu, "Guided Adversarial
    Attack for Evaluating and Enhancing Adversarial Defenses", NeurIPS 2020
    (arXiv 2011.14969).

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
            Defaults to `8 / 255`.
        step_size: Float, in pixels. Defaults to `epsilon`.
        coefficient: Float, the weight of the squared distance. Defaults to 10.
        growth: Float, the factor of the coefficient late in the training.
            Defaults to 4.
        form: `"paper"`, or `"benchmark"` for the FastAT Benchmark's form: where
            m is 0, the attack's loss treats the probabilities as logits, and
            from the second epoch on, the first forward pass of an epoch runs in
            inference mode. Defaults to `"paper"`.

    Example:

    >>> fb.GAT(epsilon=8 / 255).coefficient
    10.0
    """

    name = "gat"
    summary = "guided attack; penalizes squared changes of the predictions"
    paper = Paper(
        "Sriramanan et al.", "NeurIPS 2020", "https://arxiv.org/abs/2011.14969"
    )
    passes = Passes(4, 3, 2)
    variants = {"benchmark": Variant({"form": "benchmark"})}
    needs_plan = True

    epsilon: float = options.EPSILON
    step_size: float | None = options.step_size()
    coefficient: float = options.coefficient(
        10.0, "Weight of the squared distance of the probabilities."
    )
    growth: float = option(
        4.0,
        "Factor of the coefficient late in the training.",
        interval="[0, inf)",
    )
    form: options.Form = options.FORM

    def solve(self, context):
        clean = tf.nn.softmax(tf.stop_gradient(self._clean_logits(context)))
        weight = self._weight(context)
        guided = tf.equal(context.progress.batch % 2, 1)

        def losses(logits):
            probabilities = tf.nn.softmax(logits)
            apart = tf.reduce_sum((clean - probabilities) ** 2, -1)
            plain = context.attack_losses(logits)
            unguided = plain
            if self.form == options.BENCHMARK:
                # Keras undoes a softmax that it recognizes.
                unguided = context.attack_losses(tf.identity(probabilities))
            return tf.where(guided, plain + weight * apart, unguided)

        start = perturbation.clip_to_pixels(
            context.signs("start", self.epsilon / 2), context.images
        )
        gradient = context.input_gradient(start, losses, training=False)
        return Solution(
            perturbation.step(
                start, gradient, self.step_size, context.images, self.epsilon
            )
        )

    def objective(self, context, solution):
        logits = context.logits(context.images + solution.perturbation)
        clean = context.logits(context.images)
        apart = (tf.nn.softmax(clean) - tf.nn.softmax(logits)) ** 2
        penalty = context.reduce(tf.reduce_sum(apart, -1))
        loss = context.reduce(context.losses(clean))
        return loss + self._weight(context) * penalty, logits

    def _clean_logits(self, context):
        if self.form == options.PAPER:
            return context.logits(context.images)
        epoch, batch = context.progress.epoch, context.progress.batch
        return tf.cond(
            tf.logical_and(epoch > 0, tf.equal(batch, 0)),
            lambda: context.logits(context.images, training=False),
            lambda: context.logits(context.images),
        )

    def _weight(self, context):
        over = (
            100 * context.progress.epoch
            >= GROWTH_BEGINS * context.progress.epochs
        )
        grown = tf.cast(over, context.images.dtype)
        return self.coefficient * (1.0 + (self.growth - 1.0) * grown)
