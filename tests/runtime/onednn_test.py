"""The workaround for oneDNN's faulty kernel, and its messages."""

import os
import re
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import RobustClassifier, distribution, methods
from fastbat_tf.errors import InputError
from fastbat_tf.experiment import loop
from fastbat_tf.runtime import environment, hints, onednn
from flags import command, program
from tests.support import testing


def strided_1x1(rank=2, filters=5, channels=3, **options):
    """A built convolution that oneDNN's kernel may compute wrongly."""
    kind = getattr(keras.layers, f"Conv{rank}D")
    layer = kind(filters, 1, strides=2, bias_initializer="normal", **options)
    layer.build((None, *[None] * rank, channels))
    return layer


def derivatives(layer, images):
    """Returns outputs, and first and second derivatives."""
    kernel, _ = layer.trainable_variables
    with tf.GradientTape() as outer:
        outer.watch(images)
        with tf.GradientTape() as inner:
            inner.watch(images)
            outputs = layer(images)
            loss = tf.reduce_sum(tf.sin(outputs))
        first = inner.gradient(loss, [images, kernel])
        square = sum(tf.reduce_sum(part**2) for part in first)
    return outputs, *first, *outer.gradient(square, [images, kernel])


def faulty_operations_of_a_step(name):
    """What a method's step would pass to the faulty kernel."""
    inner = keras.Sequential(
        [
            keras.Input((8, 8, 6)),
            keras.layers.Conv2D(4, 1, strides=2, activation="softplus"),
        ]
    )
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(6, 1, strides=2, padding="same")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(inner(x))
    classifier = keras.Model(inputs, keras.layers.Dense(4)(x))
    robust = RobustClassifier(classifier, methods.get(name))
    robust.compile(jit_compile=False)
    loop.make_variables(robust)  # A graph cannot create variables.
    batch = map(tf.constant, testing.images_and_labels(6, size=16))
    step = tf.function(lambda *batch: robust.train_step(batch))
    return faulty_operations(step.get_concrete_function(*batch).graph)


def faulty_operations(graph):
    """The strided 1x1 kernel gradients in a graph and its functions."""
    found = []
    for part in (graph, *_functions(graph)):
        for operation in part.get_operations():
            if re.fullmatch(r"Conv.DBackpropFilter(V2)?", operation.type):
                *kernel, _, _ = operation.outputs[0].shape
                strides = operation.get_attr("strides")
                if max(kernel) == 1 and max(strides) > 1:
                    found.append((operation.name, kernel))
    return found


def _functions(graph):
    for function in graph._functions.values():
        if hasattr(function, "graph"):
            yield function.graph
            yield from _functions(function.graph)


class GuardTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        # Even if these tests run with oneDNN off.
        self.enterContext(mock.patch.object(onednn, "is_on", return_value=True))

    @parameterized.product(
        rank=(1, 2, 3), padding=("same", "valid"), size=(6, 7)
    )
    def test_the_same_function(self, rank, padding, size):
        layer = strided_1x1(rank, padding=padding)
        random = np.random.default_rng(0)
        images = tf.constant(random.random((2, *[size] * rank, 3), "float32"))
        before = derivatives(layer, images)
        onednn.guard([layer])
        step = tf.function(lambda images: derivatives(layer, images))
        graph = step.get_concrete_function(images).graph
        self.assertEmpty(faulty_operations(graph))
        for one, other in zip(before, derivatives(layer, images), strict=True):
            # Sums in another order: up to 1.3e-5 apart, on AMD Zen.
            self.assertAllClose(one, other, rtol=3e-5, atol=1e-6)

    def test_what_is_left_alone(self):
        layers = [
            strided_1x1(channels=16),  # Fast and correct as it is.
            keras.layers.Conv2D(4, 1),
            keras.layers.Conv2D(4, 3, strides=2),
            keras.layers.Conv2D(4, (1, 3), strides=2),
            keras.layers.Dense(4),
        ]
        for layer in layers[1:]:
            layer.build((None, 8, 8, 3))
        layers.append(keras.layers.Conv2D(4, 1, strides=2))  # Not built.
        onednn.guard(layers)
        with mock.patch.object(onednn, "is_on", return_value=False):
            onednn.guard([strided := strided_1x1()])
        for layer in (*layers, strided):
            self.assertNotIn("convolution_op", vars(layer))

    def test_transposed_convolutions_are_refused(self):
        layer, wide = (
            keras.layers.Conv2DTranspose(filters, 1, strides=2)
            for filters in (4, 16)
        )
        for each in (layer, wide):
            each.build((None, 4, 4, 3))
        with mock.patch.object(onednn, "_has_gpu", return_value=True):
            onednn.guard([layer])
        with mock.patch.object(onednn, "_has_gpu", return_value=False):
            onednn.guard([wide])
            with self.assertRaisesRegex(InputError, "ONEDNN_OPTS=0. Received"):
                onednn.guard([layer])

    def test_convolutions_of_the_user_are_refused(self):
        """Their convolutions are neither replaced nor trusted."""

        class Standardized(keras.layers.Conv2D):
            def convolution_op(self, inputs, kernel):
                kernel = kernel - tf.reduce_mean(kernel, [0, 1, 2])
                return super().convolution_op(inputs, kernel)

        class Called(keras.layers.Conv2D):
            def call(self, inputs):
                return tf.nn.conv2d(inputs, self.kernel, self.strides, "SAME")

        exchanged = keras.layers.Conv2D(4, 1, strides=2, name="mine")
        exchanged.convolution_op = lambda inputs, kernel: inputs[:, ::2, ::2]
        for layer in (
            Standardized(4, 1, strides=2, name="mine"),
            Called(4, 1, strides=2, name="mine"),
            exchanged,
        ):
            layer.build((None, 4, 4, 4))
            images = tf.random.normal((2, 4, 4, 4))
            before = layer(images)
            with (
                mock.patch.object(onednn, "_has_gpu", return_value=False),
                self.assertRaisesRegex(InputError, "OPTS=0. Received: mine="),
            ):
                onednn.guard([layer])
            with mock.patch.object(onednn, "_has_gpu", return_value=True):
                onednn.guard([layer])
            self.assertAllEqual(layer(images), before)

    def test_twice(self):
        """A classifier may be trained with one method after another."""
        layer = strided_1x1()
        images = tf.random.normal((2, 4, 4, 3))
        before = layer(images)
        with mock.patch.object(onednn, "_has_gpu", return_value=False):
            onednn.guard([layer])
            onednn.guard([layer])
        self.assertAllClose(layer(images), before, 1e-5, 1e-6)

    @parameterized.parameters("standard", "fastbat", "gradalign")
    def test_a_training_step_has_no_faulty_operation(self, name):
        self.assertEmpty(faulty_operations_of_a_step(name))

    def test_they_would_be_found(self):
        with (
            mock.patch.object(onednn, "is_on", return_value=False),
            mock.patch.object(hints, "new_hints", return_value=[]),
        ):
            self.assertLen(faulty_operations_of_a_step("standard"), 2)

    def test_it_is_saved_as_it_was(self):
        inputs = keras.Input((8, 8, 3))
        x = keras.layers.Conv2D(4, 1, strides=2, name="strided")(inputs)
        x = keras.layers.GlobalAveragePooling2D()(x)
        model = keras.Model(inputs, keras.layers.Dense(3)(x))
        before = str(model.get_config())
        images, _ = testing.images_and_labels(3)
        answers = model(images)
        RobustClassifier(model, methods.get("standard"))
        path = os.path.join(self.get_temp_dir(), "model.keras")
        model.save(path)
        loaded = keras.models.load_model(path)
        self.assertEqual(str(model.get_config()), before)
        self.assertNotIn("convolution_op", vars(loaded.get_layer("strided")))
        self.assertAllClose(loaded(images), answers, rtol=1e-5, atol=1e-6)
        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        self.assertAllClose(copy(images), answers, rtol=1e-5, atol=1e-6)


class WhoTurnsItOnTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ({}, "1"),
        ({environment.ONEDNN: "0"}, "0"),
        ({environment.ONEDNN: ""}, ""),
    )
    def test_the_program_unless_the_user_did(self, given, expected):
        error = InputError("The end.")
        chosen = command.Command("export", "runs/demo")
        with (
            mock.patch.dict(os.environ, given),
            mock.patch.object(environment, "is_x86", return_value=True),
            mock.patch.object(command, "get_command", return_value=chosen),
            mock.patch.object(environment, "silent_start", side_effect=error),
        ):
            if not given:
                os.environ.pop(environment.ONEDNN, None)
            with self.assertRaises(SystemExit):
                program.main(None)
            self.assertEqual(os.environ[environment.ONEDNN], expected)

    def test_other_processors_keep_their_default(self):
        with (
            mock.patch.dict(os.environ),
            mock.patch.object(environment, "is_x86", return_value=False),
        ):
            os.environ.pop(environment.ONEDNN, None)
            environment.enable_onednn()
            self.assertNotIn(environment.ONEDNN, os.environ)

    def test_what_a_classifier_says(self):
        if distribution.has_accelerator():
            self.skipTest("oneDNN is for CPUs.")
        robust = RobustClassifier(
            testing.small_network(), methods.get("standard")
        )
        with (
            mock.patch.dict(os.environ),
            mock.patch.object(environment, "is_x86", return_value=True),
            mock.patch.object(onednn, "is_on", return_value=False),
            mock.patch.object(hints, "_given", set()),
        ):
            os.environ[environment.ONEDNN] = "0"  # The user has chosen.
            self.assertIsNone(onednn.explain_off())
            del os.environ[environment.ONEDNN]
            with self.assertWarnsRegex(UserWarning, "TF_ENABLE_ONEDNN_OPTS=1"):
                robust.compile()
            self.assertEqual(hints.new_hints(), [])  # Once.


if __name__ == "__main__":
    tf.test.main()
