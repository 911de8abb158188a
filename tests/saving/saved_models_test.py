"""Tests SavedModels of others, which leave sizes open or fix them."""

import tempfile

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.errors import InputError
from fastbat_tf.evaluation.robustness import evaluate_robustness
from fastbat_tf.saving import saved_models
from fastbat_tf.saving.model_files import logits_of
from tests.evaluation.robustness_test import without_seconds
from tests.support.testing import images_and_labels, small_network

MODEL = small_network(normalization=keras.layers.BatchNormalization)
IMAGES, _ = images_and_labels(7)


def classify(images):
    images = tf.ensure_shape(tf.cast(images, tf.float32), (None, 8, 8, 3))
    return MODEL(images, training=False)


class SavedModelsTest(parameterized.TestCase, tf.test.TestCase):
    def save(self, function, shape, dtype=tf.float32):
        module = tf.Module()
        module.model = MODEL
        spec = tf.TensorSpec(shape, dtype, name="x")
        module.f = tf.function(function, [spec], autograph=False)
        path = self.enterContext(tempfile.TemporaryDirectory())
        tf.saved_model.save(module, path, {"serving_default": module.f})
        return path

    @parameterized.named_parameters(
        ("open_classes", (None, 8, 8, 3), True),
        ("open_sizes", (None, None, None, 3), False),
        ("open_rank", None, False),
        ("batch_of_one", (1, 8, 8, 3), False),
        ("batch_of_five", (5, 8, 8, 3), False),
        ("float64", (None, 8, 8, 3), False, tf.float64),
    )
    def test_same_as_the_model(self, shape, hides, dtype=tf.float32):
        def function(images):
            logits = classify(images)
            if hides:  # As graphs that were converted do.
                classes = tf.size(logits) // tf.shape(images)[0]
                logits = tf.reshape(logits, (-1, classes))
                self.assertIsNone(logits.shape[1])
            return {"logits": logits}

        path = self.save(function, shape, dtype)
        network = saved_models.read(path)
        expected = MODEL(IMAGES, training=False)
        self.assertAllClose(network(IMAGES), expected, 1e-5)
        labels = expected.numpy().argmax(-1)
        # FAB and Square need the number of classes while they are traced.
        attacks = ["fab-t-2", "square-5"]
        found, known = (
            without_seconds(
                evaluate_robustness(model, (IMAGES, labels), attacks, 0.1)
            )
            for model in (path, MODEL)
        )
        self.assertEqual(found["attacks"], known["attacks"])

    def test_integers(self):
        path = self.save(
            lambda x: {"y": classify(tf.cast(x, tf.float32) / 255)},
            (None, 8, 8, 3),
            tf.uint8,
        )
        with self.assertRaisesRegex(InputError, "floats.*: x=uint8$"):
            saved_models.read(path)

    def test_one_output_per_image(self):
        path = self.save(
            lambda x: {"y": tf.nn.sigmoid(classify(x)[:, :1])},
            (None, 8, 8, 3),
        )
        with self.assertRaisesRegex(InputError, r"two classes.*classes=1$"):
            evaluate_robustness(path, (IMAGES, np.arange(7) % 2), "fgsm")


class Softmax(keras.Model):
    """Probabilities by an operation of TensorFlow."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(4)

    def call(self, images):
        flat = tf.reshape(images, (-1, 8 * 8 * 3))
        return tf.nn.softmax(self.dense(flat))


class UnbuiltTest(tf.test.TestCase):
    def test_eager(self):
        """An eager call finds logits, as a traced one does."""
        model = Softmax()
        network = logits_of(model)
        eager = network(tf.constant(IMAGES))
        flat = IMAGES.reshape(7, -1)
        expected = tf.nn.log_softmax(model.dense(flat))
        self.assertAllClose(eager, expected, 1e-4)
        traced = tf.function(network, autograph=False)(tf.constant(IMAGES))
        self.assertAllClose(tf.nn.log_softmax(traced), expected, 1e-4)


if __name__ == "__main__":
    tf.test.main()
