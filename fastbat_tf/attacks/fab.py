"""FAB: searches for the nearest adversarial image."""

from typing import Unpack

import tensorflow as tf

from fastbat_tf.attacks import losses
from fastbat_tf.attacks.base import Settings, SteppedAttack
from fastbat_tf.attacks.inputs import check_positive
from fastbat_tf.attacks.norms import PIXEL_AXES, per_image

LARGEST_SHARE = 0.1  # alpha_max: the largest pull toward the image.
OVERSHOOT = 1.05  # eta: how far beyond the linearized boundary a step goes.
PULL_BACK = 0.9  # beta: the share of the perturbation that is kept.
TINY = 1e-8
ROUNDING = 1e-5  # Relative; far smaller than the overshoot.


class FAB(SteppedAttack):
    """Walks along the decision boundary toward the point nearest to the image.

    At a point z, the boundary between label y and target t is linearized:

    ```
    pi = {w : f(z) + <d f(z), w - z> = 0},
    ```

    where f is the target's logit minus the label's. Both z and the image x are
    projected onto pi within the pixel range, by steps d_z and d_x. The next
    point lies slightly beyond both projections, weighted by their distances:

    ```
    z <- clip((1 - a) (z + eta d_z) + a (x + eta d_x)),
    a  = min(|d_z| / (|d_z| + |d_x|), alpha_max).
    ```

    A misclassified point is pulled back toward the image, to
    `x + beta (z - x)`. The attack succeeds as soon as a misclassified point
    lies within epsilon of the image. Each target class is a round. This is the
    targeted version (FAB-T), the one in AutoAttack.

    Reference: Croce & Hein, ICML 2020 (arXiv 1907.02044).

    Args:
        epsilon: Float, the radius. Defaults to None, 8/255 for L-infinity and
            128/255 for L2.
        steps: Integer of at least 1. Defaults to 100.
        target_classes: Integer of at least 1, the number of target classes;
            at most all wrong classes are tried. Defaults to 9.
        **settings: `norm`, `batch_size`, `seed` and `jit_compile` of `Attack`.

    Example:

    ```python
    attack = fb.attacks.FAB(8 / 255, steps=20)
    robust_accuracy = attack(model, images, labels).robust.mean()
    ```
    """

    name = "fab-t"

    def __init__(
        self,
        epsilon: float | None = None,
        steps: int = 100,
        target_classes: int = 9,
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__(epsilon, **settings)
        check_positive(steps=steps, target_classes=target_classes)
        self.steps = steps - 1  # Steps count from 0.
        self.target_classes = target_classes

    def rounds(self, classes):
        """The number of target classes, at most all wrong ones."""
        return min(self.target_classes, classes - 1)

    def start(self, images, labels, targets, epsilon, generators):
        """Starts from the image."""
        return {}, {"point": images}

    def step(self, network, problem, state, epsilon):
        """Walks, checks whether the boundary is crossed, and pulls back."""
        images, point = problem["images"], state["point"]
        answer = self.ask(network, losses.difference, problem, point)
        walked = self._walk(images, point, answer)
        logits = tf.cast(network(walked), tf.float32)
        wrong = ~losses.is_correct(logits, problem["labels"])
        near = tf.reshape(self.norm.size(walked - images), [-1]) <= epsilon
        fooled = wrong & near
        margin = losses.margin(logits, problem["labels"], problem["targets"])
        pulled = images + PULL_BACK * (walked - images)
        prediction = {
            name: tf.where(fooled, new, state[name])
            for name, new in losses.predict(logits).items()
        }
        return {
            "fooled": fooled,
            # The reported image must lie in the ball: the clean one at first.
            "found": tf.where(per_image(fooled), walked, images),
            "loss": tf.where(fooled, margin, state["loss"]),
            **prediction,
            "point": tf.where(per_image(wrong), pulled, walked),
        }

    def _walk(self, images, point, answer):
        gradient = answer.gradient
        gap = per_image(answer.loss)
        # f(z) + <d f(z), x - z>: the linearization at the image.
        gap_at_image = gap + tf.reduce_sum(
            gradient * (images - point), PIXEL_AXES, keepdims=True
        )
        from_point = self.to_hyperplane(point, gradient, -gap)
        from_image = self.to_hyperplane(images, gradient, -gap_at_image)
        size = tf.maximum(self.norm.size(from_point), TINY)
        size_from_image = tf.maximum(self.norm.size(from_image), TINY)
        share = tf.minimum(size / (size + size_from_image), LARGEST_SHARE)
        walked = (1 - share) * (point + OVERSHOOT * from_point)
        walked += share * (images + OVERSHOOT * from_image)
        return tf.clip_by_value(walked, 0.0, 1.0)

    def to_hyperplane(self, point, normal, gap):
        """Computes the smallest step to a hyperplane in the pixel range.

        Minimizes ||d|| subject to `<normal, d> = gap` and `0 <= point + d <=
        1`. With s the sign of the gap, each pixel moves in the direction of
        `s * normal` until it reaches its bound: by `min(t, room)` for
        L-infinity, by `min(t |normal|, room)` for L2. The gap that these moves
        close is a concave, piecewise linear function of t. Newton's method from
        t = 0 finds the t that closes `|gap|`, and passes at least one bound in
        each step. If the gap cannot be closed, all pixels go to their bounds.

        Args:
            point: float32 tensor `(batch, height, width, channels)`.
            normal: float32 tensor like `point`.
            gap: float32 tensor `(batch, 1, 1, 1)`.

        Returns:
            The step d, a tensor like `point`.
        """
        heading = tf.sign(normal) * tf.sign(gap)
        room = tf.where(heading > 0, 1.0 - point, point)
        room = tf.where(heading == 0, 0.0, room)
        # Scaled, since the square of a tiny gradient is zero in float32.
        scale = tf.reduce_max(tf.abs(normal), PIXEL_AXES, keepdims=True)
        weight = tf.math.divide_no_nan(tf.abs(normal), scale)
        wanted = tf.abs(gap) / tf.maximum(scale, 1e-30)
        speed = self.norm.speed(weight)

        def give(time):
            given = weight * tf.minimum(time * speed, room)
            rate = tf.where(time * speed < room, weight * speed, 0.0)
            return tuple(
                tf.reduce_sum(values, PIXEL_AXES, keepdims=True)
                for values in (given, rate)
            )

        def lacks(given, rate):
            return (given < wanted * (1 - ROUNDING)) & (rate > 0)

        def newton(time, given, rate):
            missing = tf.math.divide_no_nan(wanted - given, rate)
            missing = tf.minimum(missing, 1e30)  # Infinity times 0 is NaN.
            time += tf.where(lacks(given, rate), missing, 0.0)
            return time, *give(time)

        start = tf.zeros_like(wanted)
        time, _, _ = tf.while_loop(
            lambda time, given, rate: tf.reduce_any(lacks(given, rate)),
            newton,
            (start, *give(start)),
            maximum_iterations=50,
        )
        return heading * tf.minimum(time * speed, room)
