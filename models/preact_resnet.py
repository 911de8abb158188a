"""PreActResNet: residual networks with activation before convolution.

He, Zhang, Ren & Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016
(arXiv 1603.05027), in the form that adversarial training on CIFAR uses: a 3x3
stem, four groups of stride 1, 2, 2, 2, no bias in convolutions, and a last
BatchNorm and activation before pooling.

Layers are named `stem.conv`, `group1.block1.bn1`, ..., `head.dense`.
"""

import keras
import numpy as np

from models import check_activation

# Depth: (blocks per group, whether they are bottlenecks).
DEPTHS = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
}
EXPANSION = 4  # Output channels of a bottleneck over its inner ones.


def softplus10(x):
    """Softplus with beta = 10, a smooth ReLU: `softplus(10 x) / 10`.

    Linear from `10 x = 20` on, as PyTorch's: in float64, with the lower-level
    step size of Fast-BAT, the 2e-10 that this leaves out can be seen.
    """
    return keras.ops.where(x > 2.0, x, keras.ops.softplus(10.0 * x) / 10.0)


ACTIVATIONS = {
    "relu": keras.ops.relu,
    "softplus": softplus10,
    "swish": keras.ops.silu,
}


def preact_resnet(
    depth,
    width=64,
    num_classes=10,
    activation="relu",
    mean=None,
    std=None,
    input_shape=(32, 32, 3),
    batch_normalization=keras.layers.BatchNormalization,
):
    """Builds a PreActResNet classifier.

    Args:
        depth: 18, 34 or 50.
        width: Integer, channels of the first group; the published networks
            have 64. The groups have 1, 2, 4 and 8 times as many.
        num_classes: Integer, the number of logits.
        activation: `"relu"`, `"softplus"` (beta = 10) or `"swish"`.
        mean: Sequence of floats per channel, subtracted from the pixels by
            the first layer, or None for no normalization.
        std: Sequence of floats per channel, or None.
        input_shape: `(height, width, channels)`.
        batch_normalization: The layer class, called with `momentum`, `epsilon`
            and `name`. Keras' own has wrong second derivatives on TensorFlow:
            give `fastbat_tf.layers.BatchNormalization` for training.

    Returns:
        A functional `keras.Model` from images in [0, 1], of shape `(batch,
        height, width, channels)`, to logits `(batch, num_classes)`.

    Example:

    >>> preact_resnet(18).count_params() - 9600  # Moving statistics aside.
    11172170
    """
    _check(depth, width, num_classes, activation, mean, std)

    def normalize(x, name):
        return batch_normalization(momentum=0.9, epsilon=1e-5, name=name)(x)

    def activate(x, name):
        x = normalize(x, name)
        return keras.layers.Activation(
            ACTIVATIONS[activation], name=f"{name}.{activation}"
        )(x)

    inputs = keras.Input(input_shape, name="images")
    x = inputs
    if mean is not None:
        # As arrays: Keras rounds lists of floats to float32.
        x = keras.layers.Normalization(
            mean=np.array(mean),
            variance=np.array(std) ** 2,
            name="normalization",
        )(x)
    x = _convolution(x, width, 3, 1, "stem.conv")
    blocks, bottleneck = DEPTHS[depth]
    block = _bottleneck_block if bottleneck else _basic_block
    for group, count in enumerate(blocks):
        for index in range(count):
            stride = 2 if group > 0 and index == 0 else 1
            name = f"group{group + 1}.block{index + 1}"
            x = block(x, width * 2**group, stride, name, activate)
    x = activate(x, "head.bn")
    x = keras.layers.GlobalAveragePooling2D(name="head.pool")(x)
    outputs = _dense(x, num_classes, "head.dense")
    return keras.Model(inputs, outputs, name=f"preact_resnet{depth}")


def _check(depth, width, num_classes, activation, mean, std):
    if depth not in DEPTHS:
        raise ValueError(
            f"`depth` is expected to be one of {list(DEPTHS)}. "
            f"Received: depth={depth}"
        )
    if width < 1 or num_classes < 2:
        raise ValueError(
            "Expected `width` of at least 1 and `num_classes` of at least 2. "
            f"Received: width={width}, num_classes={num_classes}"
        )
    check_activation(activation)
    if (mean is None) != (std is None):
        raise ValueError(
            "`mean` and `std` are expected together or not at all. "
            f"Received: mean={mean}, std={std}"
        )


def _basic_block(x, filters, stride, name, activate):
    # The shortcut convolution reads the input of the block, before `bn1`.
    shortcut = x
    if stride != 1 or x.shape[-1] != filters:
        shortcut = _convolution(x, filters, 1, stride, f"{name}.shortcut_conv")
    x = activate(x, f"{name}.bn1")
    x = _convolution(x, filters, 3, stride, f"{name}.conv1")
    x = activate(x, f"{name}.bn2")
    x = _convolution(x, filters, 3, 1, f"{name}.conv2")
    return keras.layers.Add(name=f"{name}.add")([x, shortcut])


def _bottleneck_block(x, filters, stride, name, activate):
    outputs = EXPANSION * filters
    shortcut = x
    x = activate(x, f"{name}.bn1")
    if stride != 1 or shortcut.shape[-1] != outputs:
        # Here it reads the activated input.
        shortcut = _convolution(x, outputs, 1, stride, f"{name}.shortcut_conv")
    x = _convolution(x, filters, 1, 1, f"{name}.conv1")
    x = activate(x, f"{name}.bn2")
    x = _convolution(x, filters, 3, stride, f"{name}.conv2")
    x = activate(x, f"{name}.bn3")
    x = _convolution(x, outputs, 1, 1, f"{name}.conv3")
    return keras.layers.Add(name=f"{name}.add")([x, shortcut])


def _convolution(x, filters, size, stride, name):
    padding = "same"
    if size > 1 and stride > 1:
        # "same" would pad an even image on one side only; PyTorch pads both.
        x = keras.layers.ZeroPadding2D(size // 2, name=f"{name}.pad")(x)
        padding = "valid"
    return keras.layers.Conv2D(
        filters,
        size,
        stride,
        padding,
        use_bias=False,
        kernel_initializer=_uniform_fan_in(),
        name=name,
    )(x)


def _dense(x, units, name):
    limit = x.shape[-1] ** -0.5
    return keras.layers.Dense(
        units,
        kernel_initializer=_uniform_fan_in(),
        bias_initializer=keras.initializers.RandomUniform(-limit, limit),
        name=name,
    )(x)


def _uniform_fan_in():
    # U(-1/sqrt(fan_in), 1/sqrt(fan_in)): the default of PyTorch, with which
    # the published numbers were made.
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
