"""ResNet: residual networks with activation after addition.

He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition", CVPR 2016
(arXiv 1512.03385), in the form that adversarial training on CIFAR uses: a 3x3
stem, four groups of strides 1, 2, 2 and 2, convolutions without bias, and a 1x1
convolution with BatchNorm on shortcuts that change the shape. In a bottleneck
block, the 3x3 convolution has the stride.

As in the published program, weights are initialized with PyTorch's default,
U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
"""

import functools

import keras

from fastbat_tf.models import blocks


def build(
    x, num_classes, *, batch_normalization, depth, width, activation, stem
):
    """Adds a ResNet to normalized images.

    Args:
        x: Keras tensor `(batch, height, width, channels)`.
        num_classes: Integer.
        batch_normalization: The layer class, or None for Keras' own.
        depth: Integer, a key of `blocks.DEPTHS`.
        width: Integer, the channels of the first group of blocks.
        activation: A key of `blocks.ACTIVATIONS`.
        stem: `"cifar"` or `"imagenet"`.

    Returns:
        The logits, `(batch, num_classes)`.
    """
    layers = blocks.Layers(
        activation, batch_normalization, blocks.uniform_fan_in
    )
    counts, bottleneck = blocks.DEPTHS[depth]
    block = _bottleneck_block if bottleneck else _basic_block

    x = layers.stem(x, width, stem, activated=True)
    x = blocks.groups(x, counts, width, functools.partial(block, layers))
    return blocks.head(x, num_classes)


def _basic_block(layers, x, filters, stride, name):
    shortcut = _shortcut(layers, x, filters, stride, name)
    x = layers.convolution(x, filters, 3, stride, f"{name}.conv1")
    x = layers.normalize_and_activate(x, f"{name}.bn1")
    x = layers.convolution(x, filters, 3, 1, f"{name}.conv2")
    x = layers.normalize(x, f"{name}.bn2")
    return _add(layers, x, shortcut, name)


def _bottleneck_block(layers, x, filters, stride, name):
    outputs = blocks.EXPANSION * filters
    shortcut = _shortcut(layers, x, outputs, stride, name)
    x = layers.convolution(x, filters, 1, 1, f"{name}.conv1")
    x = layers.normalize_and_activate(x, f"{name}.bn1")
    x = layers.convolution(x, filters, 3, stride, f"{name}.conv2")
    x = layers.normalize_and_activate(x, f"{name}.bn2")
    x = layers.convolution(x, outputs, 1, 1, f"{name}.conv3")
    x = layers.normalize(x, f"{name}.bn3")
    return _add(layers, x, shortcut, name)


def _shortcut(layers, x, filters, stride, name):
    if stride == 1 and x.shape[-1] == filters:
        return x
    x = layers.convolution(x, filters, 1, stride, f"{name}.shortcut_conv")
    return layers.normalize(x, f"{name}.shortcut_bn")


def _add(layers, x, shortcut, name):
    x = keras.layers.Add(name=f"{name}.add")([x, shortcut])
    return layers.activate(x, f"{name}.add")
