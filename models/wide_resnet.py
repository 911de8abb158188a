"""WideResNet: shallow residual networks with many channels.

Zagoruyko & Komodakis, "Wide Residual Networks", BMVC 2016 (arXiv 1605.07146):
a stem of 16 channels, three groups of stride 1, 2, 2 with 16, 32 and 64 times
the widening factor of channels, blocks of two 3x3 convolutions with activation
before convolution, and a last BatchNorm and activation before pooling. A
network of depth 6n + 4 has n blocks in each group.

The first block of each group has a convolution on its shortcut, also where no
shape changes (a widening factor of 1), as the recorded steps of the published
program have it.

Convolutions begin He-normal, N(0, 2 / fan_in), as in the recorded steps, and
the dense layer as PyTorch's default.
"""

import functools

import keras

from models import blocks

STEM_FILTERS = 16


def build(
    x,
    num_classes,
    batch_normalization,
    depth,
    widening,
    activation,
    stem,
    dropout,
):
    """Adds a WideResNet to normalized images; arguments as of `models.get`.

    Returns:
        The logits.
    """
    layers = blocks.Layers(activation, batch_normalization, blocks.he_normal)
    counts = [(depth - 4) // 6] * 3
    block = functools.partial(_block, layers, dropout)

    x = layers.stem(x, STEM_FILTERS, stem)
    x = blocks.groups(x, counts, STEM_FILTERS * widening, block)
    x = layers.normalize_and_activate(x, "head.bn")
    return blocks.head(x, num_classes)


def _block(layers, dropout, x, filters, stride, name):
    shortcut = x
    x = layers.normalize_and_activate(x, f"{name}.bn1")
    if name.endswith(".block1"):
        # It reads the activated input.
        shortcut = layers.convolution(
            x, filters, 1, stride, f"{name}.shortcut_conv"
        )
    x = layers.convolution(x, filters, 3, stride, f"{name}.conv1")
    x = layers.normalize_and_activate(x, f"{name}.bn2")
    if dropout:
        x = keras.layers.Dropout(dropout, name=f"{name}.dropout")(x)
    x = layers.convolution(x, filters, 3, 1, f"{name}.conv2")
    return keras.layers.Add(name=f"{name}.add")([x, shortcut])
