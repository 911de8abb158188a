"""FAB: looks for the nearest adversarial image."""

import tensorflow as tf

from fastbat_tf.attacks import losses
from fastbat_tf.attacks.base import SteppedAttack
from fastbat_tf.attacks.inputs import check_positive
from fastbat_tf.attacks.norms import PIXEL_AXES, per_image

LARGEST_SHARE = 0.1  # alpha_max: how far the image itself draws the point.
OVERSHOOT = 1.05  # eta: how far beyond the linearized boundary a step goes.
PULL_BACK = 0.9  # beta: toward the image, from a point beyond the boundary.
TINY = 1e-8
ROUNDING = 1e-5  # Relative; far less than the overshoot.


class FABAttack(SteppedAttack):
    """Walks along the decision boundary to its point nearest to the image.

    At a point z, the boundary between label y and target t is linearized,

    ```
    pi = {w : f(z) + <d f(z), w - z> = 0},   f = z_t - z_y of the logits,
    ```

    and both z and the image x are projected on pi within the pixel range. The
    next point lies a little beyond both projections, between them by how far
    away each is:

    ```
    z <- clip((1 - a) (z + eta d_z) + a (x + eta d_x)),
    a  = min(|d_z| / (|d_z| + |d_x|), alpha_max).
    ```

    A point that is misclassified is drawn back toward the image, to
    `x + beta (z - x)`. The attack succeeds as soon as a misclassified point
    lies within epsilon of the image; each target class is a round. This is the
    targeted version (FAB-T) that AutoAttack runs.

    Reference: Croce & Hein, ICML 2020 (arXiv 1907.02044).

    Args:
        network: As for `Attack`.
        steps: Integer of at least 1.
        target_classes: Integer, the most classes to try.
        **kwargs: `norm`, `batch_size` and `jit_compile`, as for `Attack`.
    """

    name = "fab-t"

    def __init__(self, network, steps=100, target_classes=9, **kwargs):
        super().__init__(network, **kwargs)
        check_positive(steps=steps, target_classes=target_classes)
        self.steps = steps - 1  # They count from 0.
        self.target_classes = target_classes

    def rounds(self, classes):
        """One per target class, or as many as there are."""
        return min(self.target_classes, classes - 1)

    def start(self, images, labels, targets, epsilon, generators):
        """The image itself."""
        return {}, {"point": images}

    def step(self, problem, state, epsilon):
        """Walks, looks whether that is beyond the boundary, pulls back."""
        images, point = problem["images"], state["point"]
        answer = self.ask(losses.difference, problem, point)
        walked = self._walk(images, point, answer)
        logits = tf.cast(self.network(walked), tf.float32)
        wrong = ~losses.is_correct(logits, problem["labels"])
        near = tf.reshape(self.norm.size(walked - images) <= epsilon, [-1])
        fooled = wrong & near
        margin = losses.margin(logits, problem["labels"], problem["targets"])
        pulled = images + PULL_BACK * (walked - images)
        return {
            "fooled": fooled,
            # What is reported lies in the ball: the image, until it has fallen.
            "found": tf.where(per_image(fooled), walked, images),
            "loss": tf.where(fooled, margin, state["loss"]),
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
        """The smallest step to a hyperplane, within the pixel range.

        Minimizes ||d|| subject to `<normal, d> = gap` and `0 <= point + d <=
        1`. With s the sign of the gap, every pixel moves toward `s * normal`
        until it reaches its bound: by `min(t, room)` for L-infinity, by
        `min(t |normal|, room)` for L2. What the pixels give together grows
        with t, concave and piecewise linear: Newton's method from t = 0 finds
        the t that gives `|gap|`, passing a bound in each step. If the pixels
        cannot give it, all of them go to their bounds.

        Args:
            point: `(batch, height, width, channels)`.
            normal: Like `point`.
            gap: `(batch, 1, 1, 1)`.

        Returns:
            The step, like `point`.
        """
        heading = tf.sign(normal) * tf.sign(gap)
        room = tf.where(heading > 0, 1.0 - point, point)
        room = tf.where(heading == 0, 0.0, room)
        # Scaled: the square of a tiny gradient is zero in float32.
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
