"""Tests the networks of `keras.applications`."""

import warnings

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from keras.src.applications import convnext

from fastbat_tf import FastBAT, RobustClassifier, models
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

    @parameterized.parameters(
        lambda: models.get("keras:MobileNetV3Small", **NORMALIZED),
        lambda: convnext.ConvNeXt(  # The smallest one has 28 million weights.
            depths=(1, 1, 1, 1),
            projection_dims=(4, 4, 8, 8),
            weights=None,
            input_shape=(32, 32, 3),
            classes=10,
            classifier_activation=None,
        ),
    )
    def test_one_step_of_a_method_that_differentiates_twice(self, build):
        """With Keras' BatchNormalization, and with its LayerNormalization."""
        keras.utils.set_random_seed(0)
        model = build()
        robust = RobustClassifier(model, FastBAT())
        self.assertIs(robust.classifier, model)
        robust.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
        images, labels = testing.images_and_labels(4, size=32)
        kernel = next(
            v for v in model.trainable_variables if v.path.endswith("kernel")
        )
        before = kernel.numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            logs = robust.train_on_batch(images, labels, return_dict=True)
        self.assertTrue(np.isfinite(list(logs.values())).all(), logs)
        self.assertGreater(logs["robust_implicit_ratio"], 0)
        self.assertNotAllClose(before, kernel, 0, 1e-9)


if __name__ == "__main__":
    tf.test.main()
