"""ZeroGrad: Fast-AT that leaves pixels with small gradients unchanged."""

import tensorflow as tf

from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.options import option
from fastbat_tf.methods.pgd import climb
from fastbat_tf.methods.spec import Paper, Passes


class ZeroGrad(Method):
    """Fast-AT with the smallest entries of each gradient set to zero.

    ```
    delta_0     = clip(x + U(-epsilon, epsilon), 0, 1) - x
    g'          = g where |g| is at least the q-quantile of its image, else 0
    delta_{k+1} = P_C(delta_k + step_size * sign(g'(delta_k)))
    ```

    where q = `quantile`. The quantile is taken over all pixels and channels of
    an image, and interpolated linearly. A pixel whose gradient is set to zero
    keeps its noise. The attack maximizes the attack loss. In the paper it is
    plain cross-entropy: with label smoothing, pass
    `attack_loss="crossentropy"`.

    Reference: Golgooni, Saberi, Eskandar & Rohban, "ZeroGrad: Costless
    conscious remedies for catastrophic overfitting in the FGSM adversarial
    training", Intelligent Systems with Applications 2023 (arXiv 2103.15476).

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
            Defaults to `8 / 255`.
        steps: Integer of at least 1, the steps of the attack. Defaults to 1.
        step_size: Float, in pixels. Defaults to `2 * epsilon`.
        quantile: Float in [0, 1], q; as published, 0.35 for CIFAR-10 and 0.45
            for CIFAR-100. Defaults to 0.35.

    Example:

    >>> fb.ZeroGrad(epsilon=8 / 255).step_size * 255
    16.0
    """

    name = "zerograd"
    summary = "Fast-AT that leaves pixels with small gradients unchanged"
    paper = Paper(
        "Golgooni et al.", "ISWA 2023", "https://arxiv.org/abs/2103.15476"
    )
    passes = Passes(2, 2, 1)

    epsilon: float = options.EPSILON
    steps: int = options.steps(1)
    step_size: float | None = options.step_size("2 * epsilon")
    quantile: float = option(
        0.35,
        "Share of the gradient's entries that are set to zero.",
        interval="[0, 1]",
    )

    def solve(self, context):
        def gradient(delta):
            return zero_small_entries(
                context.input_gradient(delta), self.quantile
            )

        delta = climb(
            context,
            context.random_start(self.epsilon),
            gradient,
            steps=self.steps,
            step_size=self.step_size,
            epsilon=self.epsilon,
        )
        return Solution(delta)


def zero_small_entries(gradient, quantile):
    """Sets the entries to zero that are below the quantile of their image.

    Args:
        gradient: Tensor `(batch, height, width, channels)`.
        quantile: Float in [0, 1].

    Returns:
        A tensor like `gradient`.
    """
    sizes = tf.abs(gradient)
    count = tf.reduce_prod(tf.shape(sizes)[1:])  # Perhaps of any size.
    ordered = tf.sort(tf.reshape(sizes, [-1, count]), axis=-1)
    position = quantile * tf.cast(count - 1, tf.float64)
    low = tf.cast(position, tf.int32)
    high = tf.minimum(low + 1, count - 1)
    share = tf.cast(position - tf.floor(position), sizes.dtype)
    threshold = ordered[:, low] + share * (ordered[:, high] - ordered[:, low])
    keep = sizes >= tf.reshape(threshold, [-1, 1, 1, 1])
    return tf.where(keep, gradient, tf.zeros_like(gradient))
