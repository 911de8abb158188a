"""oneDNN, which computes convolutions on CPUs: its state, and a bug.

oneDNN's kernel gradient of a strided 1x1 convolution writes past its scratch
memory if the images have fewer channels than a vector register has floats: 16
with AVX-512, 8 with AVX2. The process crashes, or continues with wrong numbers
(docs/onednn.md has a reproducer). A strided 1x1 convolution equals an unstrided
one of every n-th pixel, and this module computes it in that way.
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
BASE = keras.layers.Conv2D  # Inherits `call` and `convolution_op` unchanged.
TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)


def is_on():
    """Whether TensorFlow uses oneDNN on the CPU."""
    return _pywrap_util_port.IsMklEnabled()


def explain_off():
    """Returns a line if oneDNN is off, but not by choice; otherwise None."""
    if is_on() or not environment.is_x86() or environment.ONEDNN in os.environ:
        return None
    return (
        "TensorFlow leaves its faster convolutions, oneDNN, off on this CPU: "
        f"set {environment.ONEDNN}=1 before TensorFlow is imported. "
        "On an AMD Zen 1, a step then took 0.57 of the time."
    )


def guard(layers):
    """Keeps strided 1x1 convolutions of few channels off the faulty kernel.

    The layers keep their weights and configurations, and compute the same
    numbers up to rounding. A layer that overrides Keras' convolution cannot be
    guarded, because it may compute anything, for instance with a standardized
    kernel.

    Args:
        layers: Keras layers. Only built convolutions are changed.

    Raises:
        InputError: If there is no GPU, and such a layer overrides Keras'
            convolution, or is a transposed convolution with so few filters.
    """
    if not is_on():
        return
    for layer in layers:
        if _is_endangered(layer, CONVOLUTIONS):
            if _is_of_keras(layer):
                layer.convolution_op = functools.partial(_subsample, layer)
                # Conv1D's own does not call `convolution_op`.
                layer.call = functools.partial(BASE.call, layer)
            elif not _has_gpu():
                raise InputError(
                    "oneDNN, which computes convolutions here, writes to the "
                    "wrong memory in strided 1x1 convolutions of few channels; "
                    "expected a Keras layer, whose `convolution_op` and `call` "
                    "can be replaced by safe ones, "
                    f"{FLOATS_OF_A_REGISTER} channels, or "
                    f"{environment.ONEDNN}=0. "
                    f"Received: {layer.name}={type(layer).__name__}"
                )
        elif _is_endangered(layer, TRANSPOSED) and not _has_gpu():
            raise InputError(
                "oneDNN, which computes convolutions here, writes to the wrong "
                "memory in strided transposed 1x1 convolutions of few filters; "
                f"expected {FLOATS_OF_A_REGISTER} filters, or "
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
        # Channels of the images, or filters of a transposed convolution.
        # Layers with more are left alone: TensorFlow's gradient of a strided
        # slice is slow, and doubles the time with 64 channels.
        and layer.kernel.shape[-2] < FLOATS_OF_A_REGISTER
    )


def _is_of_keras(layer):
    """Returns whether a layer computes the same as Keras' convolutions."""
    calls = [kind.call for kind in CONVOLUTIONS]
    own = vars(layer).get("convolution_op")
    return (
        type(layer).convolution_op is BASE.convolution_op
        and type(layer).call in calls
        # Set on the instance by an earlier guard, if at all.
        and (own is None or getattr(own, "func", None) is _subsample)
    )


def _subsample(layer, inputs, kernel):
    """Computes the convolution of `layer` at the pixels its strides visit."""
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
