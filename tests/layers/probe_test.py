"""Tests that layers with wrong second derivatives are found, and no others."""

import contextlib
import functools
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import (
    FastAT,
    FastBAT,
    FusedBatchNormalization,
)
from fastbat_tf.errors import InputError
from fastbat_tf.layers import moments, probe
from tests.support import golden_network, model_kinds, testing

layers = keras.layers
OF_TENSORFLOW = tf.nn.moments  # A reference that `exact_moments` cannot change.
IMAGES = tf.TensorSpec((4, 8, 8, 3), tf.float32)


class Normalize(layers.Layer):
    """Normalizes with the moments that `moments` returns."""

    def __init__(self, moments, **kwargs):
        super().__init__(**kwargs)
        self.moments = moments

    def call(self, x):
        mean, variance = self.moments(x, [1, 2], keepdims=True)
        return (x - mean) / tf.sqrt(variance + 1e-3)


class Traced(Normalize):
    """Keras traces its function when the model is built."""

    def __init__(self, **kwargs):
        super().__init__(None, **kwargs)

    @tf.function
    def call(self, x):
        mean, variance = tf.nn.moments(x, [1, 2], keepdims=True)
        return tf.nn.relu(x - mean) / tf.sqrt(variance + 1e-3)


class Inside(layers.Layer):
    """Its sublayer is the one to be named."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return tf.stop_gradient(x) + self.inner(x)


@tf.custom_gradient
def product(x, weight):
    """A gradient whose derivative to the weight is forgotten."""
    constant = tf.stop_gradient(weight)
    return x * weight, lambda dy: (dy * constant, tf.reduce_sum(dy * x))


class Product(layers.Layer):
    def build(self, shape):
        self.weight = self.add_weight(shape=(), initializer="ones")

    def call(self, x):
        return product(x, tf.convert_to_tensor(self.weight))


@tf.custom_gradient
def leaky(x):
    """A right gradient, with a kink."""
    return tf.maximum(x, 0.1 * x), lambda dy: dy * tf.where(x > 0, 1.0, 0.1)


class Quantize(layers.Layer):
    """A straight-through estimator."""

    def call(self, x):
        return x + tf.stop_gradient(tf.round(4.0 * x) / 4.0 - x)


WRONG = {
    "bound": lambda: Normalize(OF_TENSORFLOW, name="culprit"),
    "traced": lambda: Traced(name="culprit"),
    "inside": lambda: Inside(Traced(name="culprit")),
    "weight": lambda: Product(name="culprit"),
    "lambda": lambda: layers.Lambda(
        lambda x: x / tf.sqrt(OF_TENSORFLOW(x, [1, 2], keepdims=True)[1] + 1.0),
        name="culprit",
    ),
}
RIGHT = {
    "user": lambda: Normalize(lambda *a, **k: tf.nn.moments(*a, **k)),
    "batch": layers.BatchNormalization,
    "renorm": lambda: layers.BatchNormalization(renorm=True),
    "layer": layers.LayerNormalization,
    "group": lambda: layers.GroupNormalization(1),
    "fused": FusedBatchNormalization,
    "spectral": lambda: layers.SpectralNormalization(layers.Conv2D(3, 3)),
    "swish": lambda: layers.Activation("swish"),
    "kink": lambda: layers.Lambda(leaky),
    "straight through": Quantize,
    "stopped": lambda: layers.Lambda(lambda x: x + tf.stop_gradient(x**2)),
    "dropout": lambda: layers.Dropout(0.5),
    "attention": lambda: layers.MultiHeadAttention(1, 2),
}


class Subclassed(keras.Model):
    def __init__(self, *parts):
        super().__init__()
        self.parts = parts
        self.flatten, self.dense = layers.Flatten(), layers.Dense(4)

    def call(self, images):
        x = images
        for part in self.parts:
            if isinstance(part, layers.MultiHeadAttention):
                x = part(x, x)
            else:
                x = part(x)
        return self.dense(self.flatten(x))


def build(*parts, functional=False):
    model = Subclassed(*parts)
    if functional:
        inputs = keras.Input((8, 8, 3))
        return keras.Model(inputs, model.call(inputs))
    model(np.zeros((1, 8, 8, 3), "float32"))
    return model


class ProbeTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        name=tuple(WRONG), policy=("float32", "float64", "mixed_bfloat16")
    )
    def test_wrong_layers(self, name, policy):
        if (name, policy) == ("weight", "mixed_bfloat16"):
            self.skipTest("Differences of one scalar are too rough there.")
        with golden_network.policy(policy):
            model = build(layers.Dense(3), WRONG[name](), functional=True)
        (found,) = probe.wrong_layers(model, IMAGES)
        self.assertEqual(found.name, "culprit")

    @parameterized.product(
        name=tuple(RIGHT), policy=("float32", "float64", "mixed_bfloat16")
    )
    def test_right_layers(self, name, policy):
        with golden_network.policy(policy):
            model = build(layers.Dense(3), RIGHT[name]())
        before = model.get_weights()
        self.assertEqual(probe.wrong_layers(model, IMAGES), [])
        for one, other in zip(before, model.get_weights(), strict=True):
            self.assertAllEqual(one, other)

    @parameterized.parameters("straight through", "stopped", "kink", "swish")
    def test_these_are_compared(self, name):
        with mock.patch.object(
            probe, "_is_wrong", return_value=True
        ) as compared:
            probe.wrong_layers(build(RIGHT[name]()), IMAGES)
        compared.assert_called_once()

    def test_kinds_are_compared_once_and_others_not_at_all(self):
        model = build(
            *(Quantize() for _ in range(3)),
            FusedBatchNormalization(),
            layers.BatchNormalization(),
            layers.LayerNormalization(),
            functional=True,
        )
        with mock.patch.object(
            probe, "_is_wrong", return_value=True
        ) as compared:
            probe.wrong_layers(model, IMAGES)
        compared.assert_called_once()

    @parameterized.parameters("eager", "graph", "xla")
    def test_training_refuses(self, mode):
        robust = model_kinds.compiled(
            build(WRONG["traced"](), functional=True), mode=mode
        )
        images, labels = testing.images_and_labels(4)
        with self.assertRaisesRegex(
            InputError,
            r"wrong second derivatives.*expected FastBAT\(implicit_gradient="
            r".finite_difference.*Received: layer=culprit \(Traced\)$",
        ):
            robust.train_on_batch(images, labels)

    def test_methods_of_first_order_accept(self):
        model = build(WRONG["traced"](), functional=True)
        images, labels = testing.images_and_labels(4)
        for method in (
            FastAT(),
            FastBAT(implicit_gradient="finite_difference"),
        ):
            model_kinds.compiled(model, method, "graph").train_on_batch(
                images, labels
            )

    @parameterized.parameters(
        layers.BatchNormalization,
        layers.LayerNormalization,
        functools.partial(layers.GroupNormalization, 1),
    )
    def test_if_keras_did_not_call_the_function_any_more(self, layer):
        """As if it had been renamed, or copied into Keras."""
        model = build(layer(name="culprit"))
        images, labels = testing.images_and_labels(4)
        unchanged = contextlib.nullcontext()
        with mock.patch.object(moments, "_replacement", unchanged):
            with self.assertRaisesRegex(InputError, "Received: layer=culprit"):
                model_kinds.compiled(model).train_on_batch(images, labels)

    def test_if_tensorflow_mended_it(self):
        def mended(x, axes, shift=None, keepdims=False, name=None):
            mean = tf.reduce_mean(x, axes, keepdims=True)
            variance = tf.reduce_mean((x - mean) ** 2, axes, keepdims=True)
            if not keepdims:
                mean, variance = tf.squeeze(mean), tf.squeeze(variance)
            return mean, variance

        with mock.patch.object(tf.nn, "moments", mended):
            model = build(layers.BatchNormalization(), Traced())
            self.assertEqual(probe.wrong_layers(model, IMAGES), [])

    def test_once_for_each_shape_of_the_images(self):
        robust = model_kinds.compiled(build(layers.BatchNormalization()))
        images, labels = testing.images_and_labels(4)
        with mock.patch.object(probe, "wrong_layers", return_value=[]) as found:
            for count in (4, 4, 2):
                robust.train_on_batch(images[:count], labels[:count])
        self.assertEqual(found.call_count, 2)

    def test_steps_of_two_models_that_are_traced_at_once(self):
        """The first block to begin is the first to end."""
        original = keras.Operation.__call__
        with contextlib.ExitStack() as first, contextlib.ExitStack() as second:
            first.enter_context(probe._recorded([]))
            second.enter_context(probe._recorded([]))
            first.close()
        self.assertIs(keras.Operation.__call__, original)


if __name__ == "__main__":
    tf.test.main()
