"""Tests the derivatives of BatchNormalization, and its conversion."""

import warnings

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import BatchNormalization, FastAT, FastBAT, RobustClassifier
from fastbat_tf.layers.conversion import make_twice_differentiable
from tests.support import golden_network, testing


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


class BatchNormalizationTest(tf.test.TestCase, parameterized.TestCase):
    def test_keras_is_still_wrong(self):
        """The bug that this layer works around. If this fails, TensorFlow has
        fixed it, and the conversion can be removed."""
        for layer in (
            keras.layers.BatchNormalization(dtype="float64"),
            keras.layers.GroupNormalization(-1, dtype="float64"),
            keras.layers.LayerNormalization(dtype="float64"),
        ):
            self.assertGreater(self._self_consistency(layer), 1e-4)
        ours = BatchNormalization(dtype="float64")
        self.assertLess(self._self_consistency(ours), 1e-7)

    @staticmethod
    def _self_consistency(layer):
        """Second derivatives against differences of the first ones."""
        random = np.random.default_rng(0)
        x, w, v = map(tf.constant, random.normal(size=(3, 6, 4, 4, 4)))
        layer.build(x.shape)

        def gradient(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                s = tf.reduce_sum(w * tf.sin(1.3 * layer(x, training=True)))
            return tape.gradient(s, x)

        with tf.GradientTape() as tape:
            tape.watch(x)
            directional = tf.reduce_sum(gradient(x) * v)
        second = tape.gradient(directional, x)
        expected = (gradient(x + 1e-5 * v) - gradient(x - 1e-5 * v)) / 2e-5
        return np.abs(second - expected).max() / np.abs(expected).max()

    @parameterized.parameters(
        ("float64", False, 1e-6),
        ("float32", False, 1e-5),  # The fused kernel.
        ("float32", True, 1e-5),  # The composed form, compiled by XLA.
    )
    def test_second_derivative(self, dtype, compiled, tolerance):
        layer = BatchNormalization(dtype=dtype)
        layer.build((None, 4, 4, 4))
        layer.gamma.assign([0.5, 1.0, 2.0, -1.0])
        layer.beta.assign([0.1, 0.0, -0.3, 0.2])
        error = second_derivative_error(layer, dtype, compiled)
        self.assertLess(error, tolerance)

    @parameterized.parameters("float32", "float64")
    def test_forward_and_statistics(self, dtype):
        random = np.random.default_rng(0)
        x = random.normal(3.0, 2.0, (5, 2, 2, 3)).astype(dtype)
        layer = BatchNormalization(momentum=0.8, epsilon=1e-3, dtype=dtype)
        y = layer(x, training=True)
        axes = (0, 1, 2)
        expected = (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-3)
        self.assertAllClose(y, expected, 1e-5, 1e-5)
        self.assertAllClose(layer.moving_mean, 0.2 * x.mean(axes), 1e-5, 1e-5)
        unbiased = x.var(axes, ddof=1)
        self.assertAllClose(
            layer.moving_variance, 0.8 + 0.2 * unbiased, 1e-5, 1e-5
        )
        y = layer(x, training=False)
        scale = np.sqrt(0.8 + 0.2 * unbiased + 1e-3)
        self.assertAllClose(y, (x - 0.2 * x.mean(axes)) / scale, 1e-5, 1e-5)

    @parameterized.parameters(
        ({"axis": 1}, (4, 3, 5, 5)),
        ({}, (8, 3)),
        ({"scale": False, "center": False}, (4, 5, 5, 3)),
    )
    def test_agrees_with_keras(self, arguments, shape):
        x = np.random.default_rng(0).normal(size=shape).astype("float32")
        ours = BatchNormalization(**arguments)
        theirs = keras.layers.BatchNormalization(epsilon=1e-5, **arguments)
        for training in (True, False):
            # After training, unbiased and biased statistics differ.
            theirs_y = theirs(x, training=training)
            if training:
                self.assertAllClose(ours(x, training=True), theirs_y, 1e-4)
                self.assertAllClose(
                    ours.moving_mean * 0.1, theirs.moving_mean, 1e-4, 1e-5
                )

    def test_frozen_layer_uses_the_moving_statistics(self):
        layer = BatchNormalization(trainable=False)
        x = tf.random.stateless_normal((4, 2, 2, 3), (0, 0))
        self.assertAllClose(layer(x, training=True), layer(x, training=False))
        self.assertAllEqual(layer.moving_mean, [0.0, 0.0, 0.0])

    def test_config_round_trip(self):
        layer = BatchNormalization(momentum=0.7, name="norm")
        again = keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(layer)
        )
        self.assertEqual(again.get_config(), layer.get_config())

    @parameterized.parameters("renorm", "synchronized")
    def test_refused_arguments(self, name):
        with self.assertRaisesRegex(ValueError, f"Received: {name}=True"):
            BatchNormalization(**{name: True})


