"""The Keras file is loaded by Keras alone."""

import pathlib
import subprocess
import sys
import tempfile
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from fastbat_tf import RobustClassifier, Standard
from fastbat_tf.errors import InputError
from fastbat_tf.layers import FusedBatchNormalization
from fastbat_tf.saving.export import export
from tests.support.served_models import SERVED_MODELS, images_of, rich

# Runs in an isolated interpreter, which cannot import this package.
CLIENT = """
    import pathlib
    import sys
    import keras
    import numpy as np

    for folder in pathlib.Path(sys.argv[1]).iterdir():
        model = keras.saving.load_model(folder / "model.keras")
        images = np.load(folder / "images.npy")
        np.save(folder / "logits.npy", model(images, training=False))
        assert not model.compiled
    assert not {"fastbat_tf", "models"} & set(sys.modules)
"""


def ask_alone(folder):
    """Answers of the models in the folders of a folder."""
    subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(CLIENT), folder],
        check=True,
        capture_output=True,
    )


@keras.saving.register_keras_serializable("keras_file_test")
class Subclassed(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.normalization = FusedBatchNormalization()
        self.dense = layers.Dense(3)

    def call(self, images, training=None):
        x = self.normalization(images, training=training)
        return self.dense(layers.Flatten()(x))


class KerasFileTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory())
        )

    def export(self, model, name="exported"):
        return export(model, self.folder / name, "keras")

    @pytest.mark.slow
    def test_keras_alone(self):
        """Also the zoo's layers and its softplus."""
        wanted = {}
        for name in ("rich", "wrn", "range"):
            model = SERVED_MODELS[name]()
            self.export(model, name)
            robust = isinstance(model, RobustClassifier)
            classifier = model.classifier if robust else model
            images = images_of(classifier.input_shape[1:])
            np.save(self.folder / name / "images.npy", images)
            pixels = 255 * images if robust else images
            wanted[name] = classifier(pixels, training=False)
        ask_alone(self.folder)
        for name, logits in wanted.items():
            found = np.load(self.folder / name / "logits.npy")
            self.assertAllClose(found, logits, 1e-5, 1e-5)

    def test_layers(self):
        """Layers of Keras take the place of ours; the model stays as it is."""
        model = rich()
        model.layers[-1].trainable = False
        before = [layer.name for layer in model.layers]
        config = model.get_config()
        loaded = keras.models.load_model(self.export(model))
        self.assertEqual(model.get_config(), config)
        self.assertAllEqual([layer.name for layer in model.layers], before)
        for layer in loaded.layers:
            self.assertStartsWith(type(layer).__module__, "keras.")
        names = [layer.name for layer in model.layers if layer.weights]
        self.assertContainsSubset(names, [x.name for x in loaded.layers])
        for name in names:
            ours, theirs = model.get_layer(name), loaded.get_layer(name)
            self.assertEqual(ours.trainable, theirs.trainable)
            for weight, other in zip(ours.weights, theirs.weights, strict=True):
                self.assertAllEqual(weight, other)

    def test_without_training(self):
        model = keras.Sequential(
            [
                keras.Input((4, 4, 3)),
                FusedBatchNormalization(),
                layers.Flatten(),
                layers.Dense(3),
            ]
        )
        model.compile("adam", "mse")
        model.fit(np.ones((2, 4, 4, 3)), np.ones((2, 3)), verbose=0)
        loaded = keras.models.load_model(self.export(model))
        self.assertFalse(loaded.compiled)
        images = images_of((4, 4, 3))
        self.assertAllClose(loaded(images), model(images, training=False))

    def test_an_adapted_normalization(self):
        """Its statistics are weights, which are used from the first call."""
        images = images_of((4, 4, 3))
        normalization = layers.Normalization()
        normalization.adapt(images)
        model = keras.Sequential(
            [
                keras.Input((4, 4, 3)),
                normalization,
                layers.Flatten(),
                layers.Dense(3),
            ]
        )
        loaded = keras.models.load_model(self.export(model))
        self.assertAllClose(loaded(images), model(images))

    def test_a_class_of_the_user(self):
        model = Subclassed()
        images = images_of((4, 4, 3))
        expected = model(images)
        model.compile("adam", "mse")
        for low, high in ((0, 255), (-1, 1)):
            robust = RobustClassifier(
                model, Standard(), pixel_range=(low, high)
            )
            loaded = keras.models.load_model(self.export(robust))
            unit = (images - low) / (high - low)
            self.assertAllClose(loaded(unit), expected, atol=1e-5)
            self.assertFalse(loaded.compiled)

    def test_refused(self):
        unknown = type("Unknown", (layers.Layer,), {"call": lambda self, x: x})
        for layer, message in (
            (layers.Lambda(lambda x: 2 * x), "Received: .*Lambda"),
            (
                layers.Conv2D(3, 1, activation=lambda x: 2 * x),
                "Received: .*lambda",
            ),
            (unknown(), "Received: class=Unknown, which is not registered$"),
        ):
            model = keras.Sequential(
                [
                    keras.Input((4, 4, 3)),
                    layer,
                    layers.Flatten(),
                    layers.Dense(3),
                ]
            )
            with self.assertRaisesRegex(InputError, message) as caught:
                self.export(model)
            self.assertNotIn("\n", str(caught.exception))
            self.assertLess(len(str(caught.exception)), 300)


if __name__ == "__main__":
    tf.test.main()
