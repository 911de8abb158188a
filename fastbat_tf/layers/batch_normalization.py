"""Batch normalization with correct second derivatives."""

import keras
import tensorflow as tf
from keras import ops
from tensorflow.python.ops import control_flow_util

from fastbat_tf.layers.fused_batch_norm import fused_batch_norm


@keras.saving.register_keras_serializable("fastbat_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization that can be differentiated twice.

    ```
    y = gamma * (x - mean) / sqrt(mean((x - mean)^2) + epsilon) + beta
    ```

    The arguments, weights and names are those of Keras' layer, with two
    differences: all second derivatives are correct, and `moving_variance`
    accumulates the unbiased variance of the batch, with n - 1 in the
    denominator, as in PyTorch and the published programs.

    Args:
        momentum: Float, the weight of the old value in the moving statistics.
            Defaults to 0.9.
        epsilon: Float, added to the variance. Defaults to 1e-5.
        **kwargs: Arguments of `keras.layers.BatchNormalization`, except
            `renorm` and `synchronized`.

    Call arguments:
        inputs: Float tensor of any rank, `(batch, ..., channels)` for the
            default `axis=-1`.
        training: Whether to use and accumulate the statistics of the batch
            rather than use the moving statistics. Defaults to None, which
            means False.

    Raises:
        ValueError: If `renorm`, `synchronized` or a mask is given.
    """

    def __init__(self, momentum=0.9, epsilon=1e-5, **kwargs):
        for name in ("renorm", "synchronized"):
            if kwargs.get(name):
                raise ValueError(
                    f"`{name}` is not supported, expected False. "
                    f"Received: {name}={kwargs[name]}"
                )
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def call(self, inputs, training=None, mask=None):
        if mask is not None:
            raise ValueError(
                f"Masks are not supported, expected None. Received: mask={mask}"
            )
        if not (training and self.trainable):
            return super().call(inputs, training=False)
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        outputs, mean, unbiased_variance = self._normalize(x)
        self._accumulate(self.moving_mean, mean)
        self._accumulate(self.moving_variance, unbiased_variance)
        return ops.cast(outputs, self.compute_dtype)

    def share_weights(self, other):
        """Shares the weights of a built Keras layer.

        Args:
            other: A built `keras.layers.BatchNormalization`.
        """
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            setattr(self, name, getattr(other, name))
        self._reduction_axes = other._reduction_axes
        self.input_spec = other.input_spec
        self.trainable = other.trainable
        self.built = True

    def _normalize(self, x):
        channels = x.shape[self.axis]
        gamma = self.gamma if self.scale else ops.ones(channels, x.dtype)
        beta = self.beta if self.center else ops.zeros(channels, x.dtype)
        last_axis = self.axis in (-1, len(x.shape) - 1)
        fits = x.dtype == "float32" and len(x.shape) == 4 and last_axis
        # One kernel instead of a dozen. XLA fuses the composed form itself, and
        # its expansion of the kernel is less accurate: the implicit term of a
        # recorded step is off by 15 %, instead of 0.1 %.
        if fits and not inside_xla():
            return fused_batch_norm(x, gamma, beta, self.epsilon)
        return self._normalize_composed(x, gamma, beta)

    def _normalize_composed(self, x, gamma, beta):
        axes = self._reduction_axes
        shape = [1] * len(x.shape)
        shape[self.axis] = x.shape[self.axis]
        mean = ops.mean(x, axes, keepdims=True)
        centered = x - mean
        variance = ops.mean(centered**2, axes, keepdims=True)
        scale = ops.reshape(gamma, shape) * ops.rsqrt(variance + self.epsilon)
        outputs = centered * scale + ops.reshape(beta, shape)
        count = ops.cast(ops.size(x) // x.shape[self.axis], x.dtype)
        unbiased = variance * count / ops.maximum(count - 1.0, 1.0)
        return outputs, ops.reshape(mean, [-1]), ops.reshape(unbiased, [-1])

    def _accumulate(self, moving, batch):
        old = ops.cast(moving, batch.dtype)
        moving.assign(old * self.momentum + batch * (1.0 - self.momentum))


def inside_xla():
    """Whether the current graph will be compiled by XLA."""
    graph = tf.compat.v1.get_default_graph()
    return control_flow_util.GraphOrParentsInXlaContext(graph)
