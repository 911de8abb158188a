"""ZeroGrad: Fast-AT that leaves the pixels of small gradients alone."""

import tensorflow as tf

from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.pgd import climb


class ZeroGrad(Method):
    """Fast-AT with the smallest entries of each gradient set to zero.

    ```
    delta_0     = clip(x + U(-epsilon, epsilon), 0, 1) - x
    g'          = g where |g| is at least the q-quantile of its image, else 0
    delta_{k+1} = P_C(delta_k + step_size * sign(g'(delta_k)))
    ```

    with q = `quantile`, over all pixels and channels of an image, linear
    between its order statistics. A pixel whose gradient is set to zero keeps
    its noise. The attack raises the attack loss, plain cross-entropy in the
    paper; with label smoothing set `attack_loss=crossentropy` to keep it.

    Reference: Golgooni, Saberi, Eskandar & Rohban, "ZeroGrad: Costless
    conscious remedies for catastrophic overfitting in the FGSM adversarial
    training", Intelligent Systems with Applications 2023 (arXiv 2103.15476).

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
        steps: Integer of at least 1.
        step_size: Float, in pixels. Default: `2 * epsilon`.
        quantile: Float in [0, 1], q: 0.35 for CIFAR-10, 0.45 for CIFAR-100.

    Example:

    >>> ZeroGrad(epsilon=8 / 255).step_size * 255
    16.0
    """

    name = "zerograd"

    def __init__(
        self,
        epsilon=options.EPSILON,
        steps=1,
        step_size=None,
        quantile=options.QUANTILE,
    ):
        self.set_options(
            epsilon=epsilon,
            steps=steps,
            step_size=step_size,
            quantile=quantile,
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
            self.steps,
            self.step_size,
            self.epsilon,
        )
        return Solution(delta)


def zero_small_entries(gradient, quantile):
    """Zeros for the entries below the quantile of their image's sizes.

    Args:
        gradient: `(batch, height, width, channels)`.
        quantile: Float in [0, 1].
    """
    sizes = tf.abs(gradient)
    count = sizes.shape[1:].num_elements()
    ordered = tf.sort(tf.reshape(sizes, [-1, count]), axis=-1)
    place = quantile * (count - 1)
    low = min(int(place), count - 1)
    high = min(low + 1, count - 1)
    share = tf.cast(place - low, sizes.dtype)
    threshold = ordered[:, low] + share * (ordered[:, high] - ordered[:, low])
    keep = sizes >= tf.reshape(threshold, [-1, 1, 1, 1])
    return tf.where(keep, gradient, tf.zeros_like(gradient))
