"""Small networks that draw random numbers, in many ways."""

import keras
import tensorflow as tf
from keras import layers


@keras.saving.register_keras_serializable("tests")
class Noise(keras.layers.Layer):
    """Draws in ways that the lists of layers do not show."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = (keras.random.SeedGenerator(3),)

    def call(self, x, training=None):
        if not training:
            return x
        shape = tf.shape(x)
        x += keras.random.normal(shape, seed=self.hidden[0])
        x += keras.random.normal(shape, seed=self.hidden[0])
        return x + keras.random.normal(shape)  # The global generator.


class Nested(keras.Model):
    """A subclassed model in a subclassed model, with a compiled call."""

    def __init__(self, depth=1):
        super().__init__()
        self.flip = layers.RandomFlip(seed=1)
        self.drop = layers.Dropout(0.5, seed=2)
        self.inner = Nested(depth - 1) if depth else None
        self.flat = layers.Flatten()
        self.dense = layers.Dense(4)

    @tf.function
    def dropped(self, x, training):
        return self.drop(x, training=training)

    def call(self, x, training=None):
        x = self.dropped(self.flip(x), training)
        if self.inner is not None:
            return self.inner(x, training=training)
        return self.dense(self.flat(x))


class Guarded(layers.Layer):
    """Augments as the tutorials of Keras do not."""

    def __init__(self):
        super().__init__()
        self.flip = layers.RandomFlip(seed=1)

    def call(self, x, training=None):
        return self.flip(x) if training else x

    @classmethod
    def network(cls):
        inputs = keras.Input((8, 8, 3))
        x = layers.Flatten()(cls()(inputs))
        return keras.Model(inputs, layers.Dense(4)(x))


class Still(layers.Wrapper):
    """Calls a layer in inference mode, always."""

    def call(self, x):
        return self.layer(x, training=False)


class Compiled(layers.Wrapper):
    """Calls a layer in a `tf.function`."""

    @tf.function
    def call(self, x, training=None):
        return self.layer(x, training=training)


def nested():
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, Nested()(inputs))


def functional(augmentation=layers.RandomTranslation):
    inputs = keras.Input((8, 8, 3))
    x = layers.RandomFlip(seed=5)(inputs)
    if augmentation is not None:
        x = augmentation(0.3, 0.3, seed=6)(x)
    x = layers.Conv2D(3, 3, activation="softplus")(x)
    x = layers.SpatialDropout2D(0.5, seed=7)(x)
    x = layers.GaussianNoise(0.1, seed=8)(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(0.4, seed=9)(x)
    return keras.Model(inputs, layers.Dense(4)(x))


def jittable():
    return functional(augmentation=None)


def sequential():
    inner = keras.Sequential([layers.RandomFlip(), layers.RandomGrayscale()])
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            inner,
            layers.Conv2D(3, 3),
            Noise(),
            layers.Flatten(),
            layers.Dense(4),
        ]
    )
