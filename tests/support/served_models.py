"""Small classifiers whose export must not change what they answer."""

import keras
import numpy as np
from keras import layers

from fastbat_tf import RobustClassifier, Standard, models
from fastbat_tf.layers import FusedBatchNormalization
from fastbat_tf.models.blocks import softplus10


def images_of(shape, count=5, seed=0):
    """Random images in [0, 1], some of whose pixels are 0 or 1.

    The first image is black, and the second is white.
    """
    random = np.random.default_rng(seed)
    images = random.uniform(-0.2, 1.2, (count, *shape)).clip(0, 1)
    images[:2] = np.reshape([0, 1], (2, 1, 1, 1))[:count]
    return images.astype(np.float32)


def randomize(model, seed=0):
    """Gives a model weights and statistics as if it were trained."""
    random = np.random.default_rng(seed)
    for layer in model._flatten_layers(include_self=False):
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            weight = getattr(layer, name, None)
            if weight is not None:
                low = 0.5 if name in ("gamma", "moving_variance") else -0.5
                weight.assign(random.uniform(low, low + 1, weight.shape))
    return model


def rich(shape=(8, 6, 1), classes=2, **dense):
    """A classifier that has a bit of everything."""
    keras.utils.set_random_seed(0)
    channels = shape[-1]
    inputs = keras.Input(shape)
    x = layers.Normalization(
        mean=np.linspace(0.3, 0.6, channels),
        variance=np.linspace(0.05, 0.1, channels),
    )(inputs)
    x = layers.RandomFlip()(x)
    x = layers.RandomTranslation(0.2, 0.2)(x)
    x = layers.Conv2D(4, 3, padding="same", use_bias=False)(x)
    x = FusedBatchNormalization(unbiased=True)(x)
    x = layers.Activation(softplus10)(x)
    x = layers.GaussianNoise(1.0)(x)
    x = layers.Conv2D(4, 3, strides=2)(x)
    x = layers.BatchNormalization()(x)
    x = layers.Activation("swish")(x)
    x = layers.Dropout(0.5)(x)
    x = layers.Flatten()(x)
    return randomize(keras.Model(inputs, layers.Dense(classes, **dense)(x)))


def _zoo(name, **options):
    keras.utils.set_random_seed(0)
    options = {
        "input_shape": (8, 8, 3),
        "mean": (0.4, 0.5, 0.6),
        "std": (0.2, 0.25, 0.3),
        **options,
    }
    return randomize(models.get(name, **options))


def _in_half_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        return rich((8, 8, 3), 4)
    finally:
        keras.config.set_dtype_policy(before)


def _of_wide_range():
    inputs = keras.Input((8, 8, 3))
    pixels = layers.Rescaling(1 / 255)(inputs)
    model = keras.Model(inputs, rich((8, 8, 3), 4)(pixels))
    return RobustClassifier(model, Standard(), pixel_range=(0, 255))


# By what is special about them.
SERVED_MODELS = {
    "rich": rich,
    "preact": lambda: _zoo(
        "preact_resnet18",
        width=2,
        activation="softplus",
        batch_normalization=FusedBatchNormalization,
    ),
    "resnet": lambda: _zoo("resnet18", width=2, input_shape=(16, 12, 3)),
    "bottleneck": lambda: _zoo(
        "resnet50", width=2, stem="imagenet", input_shape=(32, 32, 3)
    ),
    "wrn": lambda: _zoo("wrn10_1", activation="swish"),
    "softmax": lambda: rich((8, 8, 3), 4, activation="softmax"),
    "binary": lambda: rich((8, 8, 3), 1),
    "range": _of_wide_range,
    "half": _in_half_precision,
}
