"""NuAT: a nuclear norm keeps the logits of a batch together."""

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method, Solution


class NuAT(Method):
    """Nuclear-norm adversarial training with a single step.

    ```
    delta_0 = clip(x + B(epsilon / 2), 0, 1) - x,    B: + or - for each pixel
    a       = mean CE(x + delta_0) + m w |z(x) - z(x + delta_0)|_* / B
    delta*  = P_C(delta_0 + step_size * sign(d a / d delta_0))
    loss    = mean CE(x) + w |z(x) - z(x + delta*)|_* / B
    ```

    with `|.|_*` the sum of the singular values of the logits `(batch,
    classes)`, B the batch size, m = 0, 1, 0, ... from batch to batch of an
    epoch, and w rising by the epoch: `w = coefficient epoch / epochs`, which
    is zero in the first. On several replicas the norm is that of the images
    of one replica.

    Reference: Sriramanan, Addepalli, Baburaj & Babu, "Towards Efficient and
    Effective Adversarial Training", NeurIPS 2021.

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
        step_size: Float, in pixels. Default: `epsilon`.
        coefficient: Float, w at the end.
        attack_mode: The mode of BatchNormalization in the attack:
            `"inference"`, as published, or `"training"`, as the FastAT
            Benchmark has it.

    Example:

    >>> NuAT(epsilon=8 / 255).coefficient
    4.5
    """

    name = "nuat"
    needs_plan = True

    def __init__(
        self,
        epsilon=options.EPSILON,
        step_size=None,
        coefficient=options.NUAT_COEFFICIENT,
        attack_mode=options.INFERENCE,
    ):
        self.set_options(
            epsilon=epsilon,
            step_size=step_size,
            coefficient=coefficient,
            attack_mode=attack_mode,
        )

    def solve(self, context):
        clean = tf.stop_gradient(context.logits(context.images))
        guided = tf.equal(context.progress.batch % 2, 1)
        weight = tf.cast(guided, context.images.dtype) * self._weight(context)

        def loss(logits):
            losses = context.attack_losses(logits)
            return tf.reduce_mean(losses) + weight * _distance(clean, logits)

        start = perturbation.clip_to_pixels(
            context.signs("start", self.epsilon / 2), context.images
        )
        gradient = context.input_gradient(
            start, loss, self.attack_mode == options.TRAINING
        )
        return Solution(
            perturbation.signed_step(
                start, gradient, self.step_size, context.images, self.epsilon
            )
        )

    def objective(self, context, solution):
        logits = context.logits(context.images + solution.perturbation)
        clean = context.logits(context.images)
        loss = tf.reduce_mean(context.losses(clean))
        return loss + self._weight(context) * _distance(clean, logits), logits

    def _weight(self, context):
        epoch = tf.cast(context.progress.epoch, context.images.dtype)
        return self.coefficient * epoch / context.progress.epochs


def _distance(first, second):
    batch = tf.cast(tf.shape(first)[0], first.dtype)
    return nuclear_norm(first - second) / batch


@tf.custom_gradient
def nuclear_norm(matrix):
    """The sum of the singular values of a matrix.

    Its gradient is U V^T. That of TensorFlow's SVD divides by differences of
    the singular values, which may be zero.
    """
    values, left, right = tf.linalg.svd(matrix)

    def gradient(upstream):
        return upstream * tf.matmul(left, right, transpose_b=True)

    return tf.reduce_sum(values), gradient
