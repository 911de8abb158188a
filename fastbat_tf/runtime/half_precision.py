"""What this machine can compute in 16 bits, and at what cost."""

import functools

import tensorflow as tf

from fastbat_tf import distribution
from fastbat_tf.errors import InputError


def require_kernels(layers, compiled):
    """Rejects layers in half precision if TensorFlow cannot compute them here.

    It computes one small convolution and its gradients in that precision.

    Args:
        layers: Keras layers in half precision.
        compiled: Boolean, whether XLA compiles the step.

    Raises:
        InputError: If there is no kernel.
    """
    for layer in layers:
        dtype = layer.compute_dtype
        reason = missing_kernel(dtype, bool(compiled))
        if reason:
            raise InputError(
                f"TensorFlow cannot compute convolutions in {dtype} on this "
                f"machine ({reason}); expected float32. "
                f"Received: layer={layer.name} in {dtype}"
            )


@functools.cache
def missing_kernel(dtype, compiled):
    """Tries a convolution in half precision.

    Args:
        dtype: `"float16"` or `"bfloat16"`.
        compiled: Boolean, whether XLA compiles it.

    Returns:
        The first line of TensorFlow's error, or None if it works.
    """

    def differentiate():
        images, kernel = (
            tf.ones([2, 4, 4, 4], dtype),
            tf.ones([3, 3, 4, 4], dtype),
        )
        with tf.GradientTape() as tape:
            tape.watch((images, kernel))
            convolved = tf.nn.conv2d(images, kernel, 1, "SAME")
            outputs = tf.matmul(
                tf.reshape(convolved, [2, -1]), tf.ones([64, 1], dtype)
            )
        return tape.gradient(outputs, (images, kernel))

    run = tf.function(differentiate, jit_compile=compiled, autograph=False)
    try:
        with tf.init_scope():
            run()
    except tf.errors.OpError as error:
        return error.message.splitlines()[0]
    return None


def notes(precision, compiled):
    """Lists what a user should know about a precision on this machine.

    Args:
        precision: One of `fastbat_tf.training.options.PRECISIONS`.
        compiled: Boolean, whether XLA compiles the step.

    Returns:
        List of lines.
    """
    if precision == "float32" or distribution.has_accelerator():
        return []
    remedy = "" if compiled else ", least with --jit_compile=true"
    return [
        f"{precision} saves time on GPUs and TPUs; on most CPUs it is slower "
        f"than float32{remedy} (docs/precision.md)."
    ]
