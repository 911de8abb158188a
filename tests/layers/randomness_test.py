"""A training step sees one draw of everything random in the classifier."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from keras import layers

from fastbat_tf import PGD, TRADES, FastBAT, RobustClassifier, Standard
from fastbat_tf.methods.base import Method, Solution
from tests.support import testing

IMAGES, LABELS = testing.images_and_labels(8)


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


def subclassed():
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
    inner = keras.Sequential([layers.RandomFlip(), layers.RandomBrightness(0.2)])
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


class Passes(Method):
    """Reports how much the logits of the passes of a step differ."""

    reports = ("training", "loop", "inference", "modes", "first")

    def solve(self, context):
        first = context.logits(context.images)
        still = context.logits(context.images, training=False)

        def differ(total):
            again = context.logits(context.images)
            return total + tf.reduce_max(tf.abs(again - first))

        zero = tf.zeros([], first.dtype)
        (looped,) = tf.while_loop(
            lambda _: True,
            lambda total: (differ(total),),
            (zero,),
            maximum_iterations=2,
        )
        branched = tf.cond(
            tf.reduce_all(context.images >= 0),
            lambda: context.logits(context.images, training=False),
            lambda: still + 1,
        )
        context.report(
            training=differ(zero),
            loop=looped,
            inference=tf.reduce_max(tf.abs(branched - still)),
            modes=tf.reduce_max(tf.abs(first - still)),
            first=first[0, 0],
        )
        return Solution(tf.zeros_like(context.images))


def wrap(build, method, strategy=None, **settings):
    strategy = strategy or tf.distribute.get_strategy()
    keras.utils.set_random_seed(1)
    with strategy.scope():
        robust = RobustClassifier(build(), method)
        robust.compile(
            keras.optimizers.SGD(0.1, momentum=0.9),
            **{"jit_compile": False} | settings,
        )
    return robust


def fit(robust, epochs=1, **settings):
    return robust.fit(
        IMAGES,
        LABELS,
        batch_size=4,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        **settings,
    ).history


class RandomnessTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        (
            {"build": functional, "settings": {}},
            {"build": functional, "settings": {"run_eagerly": True}},
            {"build": jittable, "settings": {"jit_compile": True}},
            {"build": sequential, "settings": {}},
            {"build": sequential, "settings": {"jit_compile": True}},
            {"build": subclassed, "settings": {}},
            {"build": subclassed, "settings": {"run_eagerly": True}},
        )
    )
    def test_all_passes_see_one_draw(self, build, settings):
        robust = wrap(build, Passes(), **settings)
        first, second = (
            robust.train_on_batch(IMAGES[:4], LABELS[:4], return_dict=True)
            for _ in range(2)
        )
        print(first, second)
        for name in ("training", "loop", "inference"):
            self.assertEqual(first[name], 0.0, name)
        self.assertGreater(first["modes"], 1e-3)


if __name__ == "__main__":
    tf.test.main()
