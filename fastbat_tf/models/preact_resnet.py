"""PreActResNet: residual networks with activation before convolution.

He, Zhang, Ren & Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016
(arXiv 1603.05027), in the form that adversarial training on CIFAR uses: a 3x3
stem, four groups of strides 1, 2, 2 and 2, convolutions without bias, and a
final BatchNorm and activation before pooling.

Weights are initialized with PyTorch's default, with which the published numbers
were obtained: U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
"""

import functools

import keras

from fastbat_tf.models import blocks


def build(
    x,
    num_classes,
    *,
    batch_normalization,
    depth,
    width,
    activation,
    stem,
    head,
    shortcut="activated",
):
    """Adds a PreActResNet to normalized images.

    Args:
        x: Keras tensor `(batch, height, width, channels)`.
        num_classes: Integer.
        batch_normalization: The layer class, or None for Keras' own.
        depth: Integer, a key of `blocks.DEPTHS`.
        width: Integer, the channels of the first group of blocks.
        activation: A key of `blocks.ACTIVATIONS`.
        stem: `"cifar"` or `"imagenet"`.
        head: `"normalized"`, with BatchNorm and activation before pooling, or
            `"plain"`, without them.
        shortcut: `"input"` or `"activated"`: what the shortcut convolution of
            a basic block reads. That of a bottleneck reads the activated
            input. Defaults to `"activated"`.

    Returns:
        The logits, `(batch, num_classes)`.
    """
    layers = blocks.Layers(
        activation, batch_normalization, blocks.uniform_fan_in
    )
    counts, bottleneck = blocks.DEPTHS[depth]
    block = functools.partial(_bottleneck_block, layers)
    if not bottleneck:
        block = functools.partial(_basic_block, layers, shortcut)

    x = layers.stem(x, width, stem)
    x = blocks.groups(x, counts, width, block)
    if head == "normalized":
        x = layers.normalize_and_activate(x, "head.bn")
    return blocks.head(x, num_classes)


def _basic_block(layers, reads, x, filters, *, stride, name):
    shortcut = x
    name_of_shortcut = f"{name}.shortcut_conv"
    has_convolution = stride != 1 or x.shape[-1] != filters
    if has_convolution and reads == "input":
        shortcut = layers.convolution(x, filters, 1, stride, name_of_shortcut)
    x = layers.normalize_and_activate(x, f"{name}.bn1")
    if has_convolution and reads == "activated":
        shortcut = layers.convolution(x, filters, 1, stride, name_of_shortcut)
    x = layers.convolution(x, filters, 3, stride, f"{name}.conv1")
    x = layers.normalize_and_activate(x, f"{name}.bn2")
    x = layers.convolution(x, filters, 3, 1, f"{name}.conv2")
    return keras.layers.Add(name=f"{name}.add")([x, shortcut])


def _bottleneck_block(layers, x, filters, stride, name):
    outputs = blocks.EXPANSION * filters
    shortcut = x
    x = layers.normalize_and_activate(x, f"{name}.bn1")
    if stride != 1 or shortcut.shape[-1] != outputs:
        # Here the shortcut reads the activated input.
        shortcut = layers.convolution(
            x, outputs, 1, stride, f"{name}.shortcut_conv"
        )
    x = layers.convolution(x, filters, 1, 1, f"{name}.conv1")
    x = layers.normalize_and_activate(x, f"{name}.bn2")
    x = layers.convolution(x, filters, 3, stride, f"{name}.conv2")
    x = layers.normalize_and_activate(x, f"{name}.bn3")
    x = layers.convolution(x, outputs, 1, 1, f"{name}.conv3")
    return keras.layers.Add(name=f"{name}.add")([x, shortcut])
