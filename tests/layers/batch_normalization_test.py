"""Tests the fused layer: values, statistics, derivatives, old files."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import FusedBatchNormalization
from fastbat_tf.errors import InputError
from fastbat_tf.layers import batch_normalization
from tests.support import testing


def second_derivative_error(layer, dtype="float64", compiled=False):
    """Error of <d^2 s / dx^2, v> for s = sum(w sin(y(x))), against float64
    central differences, relative to their largest entry."""
    random = np.random.default_rng(0)
    x, w, v = random.normal(size=(3, 6, 4, 4, 4))

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            s = tf.reduce_sum(tf.cast(w, y.dtype) * tf.sin(1.3 * y))
        return tape.gradient(s, x)

    @tf.function(jit_compile=compiled)
    def second(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            directional = tf.reduce_sum(gradient(x) * tf.cast(v, x.dtype))
        return tape.gradient(directional, x)

    result = second(tf.constant(x, dtype)).numpy()
    plus, minus = (_numpy_gradient(layer, x + h * v, w) for h in (1e-4, -1e-4))
    expected = (plus - minus) / 2e-4
    return np.abs(result - expected).max() / np.abs(expected).max()


def _numpy_gradient(layer, x, w):
    """The gradient of s in float64, in closed form."""
    axes, eps = (0, 1, 2), layer.epsilon
    gamma, beta = np.asarray(layer.gamma), np.asarray(layer.beta)
    n = x.size // x.shape[-1]
    centered = x - x.mean(axes)
    inverse = 1 / np.sqrt(x.var(axes) + eps)
    hat = centered * inverse
    upstream = w * 1.3 * np.cos(1.3 * (gamma * hat + beta)) * gamma
    return (
        inverse
        * (n * upstream - upstream.sum(axes) - hat * (upstream * hat).sum(axes))
        / n
    )


class FusedBatchNormalizationTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ("float64", False, 1e-6),
        ("float32", False, 1e-5),  # The fused kernel.
        ("float32", True, 1e-5),  # The composed form, compiled by XLA.
    )
    def test_second_derivative(self, dtype, compiled, tolerance):
        layer = FusedBatchNormalization(epsilon=1e-5, dtype=dtype)
        layer.build((None, 4, 4, 4))
        layer.gamma.assign([0.5, 1.0, 2.0, -1.0])
        layer.beta.assign([0.1, 0.0, -0.3, 0.2])
        error = second_derivative_error(layer, dtype, compiled)
        self.assertLess(error, tolerance)

    @parameterized.product(
        dtype=("float32", "float64"), ddof=(0, 1), compiled=(False, True)
    )
    def test_forward_and_statistics(self, dtype, ddof, compiled):
        random = np.random.default_rng(0)
        x = random.normal(3.0, 2.0, (5, 2, 2, 3)).astype(dtype)
        layer = FusedBatchNormalization(
            unbiased=bool(ddof), momentum=0.8, epsilon=1e-3, dtype=dtype
        )
        layer.build(x.shape)
        normalize = tf.function(layer, jit_compile=compiled)
        y = normalize(x, training=True)
        axes = (0, 1, 2)
        expected = (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-3)
        self.assertAllClose(y, expected, 1e-5, 1e-5)
        self.assertAllClose(layer.moving_mean, 0.2 * x.mean(axes), 1e-5, 1e-5)
        moving = 0.8 + 0.2 * x.var(axes, ddof=ddof)
        self.assertAllClose(layer.moving_variance, moving, 1e-5, 1e-5)
        y = normalize(x, training=False)
        scale = np.sqrt(moving + 1e-3)
        self.assertAllClose(y, (x - 0.2 * x.mean(axes)) / scale, 1e-5, 1e-5)

    @parameterized.parameters(
        ({}, (4, 5, 5, 3)),
        ({"axis": 1}, (4, 3, 5, 5)),
        ({}, (8, 3)),
        ({"scale": False, "center": False}, (4, 5, 5, 3)),
        ({"renorm": True}, (4, 5, 5, 3)),
        ({"synchronized": True}, (4, 5, 5, 3)),
    )
    def test_agrees_with_keras(self, arguments, shape):
        x = np.random.default_rng(0).normal(size=shape).astype("float32")
        ours = FusedBatchNormalization(**arguments)
        theirs = keras.layers.BatchNormalization(**arguments)
        for training in (True, False):
            self.assertAllClose(
                ours(x, training=training),
                theirs(x, training=training),
                1e-4,
                1e-6,
            )
        for one, other in zip(ours.weights, theirs.weights, strict=True):
            self.assertEqual(one.name, other.name)
            self.assertAllClose(one, other, 1e-5, 1e-6)

    def test_frozen_layer_uses_the_moving_statistics(self):
        layer = FusedBatchNormalization(trainable=False)
        x = tf.random.stateless_normal((4, 2, 2, 3), (0, 0))
        self.assertAllClose(layer(x, training=True), layer(x, training=False))
        self.assertAllEqual(layer.moving_mean, [0.0, 0.0, 0.0])

    @parameterized.parameters("renorm", "mask")
    def test_unbiased_is_refused_with(self, name):
        with self.assertRaisesRegex(
            InputError, f"unbiased=False with `{name}`. Received: unbiased=True"
        ):
            if name == "mask":
                layer = FusedBatchNormalization(unbiased=True)
                layer(tf.ones((2, 3)), training=True, mask=tf.ones((2,)))
            else:
                FusedBatchNormalization(unbiased=True, **{name: True})

    @parameterized.parameters(True, False)
    def test_config_round_trip(self, unbiased):
        layer = FusedBatchNormalization(unbiased, momentum=0.7, name="norm")
        again = keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(layer)
        )
        self.assertIs(type(again), FusedBatchNormalization)
        self.assertEqual(again.get_config(), layer.get_config())

    def test_files_with_the_former_name(self):
        config = {
            "module": "fastbat_tf.layers.batch_normalization",
            "class_name": "BatchNormalization",
            "config": {"name": "norm", "momentum": 0.9, "epsilon": 1e-5},
            "registered_name": "fastbat_tf>BatchNormalization",
        }
        layer = keras.saving.deserialize_keras_object(config)
        self.assertIsInstance(layer, FusedBatchNormalization)
        self.assertTrue(layer.unbiased)
        self.assertEqual((layer.momentum, layer.epsilon), (0.9, 1e-5))
        # A whole file, with the names that it had then.
        images, _ = testing.images_and_labels(2)
        model = testing.small_network(
            normalization=batch_normalization.BatchNormalization
        )
        path = f"{self.get_temp_dir()}/former.keras"
        model.save(path)
        loaded = keras.saving.load_model(path)
        self.assertTrue(loaded.get_layer("bn").unbiased)
        self.assertAllClose(loaded(images), model(images), 1e-6, 1e-6)


if __name__ == "__main__":
    tf.test.main()
