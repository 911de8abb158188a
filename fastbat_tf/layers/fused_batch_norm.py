"""Batch normalization with TensorFlow's kernels, differentiable twice.

With x^ = (x - mean) r, r = 1 / sqrt(variance + epsilon), n values in a channel,
and the projection

```
P(v) = v - mean(v) - x^ mean(v x^)
```

which is self-adjoint, the gradient of the normalization is

```
G(v) = gamma r P(v),    the gradient to x for the gradient v to the outputs.
```

TensorFlow has a kernel for it, but composes its derivative from some thirty
element-wise operations. The derivative can be written with the same kernel: for
a gradient `u` with respect to G(v),

```
d <u, G(v)> / d v     = G(u)
d <u, G(v)> / d gamma = n r m,    m = mean(u P(v))
d <u, G(v)> / d x     = -r (mean(v x^) G(u) + mean(u x^) G(v) + gamma r m x^)
```
"""

import tensorflow as tf


def fused_batch_norm(x, gamma, beta, epsilon):
    """Normalizes with the statistics of the batch; can be differentiated twice.

    Args:
        x: float32 tensor `(batch, height, width, channels)`.
        gamma: float32 tensor `(channels,)`.
        beta: float32 tensor `(channels,)`.
        epsilon: Float, added to the variance.

    Returns:
        The normalized tensor, and the mean and the unbiased variance, of shape
        `(channels,)`, through which no gradient flows.
    """

    @tf.custom_gradient
    def normalize(x, gamma, beta):
        y, mean, variance, *reserved = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=gamma,
            offset=beta,
            # Ignored in training.
            mean=tf.zeros([0]),
            variance=tf.zeros([0]),
            epsilon=epsilon,
            is_training=True,
        )

        def gradient(dy, *_):
            return _gradient(dy, x, gamma, (mean, variance, reserved), epsilon)

        return (y, mean, variance), gradient

    # Tensors, since `custom_gradient` handles variables differently.
    inputs = map(tf.convert_to_tensor, (x, gamma, beta))
    y, mean, variance = normalize(*inputs)
    return y, tf.stop_gradient(mean), tf.stop_gradient(variance)


def _gradient(dy, x, gamma, saved, epsilon):
    """Gradients to x, gamma and beta; the one to x can be differentiated."""
    mean, unbiased_variance, reserved = saved

    def kernel(dy):
        return tf.raw_ops.FusedBatchNormGradV3(
            y_backprop=dy,
            x=x,
            scale=gamma,
            reserve_space_1=reserved[0],
            reserve_space_2=reserved[1],
            reserve_space_3=reserved[2],
            epsilon=epsilon,
            is_training=True,
        )[:3]

    @tf.custom_gradient
    def first(dy, x, gamma):
        dx, dgamma, dbeta = kernel(dy)

        def second(u, *_):
            count = tf.cast(tf.size(x) // tf.size(mean), x.dtype)
            variance = unbiased_variance * (count - 1.0) / count
            r = tf.math.rsqrt(variance + epsilon)
            ddy, u_xhat, u_sum = kernel(u)
            # mean(u P(v)), from sums that the kernels have computed.
            m = tf.reduce_sum(u * dy, [0, 1, 2]) / count
            m -= (u_sum * dbeta + u_xhat * dgamma) / count**2
            x_factor = gamma * r**3 * (u_xhat * dgamma / count**2 - m)
            dy_factor = gamma * r**2 * u_xhat / count
            ddy_factor = r * dgamma / count
            # G(v) in terms of v and x, to keep fewer tensors in memory.
            constant = dy_factor * dbeta / count
            to_x = (x - mean) * x_factor + constant
            to_x -= dy * dy_factor + ddy * ddy_factor
            return ddy, to_x, count * r * m

        return (dx, dgamma, dbeta), second

    dx, *others = first(dy, x, gamma)
    # No method differentiates these; one that does gets an error.
    message = "Second derivatives to gamma and beta are not implemented."
    return dx, *(
        tf.raw_ops.PreventGradient(input=o, message=message) for o in others
    )
