"""Parts that the model families share: layers, stem, groups of blocks, head.

Layers are named `stem.conv`, `group1.block1.bn1`, ..., `head.dense`.
"""

import keras
import numpy as np

# By the depth of a ResNet or PreActResNet: the number of blocks in each group,
# and whether they are bottleneck blocks.
DEPTHS = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
EXPANSION = 4  # Ratio of output channels to inner channels in a bottleneck.


@keras.saving.register_keras_serializable("fastbat_tf_models")
def softplus10(x):
    """Softplus with beta = 10, a smooth ReLU: `softplus(10 x) / 10`.

    It is linear above `10 x = 20`, like PyTorch's. The difference of 2e-10 is
    visible in float64 with the lower-level step size of Fast-BAT.
    """
    return keras.ops.where(x > 2.0, x, keras.ops.softplus(10.0 * x) / 10.0)


ACTIVATIONS = {
    "relu": keras.ops.relu,
    "softplus": softplus10,
    "swish": keras.ops.silu,
}


def uniform_fan_in():
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


def he_normal():
    """N(0, 2 / fan_in), not truncated, unlike Keras' `HeNormal`."""
    return keras.initializers.VarianceScaling(
        2.0, "fan_in", "untruncated_normal"
    )


def full_precision():
    """The dtype of layers that half precision would harm.

    They normalize pixels, and add and return logits. It is that of the weights:
    float32 under `mixed_bfloat16` and `mixed_float16`.
    """
    return keras.config.dtype_policy().variable_dtype


class Layers:
    """Adds layers with the activation and initializer of a network.

    Args:
        activation: A key of `ACTIVATIONS`.
        batch_normalization: The layer class, or None for Keras' own.
        initializer: Function that returns the initializer of a convolution.
        padding: `"symmetric"`, or `"same"`, which pads images of even size
            below and to the right alone before a convolution of stride 2.
            Defaults to `"symmetric"`.
    """

    def __init__(
        self,
        activation,
        batch_normalization,
        initializer,
        padding="symmetric",
    ):
        self._activation = activation
        self._normalization = (
            batch_normalization or keras.layers.BatchNormalization
        )
        self._initializer = initializer
        self._padding = padding

    def normalize(self, x, name):
        """BatchNorm with PyTorch's momentum and epsilon."""
        return self._normalization(momentum=0.9, epsilon=1e-5, name=name)(x)

    def activate(self, x, name):
        """The activation, in a layer named `<name>.<activation>`."""
        return keras.layers.Activation(
            ACTIVATIONS[self._activation], name=f"{name}.{self._activation}"
        )(x)

    def normalize_and_activate(self, x, name):
        """BatchNorm in a layer named `name`, and the activation."""
        return self.activate(self.normalize(x, name), name)

    def convolution(self, x, filters, size, stride, name):
        """A convolution without bias, padded by half its size on each side.

        With padding `"same"`, it is TensorFlow's where the stride is 2.
        """
        padding = "same"
        if size > 1 and stride > 1 and self._padding == "symmetric":
            # "same" would pad images of even size on one side only.
            x = keras.layers.ZeroPadding2D(size // 2, name=f"{name}.pad")(x)
            padding = "valid"
        return keras.layers.Conv2D(
            filters,
            size,
            stride,
            padding,
            use_bias=False,
            kernel_initializer=self._initializer(),
            name=name,
        )(x)

    def stem(self, x, filters, kind, activated=False):
        """The first layers of a network.

        Args:
            x: Keras tensor, the normalized images.
            filters: Integer.
            kind: `"cifar"`, a 3x3 convolution of stride 1, or `"imagenet"`,
                a 7x7 convolution of stride 2 and 3x3 max pooling of stride 2.
            activated: Whether BatchNorm and activation follow the convolution.
                Defaults to False.

        Returns:
            Their output.
        """
        size, stride = (7, 2) if kind == "imagenet" else (3, 1)
        x = self.convolution(x, filters, size, stride, "stem.conv")
        if activated:
            x = self.normalize_and_activate(x, "stem.bn")
        if kind == "imagenet":
            # Padded on each side, like the convolutions, with values that are
            # never the maximum.
            edges = ((0, 0), (1, 1), (1, 1), (0, 0))
            x = keras.ops.pad(x, edges, constant_values=-np.inf)
            x = keras.layers.MaxPooling2D(3, 2, name="stem.pool")(x)
        return x


def begin(input_shape, mean, std):
    """Returns the input of the model, and the normalized images."""
    inputs = keras.Input(input_shape, name="images")
    if mean is None:
        return inputs, inputs
    # Arrays, since Keras rounds lists of floats to float32.
    normalization = keras.layers.Normalization(
        mean=np.array(mean),
        variance=np.array(std) ** 2,
        dtype=full_precision(),
        name="normalization",
    )
    return inputs, normalization(inputs)


def groups(x, counts, filters, block):
    """Adds groups of blocks with strides 1, 2, 2, ...

    Args:
        x: Keras tensor `(batch, height, width, channels)`.
        counts: Sequence of integers, the number of blocks in each group.
        filters: Integer, the filters of the first group. Each further group
            has twice as many.
        block: Function `block(x, filters, stride=stride, name=name)` that adds
            a block, and returns its output.

    Returns:
        The output of the last block.
    """
    for group, count in enumerate(counts):
        for index in range(count):
            stride = 2 if group > 0 and index == 0 else 1
            name = f"group{group + 1}.block{index + 1}"
            x = block(x, filters * 2**group, stride=stride, name=name)
    return x


def head(x, num_classes):
    """Adds global average pooling and the dense layer of the logits."""
    x = keras.layers.GlobalAveragePooling2D(
        dtype=full_precision(), name="head.pool"
    )(x)
    limit = x.shape[-1] ** -0.5
    return keras.layers.Dense(
        num_classes,
        kernel_initializer=uniform_fan_in(),
        bias_initializer=keras.initializers.RandomUniform(-limit, limit),
        dtype=full_precision(),
        name="head.dense",
    )(x)


def end(inputs, outputs, name):
    """Returns the model, with the part of the name that follows a colon."""
    # TensorFlow's scopes allow no colon.
    return keras.Model(inputs, outputs, name=name.rpartition(":")[-1])
