"""Tiny networks, data, and two CPU devices, for tests."""

import contextlib
import functools
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from fastbat_tf.layers import FusedBatchNormalization

# As in the networks of `models`.
ZOO_NORMALIZATION = functools.partial(
    FusedBatchNormalization, momentum=0.9, epsilon=1e-5, unbiased=True
)


@functools.cache
def two_cpu_strategy():
    """Two replicas on the logical CPU devices that `tests/__init__.py` makes.

    There is one for the whole process: a second MirroredStrategy would use the
    same collective keys with other shapes.
    """
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def images_and_labels(count, *, size=8, classes=4, seed=0, dtype="float32"):
    """Random images in [0, 1], with some pixels on a bound, and labels."""
    random = np.random.default_rng(seed)
    images = random.uniform(-0.1, 1.1, (count, size, size, 3)).clip(0, 1)
    labels = random.integers(0, classes, count, dtype="int32")
    return images.astype(dtype), labels


@contextlib.contextmanager
def extreme_draws(highest):
    """All random bits are 0, or all are 1: both ends of every draw."""

    def stateless_uniform(shape, seed, *, minval, maxval, dtype, alg):
        del seed, alg
        if dtype == tf.uint32:  # All of its bits.
            return tf.fill(shape, dtype.max if highest else dtype.min)
        drawn = maxval - 1 if highest else minval
        return tf.fill(shape, tf.cast(drawn, dtype))

    with mock.patch.object(tf.random, "stateless_uniform", stateless_uniform):
        yield


def small_network(
    activation="softplus",
    *,
    normalization=ZOO_NORMALIZATION,
    size=8,
    classes=4,
    width=4,
    seed=0,
):
    """Two convolutions, an optional BatchNorm, and a dense layer."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(
        width, 3, padding="same", use_bias=False, name="conv"
    )(inputs)
    if normalization is not None:
        x = normalization(name="bn")(x)
    x = keras.layers.Activation(activation)(x)
    x = keras.layers.Conv2D(width, 3, strides=2, name="conv2")(x)
    x = keras.layers.Activation(activation)(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(classes, name="dense")(x))


def count_trainable(build):
    """Counts the trainable parameters of the model that `build` returns.

    Their initial values are not drawn.
    """
    with keras.StatelessScope(initialize_variables=False):
        model = build()
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)
