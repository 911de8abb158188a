"""Classifiers that return probabilities or one value, against logits."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import (
    TRADES,
    FastAT,
    FastBAT,
    Plan,
    RobustClassifier,
    Standard,
    methods,
)
from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError
from fastbat_tf.layers.network import Network
from fastbat_tf.layers.outputs import Outputs

SIZE, BATCH = 6, 5
PLAN = Plan(epochs=4, steps_per_epoch=2, batch_size=BATCH, examples=9)
LAYERS = keras.layers


def network(head, units, *, dtype=None):
    """A small network with smooth activations; `head` makes its outputs."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((SIZE, SIZE, 2))
    x = LAYERS.Conv2D(3, 3, use_bias=False, dtype=dtype)(inputs)
    x = LAYERS.BatchNormalization(dtype=dtype)(x)
    x = LAYERS.Activation("softplus", dtype=dtype)(x)
    x = LAYERS.Flatten()(x)
    return keras.Model(inputs, head(LAYERS.Dense(units, dtype=dtype)(x)))


def two_logits(z):
    return LAYERS.Concatenate()([LAYERS.Rescaling(0.0)(z), z])


def data(classes, seed=1):
    random = np.random.default_rng(seed)
    images = random.uniform(0, 1, (BATCH, SIZE, SIZE, 2)).astype("float32")
    return images, random.integers(0, classes, BATCH, dtype="int32")


def step(classifier, method, labels, images, **compiled):
    """One step, executed eagerly."""
    robust = RobustClassifier(classifier, method)
    robust.compile("sgd", plan=PLAN, run_eagerly=True, **compiled)
    return robust.compute_gradients(
        tf.constant(images),
        tf.constant(labels),
        Draws(0, 0),
        index=tf.range(BATCH),
    )


class FormsTest(tf.test.TestCase, parameterized.TestCase):
    """Each method takes the same step, whatever its classifier returns."""

    @parameterized.parameters(*methods.METHODS)
    def test_probabilities(self, name):
        images, labels = data(4)
        expected = step(
            network(lambda z: z, 4), methods.get(name), labels, images
        )
        found = step(
            network(LAYERS.Softmax(), 4), methods.get(name), labels, images
        )
        self.check(found, expected)

    @parameterized.parameters(*methods.METHODS)
    def test_one_value_for_two_classes(self, name):
        if methods.get(name).needs_features:
            self.skipTest("A concatenation is not a dense layer.")
        images, labels = data(2)
        expected = step(
            network(two_logits, 1), methods.get(name), labels, images
        )
        for head in (lambda z: z, LAYERS.Activation("sigmoid")):
            found = step(network(head, 1), methods.get(name), labels, images)
            self.check(found, expected)

    def check(self, found, expected):
        self.assertAllClose(found.logits, expected.logits, 1e-5, 1e-5)
        self.assertAllClose(found.loss, expected.loss, 1e-5)
        for ours, theirs in zip(
            found.gradients, expected.gradients, strict=True
        ):
            scale = np.abs(theirs).max()
            # The largest difference measured is 3e-5 of the largest entry.
            self.assertAllClose(ours, theirs, 0, 1e-4 * scale + 1e-7)

    @parameterized.parameters(FastBAT, TRADES)
    def test_half_precision_keeps_the_logits(self, method):
        """A cast once dropped what Keras knows of the logits."""
        policy = keras.DTypePolicy("mixed_bfloat16")
        images, labels = data(4)
        expected, found = (
            step(network(head, 4, dtype=policy), method(), labels, images)
            for head in (lambda z: z, LAYERS.Softmax(dtype=policy))
        )
        for ours, theirs in zip(
            found.gradients, expected.gradients, strict=True
        ):
            self.assertAllClose(ours, theirs, 1e-5, 1e-7)


class FindTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        (lambda z: z, None),
        (LAYERS.Activation("softmax"), "softmax"),
        (LAYERS.Softmax(), "softmax"),
        (LAYERS.Lambda(tf.nn.softmax), "softmax"),
        (keras.Sequential([LAYERS.Softmax()]), "softmax"),
        (LAYERS.Activation("relu"), None),
        # The last layer of a model in mixed precision.
        (LAYERS.Activation("linear", dtype="float32"), None),
        (lambda z: LAYERS.Activation("linear")(LAYERS.Softmax()(z)), "softmax"),
        # It is a softmax of two pairs of the classes.
        (
            lambda z: LAYERS.Reshape([4])(
                LAYERS.Softmax()(LAYERS.Reshape([2, 2])(z))
            ),
            None,
        ),
        (
            lambda z: LAYERS.Activation("linear", dtype="float32")(
                LAYERS.Softmax(dtype="bfloat16")(z)
            ),
            "softmax",
        ),
    )
    def test_the_last_operation_tells(self, head, activation):
        found = Network(network(head, 4)).outputs
        self.assertEqual(found, Outputs(activation, 4))

    def test_the_argument_tells(self):
        model = network(lambda z: z, 4)
        robust = RobustClassifier(model, Standard(), from_logits=False)
        self.assertEqual(robust.network.outputs, Outputs("softmax", 4))
        again = RobustClassifier.from_config(robust.get_config())
        self.assertEqual(again.network.outputs, Outputs("softmax", 4))

    def test_subclassed(self):
        class Classifier(keras.Model):
            def __init__(self):
                super().__init__()
                self.flatten = LAYERS.Flatten()
                self.dense = LAYERS.Dense(1, activation="sigmoid")

            def call(self, x):
                return self.dense(self.flatten(x))

        model = Classifier()
        images, labels = data(2)
        model(images)
        robust = RobustClassifier(model, FastAT())
        self.assertEqual(robust.network.outputs, Outputs("sigmoid", 1))
        robust.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
        history = robust.fit(images, labels, verbose=0)
        self.assertContainsSubset(["accuracy", "loss"], history.history)

    def test_probabilities_of_an_ensemble(self):
        """Nothing but their values tells that they are probabilities."""

        def head(z):
            two = LAYERS.Softmax()(z), LAYERS.Softmax()(LAYERS.Dense(4)(z))
            return LAYERS.Average()(two)

        model = network(head, 4)
        with self.assertRaisesRegex(InputError, "from_logits=False.*=None"):
            RobustClassifier(model, Standard())
        for from_logits, activation in ((False, "softmax"), (True, None)):
            robust = RobustClassifier(
                model, Standard(), from_logits=from_logits
            )
            self.assertEqual(robust.network.outputs, Outputs(activation, 4))

    def test_functional_with_its_own_call(self):
        class Softened(keras.Model):
            def call(self, x, training=None):
                return keras.activations.softmax(super().call(x) / 2)

        inputs = keras.Input((4,))
        model = Softened(inputs, LAYERS.Dense(3)(inputs))
        self.assertEqual(Network(model).outputs, Outputs("softmax", 3))

    def test_refused(self):
        for head, units, reason in (
            (LAYERS.Activation("sigmoid"), 3, "units=3, activation=sigmoid"),
            (LAYERS.Softmax(), 1, "units=1, activation=softmax"),
            (LAYERS.RepeatVector(2), 3, r"outputs.shape=\(None, 2, 3\)"),
        ):
            with self.assertRaisesRegex(InputError, f"Received: .*{reason}$"):
                RobustClassifier(network(head, units), Standard())

    @parameterized.parameters(
        (lambda z: z, 4, "sparse_categorical_crossentropy", "from_logits=True"),
        (lambda z: z, 4, "kl_divergence", "from_logits=True"),
        (
            LAYERS.Softmax(),
            4,
            keras.losses.CategoricalCrossentropy(from_logits=True),
            "from_logits=False",
        ),
        (
            lambda z: z,
            1,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "BinaryCrossentropy",
        ),
    )
    def test_losses_that_would_misread_the_outputs(
        self, head, units, loss, fit
    ):
        robust = RobustClassifier(network(head, units), Standard())
        with self.assertRaisesRegex(InputError, f"{fit}.*Received: loss="):
            robust.compile(loss=loss)

    def test_accuracy_of_a_logit(self):
        """Keras compares it with 0.5."""
        images, labels = data(2)
        model = network(lambda z: 0.01 * z, 1)
        robust = RobustClassifier(model, Standard())
        robust.compile("sgd", metrics=["accuracy"])
        found = robust.evaluate(images, labels, return_dict=True, verbose=0)
        predicted = robust.predict(images, verbose=0)[:, 0] > 0
        self.assertAlmostEqual(
            found["accuracy"], np.mean(predicted == labels), places=6
        )
        with self.assertRaisesRegex(InputError, "Received: metrics=accuracy"):
            robust.compile("sgd", metrics="accuracy")
