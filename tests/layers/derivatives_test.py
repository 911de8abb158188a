"""Tests that layers without derivatives are rejected by name."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import (
    FGSMUAP,
    LIET,
    FastAT,
    FastBAT,
    GradAlign,
    Plan,
    RobustClassifier,
    evaluate_robustness,
)
from fastbat_tf.errors import InputError
from tests.support import testing

layers = keras.layers


def network(*middle):
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(2, 3, padding="same"),
            *middle,
            layers.Flatten(),
            layers.Dense(4),
        ]
    )


def resizing(interpolation):
    return network(layers.Resizing(4, 4, interpolation, name="culprit"))


def operation():
    """An operation between layers, not a layer."""
    inputs = keras.Input((8, 8, 3))
    x = keras.ops.softsign(layers.Flatten()(inputs))
    return keras.Model(inputs, layers.Dense(4)(x))


class Subclassed(keras.Model):
    """Its layers have no known inputs."""

    input_shape, output_shape = (None, 8, 8, 3), (None, 4)

    def __init__(self):
        super().__init__()
        self.activation = layers.Activation("softsign", name="culprit")
        self.flatten, self.dense = layers.Flatten(), layers.Dense(4)

    def call(self, images):
        return self.dense(self.flatten(self.activation(images)))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 8, 8, 3), "float32"))
    return model


class Rounding(layers.Layer):
    def call(self, x):
        return tf.round(x)


def recomputed():
    """Its activations are recomputed in the backward pass."""
    inputs = keras.Input((8, 8, 3))
    with keras.RematScope("full"):
        layer = layers.Conv2D(2, 3, activation="softplus", name="culprit")
    return keras.Model(inputs, layers.Dense(4)(layers.Flatten()(layer(inputs))))


TWICE = {
    "recomputed": (recomputed, "culprit (Conv2D)"),
    "nearest": (lambda: resizing("nearest"), "culprit (Resizing)"),
    "bicubic": (lambda: resizing("bicubic"), "culprit (Resizing)"),
    "lanczos": (lambda: resizing("lanczos3"), "culprit (Resizing)"),
    "upsampling": (
        lambda: network(
            layers.UpSampling2D(2, interpolation="bicubic", name="culprit")
        ),
        "culprit (UpSampling2D)",
    ),
    "activation": (
        lambda: network(layers.Activation("softsign", name="culprit")),
        "culprit (Activation)",
    ),
    "inside": (
        lambda: network(
            layers.Conv2D(2, 3, activation="softsign", name="culprit")
        ),
        "culprit (Conv2D)",
    ),
    "nested": (
        lambda: keras.Sequential([keras.Input((8, 8, 3)), resizing("nearest")]),
        "culprit (Resizing)",
    ),
    "operation": (operation, "(Softsign)"),
    "subclassed": (subclassed, "culprit (Activation)"),
}


def beside(layer):
    """A classifier with two branches, one of which has the layer."""
    inputs = keras.Input((8, 8, 3))
    direct = layers.Conv2D(2, 3, activation="softplus")(inputs)
    other = layers.Conv2D(2, 3, activation="softplus")(layer(inputs))
    x = layers.concatenate([layers.Flatten()(x) for x in (direct, other)])
    return keras.Model(inputs, layers.Dense(4)(x))


class InFunction(layers.Layer):
    """Resizes in a branch of a condition, in a separate function."""

    def call(self, x):
        resize = tf.function(lambda: tf.image.resize(x, (4, 4)))
        return tf.cond(tf.reduce_sum(x) > -1e9, resize, lambda: x[:, :4, :4])


def quantize(x):
    return tf.quantization.fake_quant_with_min_max_vars(x, 0.0, 1.0)


SILENT = {
    "resizing": (
        lambda: layers.Resizing(4, 4, name="culprit"),
        "culprit (Resizing)",
    ),
    "upsampling": (
        lambda: layers.UpSampling2D(
            2, interpolation="bilinear", name="culprit"
        ),
        "culprit (UpSampling2D)",
    ),
    "lambda": (
        lambda: layers.Lambda(
            lambda x: tf.image.resize(x, (4, 4)), name="culprit"
        ),
        "culprit (Lambda)",
    ),
    "operation": (
        lambda: lambda x: keras.ops.image.resize(x, (4, 4)),
        "(Resize)",
    ),
    "function": (lambda: InFunction(name="culprit"), "culprit (InFunction)"),
    "quantization": (
        lambda: layers.Lambda(quantize, name="culprit"),
        "culprit (Lambda)",
    ),
}


def train(build, method, mode="graph"):
    strategy = tf.distribute.get_strategy()
    if mode == "replicas":
        strategy = testing.two_cpu_strategy()
    with strategy.scope():
        robust = RobustClassifier(build(), method)
        robust.compile(
            keras.optimizers.SGD(0.1),
            plan=Plan(1, 1, 4, 4),
            run_eagerly=mode == "eager",
            jit_compile=mode in ("xla", "replicas"),
        )
    images, labels = testing.images_and_labels(4)
    data = tf.data.Dataset.from_tensors((images, labels))
    return robust.fit(data, verbose=0).history


class DerivativesTest(tf.test.TestCase, parameterized.TestCase):
    def refused(self, build, method, mode="graph"):
        with self.assertRaises(InputError) as caught:
            train(build, method, mode)
        text = str(caught.exception)
        self.assertNotIn("\n", text)
        self.assertIn("expected", text)
        self.assertIn("Received: ", text)
        return text

    @parameterized.parameters(*TWICE)
    def test_twice(self, name):
        """Only the layer is named, and the suggested remedy works."""
        build, culprit = TWICE[name]
        text = self.refused(build, FastBAT())
        self.assertIn("cannot be differentiated twice", text)
        self.assertRegex(text, r"Received: layer=\w+ \(\w+\)$")
        self.assertTrue(text.endswith(culprit), text)
        self.assertIn('FastBAT(implicit_gradient="finite_difference")', text)
        method = FastBAT(implicit_gradient="finite_difference")
        history = train(build, method, "eager")
        self.assertGreater(history["robust_implicit_ratio"][0], 0)

    @parameterized.parameters("eager", "xla", "replicas")
    def test_modes(self, mode):
        build, culprit = TWICE["activation"]
        self.assertIn(culprit, self.refused(build, FastBAT(), mode))
        if mode == "xla":  # It has this operation, and few of the others.
            train(build, FastBAT(implicit_gradient="finite_difference"), mode)

    def test_remedy_of_a_method_that_has_no_finite_difference(self):
        build, culprit = TWICE["nearest"]
        text = self.refused(build, GradAlign())
        self.assertIn("GradAlign differentiates twice", text)
        self.assertTrue(text.endswith(culprit), text)

    @parameterized.parameters(*SILENT)
    def test_what_is_missing_without_an_error(self, name):
        """TensorFlow treats that of a bilinear resize as zero."""
        layer, culprit = SILENT[name]

        def build():
            return beside(layer())

        for method in (FastBAT(), GradAlign()):
            text = self.refused(build, method)
            self.assertIn("cannot be differentiated twice", text)
            self.assertTrue(text.endswith(culprit), text)
            self.assertIn('FastBAT(implicit_gradient="finite', text)
        self.refused(build, FastBAT(), "eager")
        method = FastBAT(implicit_gradient="finite_difference")
        history = train(build, method, "eager")
        self.assertGreater(history["robust_implicit_ratio"][0], 0)

    def test_a_resize_that_has_all_its_second_derivatives(self):
        """That of a weight, such as a position embedding, does no harm."""

        class Embedding(layers.Layer):
            def build(self, shape):
                del shape
                self.places = self.add_weight(shape=(4, 4, 2))

            def call(self, x):
                return x * tf.image.resize(self.places, (8, 8))

        train(lambda: network(Embedding()), GradAlign())

    def test_not_once(self):
        def build():
            return resizing("area")

        text = self.refused(build, FastAT())
        self.assertIn("cannot be differentiated at all", text)
        self.assertTrue(text.endswith("layer=culprit (Resizing)"), text)
        data = testing.images_and_labels(4)
        labels = build().predict(data[0], verbose=0).argmax(-1)
        with self.assertRaisesRegex(InputError, "operation=ResizeArea"):
            evaluate_robustness(
                build(), (np.tile(data[0], (2, 1, 1, 1)), np.tile(labels, 2))
            )

    @parameterized.parameters(
        FastAT,
        FastBAT,
        lambda: FastBAT(
            linearization="random", implicit_gradient="finite_difference"
        ),
        LIET,
        FGSMUAP,
    )
    def test_logits_that_no_gradient_connects_to_the_images(self, method):
        text = self.refused(lambda: network(Rounding(name="culprit")), method())
        self.assertIn("gradient=None (it ends at culprit (Rounding))", text)

    def test_other_errors_of_a_network_are_left_alone(self):
        class Lookup(layers.Layer):
            def call(self, x):
                if tf.is_tensor(x) and x.shape[0] is not None:
                    raise LookupError("an error of its own")
                return x

        with self.assertRaisesRegex(LookupError, "an error of its own"):
            train(lambda: network(Lookup()), FastBAT(), "eager")


if __name__ == "__main__":
    tf.test.main()
