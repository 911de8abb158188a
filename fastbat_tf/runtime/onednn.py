"""oneDNN, TensorFlow's convolutions on CPUs: if it is on, and its one trap.

oneDNN's gradient to the kernel of a 1x1 convolution with strides writes past
its scratch memory where the images have fewer channels than a vector register
has floats: 16 with AVX-512, 8 with AVX2. The process crashes, or goes on with
wrong numbers (docs/onednn.md, with a reproducer). A 1x1 convolution with
strides is one without on every n-th pixel, and is computed as that there.
"""

import functools
import os

import keras
import tensorflow as tf
from keras import ops
from tensorflow.python.util import _pywrap_util_port

from fastbat_tf.errors import InputError
from fastbat_tf.runtime import environment

FLOATS_OF_A_REGISTER = 16
CONVOLUTIONS = keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D
BASE = keras.layers.Conv2D  # It has `call` and `convolution_op` of their base.
TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)


def is_on():
    """Whether TensorFlow uses oneDNN for what runs on the CPU."""
    return _pywrap_util_port.IsMklEnabled()


def explain_off():
    """One line, if it is off on a CPU that has it, and nobody said so."""
    if is_on() or not environment.is_x86() or environment.ONEDNN in os.environ:
        return None
    return (
        "TensorFlow leaves its faster convolutions, oneDNN, off on this CPU: "
        f"set {environment.ONEDNN}=1 before TensorFlow is imported. "
        "A step then took 0.57 of the time on an AMD Zen 1."
    )


def guard(layers):
    """Keeps strided 1x1 convolutions of few channels from the faulty kernel.

    The layers stay what they are, with their weights and configurations, and
    compute the same numbers up to rounding. A layer with a convolution of its
    own may do anything there, with a standardized kernel for instance.

    Args:
        layers: Keras layers; others than built convolutions are left alone.

    Raises:
        InputError: If there is no GPU, and such a layer has a convolution of
            its own, or is a transposed one with so few filters, which are the
            channels there.
    """
    if not is_on():
        return
    for layer in layers:
        if _is_endangered(layer, CONVOLUTIONS):
            if _is_of_keras(layer):
                layer.convolution_op = functools.partial(_subsample, layer)
                # That of Conv1D asks no `convolution_op`.
                layer.call = functools.partial(BASE.call, layer)
            elif not _has_gpu():
                raise InputError(
                    "oneDNN, which computes convolutions here, writes to wrong "
                    "memory in 1x1 convolutions with strides and few channels; "
                    "expected a layer of Keras, whose `convolution_op` and "
                    "`call` can be exchanged for safe ones, "
                    f"{FLOATS_OF_A_REGISTER} channels, or "
                    f"{environment.ONEDNN}=0. "
                    f"Received: {layer.name}={type(layer).__name__}"
                )
        elif _is_endangered(layer, TRANSPOSED) and not _has_gpu():
            raise InputError(
                "oneDNN, which computes convolutions here, writes to wrong "
                "memory in transposed 1x1 convolutions with strides and few "
                f"filters; expected {FLOATS_OF_A_REGISTER} filters, or "
                f"{environment.ONEDNN}=0. "
                f"Received: {layer.name}={type(layer).__name__}"
            )


def _has_gpu():
    return bool(tf.config.list_physical_devices("GPU"))


def _is_endangered(layer, kinds):
    return (
        isinstance(layer, kinds)
        and layer.built
        and max(layer.kernel_size) == 1
        and max(layer.strides) > 1
        # Channels of the images, or filters of a transposed convolution. Not
        # more of them: TensorFlow's gradient of a strided slice is slow, and
        # doubles the time of the operation with 64 channels.
        and layer.kernel.shape[-2] < FLOATS_OF_A_REGISTER
    )


def _is_of_keras(layer):
    """Whether it computes what Keras' convolutions do."""
    calls = [kind.call for kind in CONVOLUTIONS]
    own = vars(layer).get("convolution_op")
    return (
        type(layer).convolution_op is BASE.convolution_op
        and type(layer).call in calls
        # One of its own, if not that of an earlier guard.
        and (own is None or getattr(own, "func", None) is _subsample)
    )


def _subsample(layer, inputs, kernel):
    """The convolution of `layer`, of the pixels that its strides meet."""
    pixels = [slice(None, None, stride) for stride in layer.strides]
    if layer.data_format == "channels_last":
        where = (slice(None), *pixels)
    else:
        where = (slice(None), slice(None), *pixels)
    return ops.conv(
        inputs[where],
        kernel,
        strides=1,
        padding="valid",
        data_format=layer.data_format,
    )
