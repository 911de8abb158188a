"""WideResNet: shallow residual networks with many channels.

Zagoruyko & Komodakis, "Wide Residual Networks", BMVC 2016 (arXiv 1605.07146):
a stem of 16 channels; three groups of strides 1, 2 and 2 with 16, 32 and 64
channels times the widening factor; blocks of two 3x3 convolutions, each after
BatchNorm and activation; and a final BatchNorm and activation before pooling. A
network of depth 6n + 4 has n blocks per group.

As in the published program, the first block of each group has a convolution on
its shortcut, even if the shape does not change (a widening factor of 1).

Convolutions are initialized He-normal, N(0, 2 / fan_in), as in the published
program, and the dense layer with PyTorch's default.
"""

import functools

import keras

from fastbat_tf.models import blocks

STEM_FILTERS = 16


def build(
    x,
    num_classes,
    *,
    batch_normalization,
    depth,
    widening,
    activation,
    stem,
    dropout,
    padding,
):
    """Adds a WideResNet to normalized images.

    Args:
        x: Keras tensor `(batch, height, width, channels)`.
        num_classes: Integer.
        batch_normalization: The layer class, or None for Keras' own.
        depth: Integer, 6n + 4.
        widening: Integer, the widening factor.
        activation: A key of `blocks.ACTIVATIONS`.
        stem: `"cifar"` or `"imagenet"`.
        dropout: Float in [0, 1), the rate of dropout in the blocks.
        padding: `"symmetric"` or `"same"`, of convolutions of stride 2.

    Returns:
        The logits, `(batch, num_classes)`.
    """
    layers = blocks.Layers(
        activation, batch_normalization, blocks.he_normal, padding
    )
    counts = [(depth - 4) // 6] * 3
    block = functools.partial(_block, layers, dropout)

    x = layers.stem(x, STEM_FILTERS, stem)
    x = blocks.groups(x, counts, STEM_FILTERS * widening, block)
    x = layers.normalize_and_activate(x, "head.bn")
    return blocks.head(x, num_classes)


def _block(layers, dropout, x, filters, *, stride, name):
    shortcut = x
    x = layers.normalize_and_activate(x, f"{name}.bn1")
    if name.endswith(".block1"):
        # The shortcut reads the activated input.
        shortcut = layers.convolution(
            x, filters, 1, stride, f"{name}.shortcut_conv"
        )
    x = layers.convolution(x, filters, 3, stride, f"{name}.conv1")
    x = layers.normalize_and_activate(x, f"{name}.bn2")
    if dropout:
        x = keras.layers.Dropout(dropout, name=f"{name}.dropout")(x)
    x = layers.convolution(x, filters, 3, 1, f"{name}.conv2")
    return keras.layers.Add(name=f"{name}.add")([x, shortcut])
