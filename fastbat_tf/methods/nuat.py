"""NuAT: penalizes the nuclear norm of the change of the logits."""

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.spec import Paper, Passes


class NuAT(Method):
    """Nuclear-norm adversarial training with a single step.

    ```
    delta_0 = clip(x + B(epsilon / 2), 0, 1) - x,    B: + or - for each pixel
    a       = mean CE(x + delta_0) + m w |z(x) - z(x + delta_0)|_* / B
    delta*  = P_C(delta_0 + step_size * sign(d a / d delta_0))
    loss    = mean CE(x) + w |z(x) - z(x + delta*)|_* / B
    ```

    where `|.|_*` is the sum of the singular values of the logits `(batch,
    classes)`, B is the batch size, and m = 0, 1, 0, ... alternates over the
    batches of an epoch. w rises with the epoch: `w = coefficient epoch /
    epochs`, which is zero in the first. Each replica computes the norm of its
    own images.

    Reference: Sriramanan, Addepalli, Baburaj & Babu, "Towards Efficient and
    Effective Adversarial Training", NeurIPS 2021.

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
            Defaults to `8 / 255`.
        step_size: Float, in pixels. Defaults to `epsilon`.
        coefficient: Float, w at the end of the training. Defaults to 4.5.
        attack_mode: The mode of BatchNormalization and Dropout in the attack:
            `"inference"`, as published, or `"training"`, as in the FastAT
            Benchmark. Defaults to `"inference"`.

    Example:

    >>> fb.NuAT(epsilon=8 / 255).coefficient
    4.5
    """

    name = "nuat"
    summary = "penalizes the nuclear norm of the change of the logits"
    paper = Paper("Sriramanan et al.", "NeurIPS 2021")
    passes = Passes(4, 3, 2)
    needs_plan = True
    batch_wide = True

    epsilon: float = options.EPSILON
    step_size: float | None = options.step_size()
    coefficient: float = options.coefficient(
        4.5, "Weight of the nuclear norm at the end of the training."
    )
    attack_mode: options.Mode = options.attack_mode(options.INFERENCE)

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
            perturbation.step(
                start, gradient, self.step_size, context.images, self.epsilon
            )
        )

    def objective(self, context, solution):
        logits = context.logits(context.images + solution.perturbation)
        clean = context.logits(context.images)
        loss = context.reduce(context.losses(clean))
        return loss + self._weight(context) * _distance(clean, logits), logits

    def _weight(self, context):
        epoch = tf.cast(context.progress.epoch, context.images.dtype)
        return self.coefficient * epoch / context.progress.epochs


def _distance(first, second):
    batch = tf.cast(tf.shape(first)[0], first.dtype)
    return nuclear_norm(first - second) / batch


@tf.custom_gradient
def nuclear_norm(matrix):
    """Computes the sum of the singular values of a matrix.

    Its gradient is U V^T. The gradient of TensorFlow's SVD divides by
    differences of singular values, which may be zero.

    Args:
        matrix: Tensor `(rows, columns)`.
    """
    values, left, right = tf.linalg.svd(matrix)

    def gradient(upstream):
        return upstream * tf.matmul(left, right, transpose_b=True)

    return tf.reduce_sum(values), gradient
