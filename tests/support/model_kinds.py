"""Tiny classifiers of every kind that Keras has, for images 8 x 8 x 3."""

import keras
import numpy as np

from fastbat_tf import FastBAT, RobustClassifier

layers = keras.layers
SHAPE, CLASSES = (8, 8, 3), 4


class Subclassed(keras.Model):
    """A convolution, a normalization, and a nested model of the same kind."""

    def __init__(self, make_normalization, depth=1):
        super().__init__()
        self.convolution = layers.Conv2D(4, 3, use_bias=False)
        self.normalization = make_normalization()
        self.inner = (
            Subclassed(make_normalization, depth - 1)
            if depth
            else keras.Sequential([layers.Flatten(), layers.Dense(CLASSES)])
        )

    def call(self, x, training=None):
        x = self.normalization(self.convolution(x), training=training)
        return self.inner(keras.ops.softplus(x))


def subclassed(make_normalization=layers.BatchNormalization):
    keras.utils.set_random_seed(0)
    model = Subclassed(make_normalization)
    # Not `build`, which would create the variables outside of a strategy.
    model(np.zeros((1, *SHAPE), keras.config.floatx()))
    return model


def sequential(make_normalization=layers.BatchNormalization):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.Conv2D(4, 3, use_bias=False),
            make_normalization(),
            layers.Activation("softplus"),
            layers.Flatten(),
            layers.Dense(CLASSES),
        ]
    )


def nested(make_normalization=layers.BatchNormalization):
    keras.utils.set_random_seed(0)
    inputs = keras.Input(SHAPE)
    x = make_normalization()(inputs)
    return keras.Model(inputs, sequential(make_normalization)(x))


def vision_transformer():
    """Patches, and a block of attention with LayerNormalization."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(SHAPE)
    x = layers.Conv2D(6, 4, strides=4)(inputs)
    x = layers.Reshape((4, 6))(x)
    y = layers.LayerNormalization()(x)
    x = x + layers.MultiHeadAttention(2, 3)(y, y)
    y = layers.LayerNormalization()(x)
    x = x + layers.Dense(6)(layers.Dense(8, activation="gelu")(y))
    x = layers.LayerNormalization()(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(CLASSES)(x))


KINDS = {
    "sequential": sequential,
    "nested": nested,
    "subclassed": subclassed,
    "transformer": vision_transformer,
}


def compiled(model, method=None, mode="eager"):
    """Wraps a model and compiles it for a mode of execution.

    Args:
        model: A `keras.Model`.
        method: A `Method`. Defaults to None, for `FastBAT()`.
        mode: `"eager"`, `"graph"` or `"xla"`. Defaults to `"eager"`.
    """
    robust = RobustClassifier(model, method or FastBAT())
    robust.compile(
        keras.optimizers.SGD(0.1),
        run_eagerly=mode == "eager",
        jit_compile=mode == "xla",
    )
    return robust
