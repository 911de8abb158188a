"""Tests the networks of `keras.applications`."""

import warnings

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import models
from fastbat_tf import BatchNormalization, FastAT, FastBAT, RobustClassifier
from fastbat_tf.layers import conversion
from tests.support import testing

NORMALIZED = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3)}


class ApplicationsTest(tf.test.TestCase, parameterized.TestCase):
    def test_all_of_them_are_known(self):
        functions = {
            name
            for name in dir(keras.applications)
            if name[0].isupper() and callable(getattr(keras.applications, name))
        }
        self.assertEqual(functions, set(models.APPLICATIONS))

    @parameterized.parameters(
        ("MobileNet", 32),
        ("MobileNetV2", 32),
        ("MobileNetV3Small", 32),
        ("EfficientNetB0", 32),
        ("EfficientNetV2B0", 32),
        ("ResNet50V2", 32),
        ("ConvNeXtTiny", 32),
        ("Xception", 71),
    )
    def test_forward(self, application, size):
        """Logits of the smallest images, with pixels in [0, 1]."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model = models.get(
                f"keras:{application}",
                num_classes=7,
                input_shape=(size, size, 3),
                **NORMALIZED,
            )
            images, _ = testing.images_and_labels(2, size=size)
            logits = model(images, training=True)
        self.assertEqual(logits.shape, (2, 7))
        self.assertAllInRange(logits, -1e3, 1e3)
        self.assertNotAllClose(tf.reduce_sum(tf.abs(logits), -1), [1.0, 1.0])
        self.assertEqual(model.layers[1].name, "normalization")
        self.assertEqual(model.input_shape, (None, size, size, 3))

    def test_pixels_reach_the_network_as_they_are(self):
        """The first convolution reads the normalized pixels, undivided."""
        images, _ = testing.images_and_labels(2, size=32)
        mean, std = map(np.array, NORMALIZED.values())
        expected = ((images - mean) / std).sum((1, 2))
        for application in ("EfficientNetB0", "MobileNetV3Small"):
            model = models.get(f"keras:{application}", **NORMALIZED)
            network = model.layers[-1]
            convolution = next(
                layer
                for layer in network.layers
                if isinstance(layer, keras.layers.Conv2D)
            )
            before = keras.Model(model.input, model.layers[-2].output)
            inside = keras.Model(network.input, convolution.input)
            seen = inside(before(images))
            # The edges may be padded with zeros.
            self.assertAllClose(
                tf.reduce_sum(seen, (1, 2)), expected, 1e-4, 1e-2
            )

    def test_one_step_of_a_method_that_differentiates_twice(self):
        keras.utils.set_random_seed(0)
        model = models.get("keras:MobileNetV3Small", **NORMALIZED)
        norms = [
            layer.name
            for layer in conversion.flatten(model)
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        self.assertNotEmpty(norms)
        with self.assertWarnsRegex(
            UserWarning, f"^{len(norms)} BatchNormalization layers of Keras"
        ) as caught:
            robust = RobustClassifier(model, FastBAT())
        self.assertLen(caught.warnings, 1)
        converted = [
            layer.name
            for layer in conversion.flatten(robust.classifier)
            if isinstance(layer, BatchNormalization)
        ]
        self.assertEqual(converted, norms)
        images, labels = testing.images_and_labels(4, size=32)
        self.assertAllClose(
            robust(images, training=False), model(images, training=False)
        )
        robust.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
        kernel = model.layers[-1].get_layer("conv").kernel
        before = kernel.numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            logs = robust.train_on_batch(images, labels, return_dict=True)
        self.assertTrue(np.isfinite(list(logs.values())).all(), logs)
        self.assertNotAllClose(before, kernel, 0, 1e-9)

    def test_another_normalization(self):
        model = models.get("keras:ConvNeXtTiny")
        with self.assertRaisesRegex(
            ValueError, "differentiates twice.* Received: .*LayerNormalization"
        ):
            RobustClassifier(model, FastBAT())
        self.assertIs(RobustClassifier(model, FastAT()).classifier, model)


if __name__ == "__main__":
    tf.test.main()
