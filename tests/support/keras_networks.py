"""Layers, losses and networks that use what Keras allows."""

import keras
import tensorflow as tf
from keras import losses


class AddsLosses(keras.layers.Layer):
    """Adds a loss for each example, and an integer one."""

    def call(self, x):
        self.add_loss(0.1 * tf.reduce_sum(x**2, -1))
        self.add_loss(tf.constant(3))
        return x


class HasUnusedWeight(keras.layers.Layer):
    """Has a weight that the loss does not depend on."""

    def build(self, shape):
        self.unused = self.add_weight(shape=(3, 2), initializer="ones")

    def call(self, x):
        return x


class Embeds(keras.layers.Layer):
    """Has a weight with a sparse gradient."""

    def build(self, shape):
        self.embedding = keras.layers.Embedding(5, shape[-1])

    def call(self, x):
        return x + self.embedding(tf.constant([1, 1]))[:1]


class SquaredError(losses.Loss):
    """Expects labels of the dtype of the logits, as Keras allows."""

    def call(self, y_true, y_pred):
        return tf.square(y_true - y_pred)  # `(batch, classes)`.


class Scalar(losses.Loss):
    def call(self, y_true, y_pred):
        return tf.reduce_mean(tf.square(y_true - y_pred))


def small(x):
    return keras.layers.Dense(4, name="dense")(keras.layers.Flatten()(x))


def normalized(x):
    x = keras.layers.Conv2D(2, 3, activation="tanh")(x)
    return small(keras.layers.BatchNormalization()(x))


def regularized(x):
    x = keras.layers.Conv2D(
        2,
        3,
        kernel_regularizer=keras.regularizers.L2(0.1),
        activity_regularizer=keras.regularizers.L1(0.1),
    )(x)
    x = keras.layers.Dropout(0.5, seed=3)(x)
    frozen = keras.layers.Conv2D(2, 1, trainable=False)
    return small(AddsLosses()(keras.layers.Flatten()(frozen(x))))


def half_used(x):
    return small(HasUnusedWeight()(x))


def embedded(x):
    return small(Embeds()(keras.layers.Flatten()(x)))
