"""LIET: the attack starts at what a gray image reveals about the label."""

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.options import option
from fastbat_tf.methods.spec import Paper, Passes
from fastbat_tf.methods.state import Slot

GRAY = 0.5
# Above this radius the noise is doubled and nothing is projected.
LARGEST_PROJECTED_EPSILON = 8 / 255


class LIET(Method):
    """Single-step training from label-indicative noise, partly replaced.

    ```
    i_y    = epsilon * sign(d l(gray, y)), for each class, in inference mode
    e      = i_y, and U(-epsilon, epsilon) in a random share of the pixels
    a      = clip(x + e, 0, 1) or clip(x - e, 0, 1), each with probability 1/2
    delta* = P_C(a + step_size * sign(g(a)) - x)
    loss   = mean l(x + delta*) + w JS(p(a), p(x + delta*))
    ```

    where l is the loss of randomly smoothed labels: `1 - random_smoothing` for
    the class, and the rest for the other classes, in random shares that differ
    by image and loss. i is renewed every `refresh_batches` batches of an epoch.
    The share of replaced pixels is drawn from `[min_mask_ratio,
    max_mask_ratio]`. JS is the Jensen-Shannon divergence of the softmax, and w
    rises with the epoch: `w = coefficient (epoch + 1) / epochs`. The weight
    gradient goes through both forward passes. Above `epsilon = 8 / 255`, the
    uniform noise has twice the radius, and delta* is clipped to the pixel range
    only.

    Reference: Pan et al., "Mitigating Catastrophic Overfitting in Fast
    Adversarial Training via Label Information Elimination", ICCV 2025.

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
            Defaults to `8 / 255`.
        step_size: Float, in pixels. Defaults to `epsilon`.
        coefficient: Float, w in the last epoch; as published, 100 for CIFAR-10
            and 200 for CIFAR-100. Defaults to 100.
        random_smoothing: Float in [0, 1), the share of a label that is spread,
            in addition to the label smoothing of the loss; as published, 0.6
            for CIFAR-10 and 0.8 for CIFAR-100. Defaults to 0.6.
        min_mask_ratio: Float in [0, 1], the smallest share of replaced pixels.
            Defaults to 0.1.
        max_mask_ratio: Float in [min_mask_ratio, 1], the largest share of
            replaced pixels. Defaults to 0.5.
        refresh_batches: Integer of at least 1, the number of batches after
            which i is renewed. Defaults to 20.

    Example:

    >>> fb.LIET(epsilon=8 / 255).coefficient
    100.0
    """

    name = "liet"
    summary = "starts at what a gray image reveals about the label"
    paper = Paper("Pan et al.", "ICCV 2025")
    passes = Passes(2, 3, 2)
    needs_plan = True
    trains_through_solve = True
    reports = {
        "divergence": "Jensen-Shannon divergence between the predictions "
        "before and after the step; 0 is the same",
    }

    epsilon: float = options.EPSILON
    step_size: float | None = options.step_size()
    coefficient: float = options.coefficient(
        100.0, "Weight of the divergence in the last epoch."
    )
    random_smoothing: float = option(
        0.6, "Share of a label that is spread at random.", interval="[0, 1)"
    )
    min_mask_ratio: float = option(
        0.1, "Smallest share of pixels that are noise.", interval="[0, 1]"
    )
    max_mask_ratio: float = option(
        0.5,
        "Largest share of pixels that are noise.",
        interval="[min_mask_ratio, 1]",
    )
    refresh_batches: int = option(
        20, "Batches after which the start is renewed.", interval="[1, inf)"
    )

    def initial_state(self, sizes, draws):
        return {"indicative": Slot((sizes.classes, *sizes.image_shape))}

    def solve(self, context):
        indicative = tf.stop_gradient(self._indicative(context))
        context.note(indicative=indicative)
        start = perturbation.clip_to_pixels(
            self._masked(context, indicative), context.images
        )
        gradient, logits = context.input_gradient_and_logits(
            start,
            lambda z: self._losses(context, z, "attack_smoothing", attack=True),
        )
        delta = start + self.step_size * tf.sign(tf.stop_gradient(gradient))
        if self._projects:
            delta = perturbation.project(delta, context.images, self.epsilon)
        else:
            delta = perturbation.clip_to_pixels(delta, context.images)
        return Solution(delta, logits)

    def objective(self, context, solution):
        logits = context.logits(context.images + solution.perturbation)
        losses = self._losses(context, logits, "smoothing")
        apart = jensen_shannon(solution.memory, logits)
        context.report(divergence=tf.reduce_mean(apart))
        epoch = tf.cast(context.progress.epoch + 1, logits.dtype)
        weight = self.coefficient * epoch / context.progress.epochs
        loss = context.reduce(losses)
        return loss + weight * context.reduce(apart), logits

    def update(self, context):
        # Each replica has moving statistics of its own.
        noted = context.of_first_replica(context.notes["indicative"])
        return {"indicative": noted}

    @property
    def _projects(self):
        return (self.whole or self).epsilon <= LARGEST_PROJECTED_EPSILON

    def _indicative(self, context):
        """Returns one perturbation, shaped like an image, for each class."""
        old = tf.cast(context.state["indicative"], context.images.dtype)

        def renew():
            gray = tf.fill(tf.shape(old), tf.cast(GRAY, old.dtype))
            labels = tf.range(old.shape[0])
            gradient, _ = context.gradient_and_logits(
                gray,
                lambda gray: context.logits(gray, training=False),
                lambda z: self._losses(
                    context, z, "gray_smoothing", labels, attack=True
                ),
            )
            return self.epsilon * tf.sign(gradient)

        due = tf.equal(context.progress.batch % self.refresh_batches, 0)
        return tf.cond(due, renew, lambda: old)

    def _masked(self, context, indicative):
        radius = self.epsilon if self._projects else 2 * self.epsilon
        ratio = context.draw(
            "mask_ratio",
            (),
            self.min_mask_ratio,
            self.max_mask_ratio,
            shared=True,
        )
        masked = context.draw("mask", tf.shape(context.images)) < ratio
        noise = tf.where(
            masked,
            context.uniform("noise", radius),
            # It may come from a step with a larger radius.
            tf.clip_by_value(
                tf.gather(indicative, context.label_ids),
                -self.epsilon,
                self.epsilon,
            ),
        )
        return tf.where(context.coin("sign"), -noise, noise)

    def _losses(self, context, logits, name, labels=None, attack=False):
        """Returns losses of randomly smoothed labels, drawn as `name`."""
        losses = context.attack_losses if attack else context.losses
        shape, classes = tf.shape(logits), logits.shape[-1]
        others = 1.0 - (
            context.probabilities(classes)
            if labels is None
            else tf.one_hot(labels, classes, dtype=logits.dtype)
        )
        # Given labels are those of the classes, not of the examples.
        drawn = context.draw(name, shape, shared=labels is not None)
        shares = tf.cast(drawn, logits.dtype) * others
        shares = tf.math.divide_no_nan(
            shares, tf.reduce_sum(shares, -1, keepdims=True)
        )
        spread = -tf.reduce_sum(shares * tf.nn.log_softmax(logits), -1)
        kept = 1.0 - self.random_smoothing
        plain = losses(logits, labels)
        return kept * plain + self.random_smoothing * spread


def jensen_shannon(first, second):
    """Computes the Jensen-Shannon divergence of two softmaxes.

    Args:
        first: Logits `(batch, classes)`.
        second: Logits `(batch, classes)`.

    Returns:
        A tensor `(batch,)`.
    """
    log_p, log_q = tf.nn.log_softmax(first), tf.nn.log_softmax(second)
    p, q = tf.exp(log_p), tf.exp(log_q)
    log_mean = tf.reduce_logsumexp(tf.stack([log_p, log_q]), 0) - tf.math.log(
        tf.constant(2.0, first.dtype)
    )
    divergence = p * (log_p - log_mean) + q * (log_q - log_mean)
    return tf.reduce_sum(divergence, -1) / 2