class ConversionTest(tf.test.TestCase):
    def test_converts_nested_functional_models_and_shares_weights(self):
        inner = testing.small_network(
            normalization=keras.layers.BatchNormalization
        )
        inputs = keras.Input((8, 8, 3))
        x = keras.layers.BatchNormalization(name="outer_bn")(inputs)
        model = keras.Model(inputs, inner(x))
        images, _ = testing.images_and_labels(4)
        before = model(images, training=False)
        with self.assertWarnsRegex(UserWarning, "2 BatchNormalization layers"):
            converted = make_twice_differentiable(model)

        flat = [
            layer
            for layer in converted._flatten_layers()
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        self.assertLen(flat, 2)
        for layer in flat:
            self.assertIsInstance(layer, BatchNormalization)
            self.assertAllClose(layer.momentum, 0.99)
            self.assertAllClose(layer.epsilon, 1e-3)
        self.assertEqual(
            [v.path for v in converted.weights], [v.path for v in model.weights]
        )
        for ours, theirs in zip(converted.weights, model.weights, strict=True):
            self.assertIs(ours, theirs)
        self.assertLen(
            converted.trainable_variables, len(model.trainable_variables)
        )
        self.assertAllClose(converted(images, training=False), before)

    def test_training_reaches_the_model_of_the_user(self):
        model = testing.small_network(
            normalization=keras.layers.BatchNormalization
        )
        with self.assertWarns(UserWarning):
            robust = RobustClassifier(model, FastBAT())
        robust.compile(keras.optimizers.SGD(0.1))
        images, labels = testing.images_and_labels(6)
        before = model(images, training=False).numpy()
        robust.train_on_batch(images, labels)
        after = model(images, training=False)
        self.assertNotAllClose(before, after)
        self.assertAllClose(after, robust(images, training=False))

    def test_implicit_term_with_converted_layers(self):
        """The gradient of the user's model is that of the correct layer."""
        images, labels = testing.images_and_labels(6)
        gradients = []
        for normalization in (
            lambda name: keras.layers.BatchNormalization(
                epsilon=1e-5, name=name
            ),
            BatchNormalization,
        ):
            network = testing.small_network(normalization=normalization)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                method = FastBAT(implicit_lambda=0.1)
                robust = RobustClassifier(network, method)
            robust.compile()
            noise = {"start": np.zeros_like(images)}
            outcome = robust.compute_gradients(
                images, labels, golden_network.RecordedDraws(noise)
            )
            gradients.append(outcome.gradients)
        self.assertAllClose(*gradients, rtol=1e-4, atol=1e-6)

    def test_methods_of_first_order_leave_the_model_alone(self):
        model = testing.small_network(
            normalization=keras.layers.BatchNormalization
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            robust = RobustClassifier(model, FastAT())
        self.assertIs(robust.classifier, model)

    def test_a_model_of_right_layers_is_left_alone(self):
        model = testing.small_network()
        self.assertIs(make_twice_differentiable(model), model)

    def test_sequential(self):
        model = keras.Sequential(
            [
                keras.Input((4, 4, 3)),
                keras.layers.Conv2D(2, 3),
                keras.layers.BatchNormalization(),
                keras.layers.Flatten(),
                keras.layers.Dense(3),
            ]
        )
        with self.assertWarns(UserWarning):
            converted = make_twice_differentiable(model)
        self.assertIsInstance(converted.layers[1], BatchNormalization)

    def test_refuses_what_it_cannot_convert(self):
        class Subclassed(keras.Model):
            def __init__(self):
                super().__init__()
                self.bn = keras.layers.BatchNormalization(name="hidden_bn")
                self.head = keras.layers.Dense(3)

            def call(self, x, training=None):
                x = self.bn(x, training=training)
                return self.head(tf.reduce_mean(x, (1, 2)))

        model = Subclassed()
        model(np.zeros((1, 4, 4, 3), "float32"))
        with self.assertRaisesRegex(ValueError, "cannot be replaced.*hidden_"):
            RobustClassifier(model, FastBAT())

        class Halved(keras.Model):
            """Functional, but with its own `call`."""

            def call(self, x, training=None):
                return 0.5 * super().call(x, training=training)

        inputs = keras.Input((4, 4, 3))
        x = keras.layers.BatchNormalization(name="hidden_bn")(inputs)
        with self.assertRaisesRegex(ValueError, "cannot be replaced.*hidden_"):
            RobustClassifier(Halved(inputs, x), FastBAT())

        for layer in (
            keras.layers.LayerNormalization(name="norm"),
            keras.layers.GroupNormalization(1, name="norm"),
            keras.layers.BatchNormalization(renorm=True, name="norm"),
        ):
            model = keras.Sequential(
                [keras.Input((4, 4, 3)), layer, keras.layers.Flatten()]
            )
            with self.assertRaisesRegex(ValueError, "Received: norm="):
                RobustClassifier(model, FastBAT())


if __name__ == "__main__":
    tf.test.main()
