"""Small networks of all kinds, for images `(4, 4, 3)` and four classes."""

import keras
from keras import layers

from tests.support import keras_networks

SHAPE = (4, 4, 3)


def functional(body, activation=None, units=4):
    """Returns a function that makes a functional network."""

    def make():
        inputs = keras.Input(SHAPE, name="image")
        x = layers.Flatten()(body(inputs))
        head = layers.Dense(units, activation=activation, name="head")
        return keras.Model(inputs, head(x))

    return make


def _convolution(x):
    return layers.Conv2D(2, 3, activation="tanh")(x)


def _normalized(normalization):
    def body(x):
        return layers.Activation("swish")(normalization()(_convolution(x)))

    return body


def _frozen_normalization(x):
    x = layers.Conv2D(2, 3, use_bias=False)(x)
    return layers.BatchNormalization(trainable=False)(x)


def _spectral(x):
    return layers.SpectralNormalization(
        layers.Conv2D(2, 3), power_iterations=2
    )(x)


def _constrained(x):
    return layers.Conv2D(2, 3, kernel_constraint="non_neg")(x)


def _shared(x):
    convolution = layers.Conv2D(3, 3, padding="same", activation="tanh")
    return convolution(convolution(x))


def _nested(x):
    inner = keras.Sequential(
        [layers.Conv2D(2, 3), layers.BatchNormalization(), layers.ReLU()]
    )
    outer = keras.Sequential([inner, layers.GlobalAveragePooling2D()])
    return outer(x)


class Block(layers.Layer):
    """A layer of layers, which adds a loss."""

    def build(self, shape):
        self.convolution = layers.Conv2D(2, 3, kernel_regularizer="l2")
        self.normalization = layers.BatchNormalization(momentum=0.8)

    def call(self, x, training=None):
        x = self.convolution(x)
        self.add_loss(1e-2 * keras.ops.mean(x**2))
        return keras.ops.tanh(self.normalization(x, training=training))


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    """A subclassed model with a nested one, and a softmax or none."""

    def __init__(self, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.activation = activation
        self.block = Block()
        self.inner = keras.Sequential([layers.Flatten(), layers.Dense(5)])
        self.dropout = layers.Dropout(0.4, seed=2)
        self.head = layers.Dense(4)

    def call(self, x, training=None):
        x = self.inner(self.block(x, training=training))
        logits = self.head(self.dropout(x, training=training))
        return keras.ops.softmax(logits) if self.activation else logits

    def get_config(self):
        return {**super().get_config(), "activation": self.activation}


def subclassed(activation=None):
    def make():
        network = Subclassed(activation)
        network(keras.ops.zeros((1, *SHAPE)))
        return network

    return make


def channels_first():
    """Takes `(3, 4, 4)`, for images that are moved to the last axis."""
    inputs = keras.Input(SHAPE)
    x = layers.Permute((3, 1, 2))(inputs)
    x = layers.BatchNormalization(axis=1)(x)
    return keras.Model(inputs, layers.Dense(4)(layers.Flatten()(x)))


def sequential():
    return keras.Sequential(
        [keras.Input(SHAPE), layers.Flatten(), layers.Dense(4)]
    )


def separate_activation():
    """The softmax is a layer of its own."""
    inputs = keras.Input(SHAPE)
    x = layers.Dense(4)(layers.Flatten()(inputs))
    return keras.Model(inputs, layers.Softmax()(x))


def float32_head(policy):
    """A network of a policy, with a softmax in float32 behind it."""

    def make():
        inputs = keras.Input(SHAPE)
        x = layers.Conv2D(2, 3, activation="tanh", dtype=policy)(inputs)
        x = layers.Dense(4, dtype=policy)(layers.Flatten(dtype=policy)(x))
        head = layers.Activation("softmax", dtype="float32")
        return keras.Model(inputs, head(x))

    return make


LOGITS = {
    "dense": functional(lambda x: x),
    "sequential": sequential,
    "convolution": functional(_convolution),
    "batch_normalization": functional(_normalized(layers.BatchNormalization)),
    "layer_normalization": functional(_normalized(layers.LayerNormalization)),
    "group_normalization": functional(
        _normalized(lambda: layers.GroupNormalization(groups=2))
    ),
    "unit_normalization": functional(_normalized(layers.UnitNormalization)),
    "frozen_normalization": functional(_frozen_normalization),
    "spectral_normalization": functional(_spectral),
    "regularizers": functional(keras_networks.regularized),
    "constraint": functional(_constrained),
    "unused_weight": functional(keras_networks.half_used),
    "sparse_gradient": functional(keras_networks.embedded),
    "shared_layer": functional(_shared),
    "nested": functional(_nested),
    "subclassed": subclassed(),
    "channels_first": channels_first,
}
PROBABILITIES = {
    "softmax": functional(_convolution, "softmax"),
    "softmax_layer": separate_activation,
    "softmax_nested": functional(_nested, "softmax"),
    "softmax_subclassed": subclassed("softmax"),
}
BINARY = {
    "logit": functional(_convolution, units=1),
    "sigmoid": functional(_convolution, "sigmoid", units=1),
}
SOFTMAX = PROBABILITIES["softmax"]
CONVOLUTION = LOGITS["convolution"]
