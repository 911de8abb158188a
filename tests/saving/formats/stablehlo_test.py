"""The StableHLO of a classifier."""

import json
import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from fastbat_tf.errors import InputError
from fastbat_tf.saving.export import export
from fastbat_tf.saving.model_info import ModelInfo
from tests.support.served_formats import load
from tests.support.served_models import images_of


def dense(shape=(4, 4, 3), operation=None):
    inputs = keras.Input(shape)
    x = layers.Lambda(operation)(inputs) if operation else inputs
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(3, name="head")(x))


class StablehloTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        folder = self.enterContext(tempfile.TemporaryDirectory())
        self.folder = pathlib.Path(folder, "exported")

    def test_files(self):
        model = dense()
        info = ModelInfo("demo", class_names="abc", method="fastbat")
        path = export(model, self.folder, "stablehlo", batch_size=2, info=info)
        text = path.read_text()
        self.assertIn("stablehlo.dot", text)
        # Nothing of other dialects, and no paths of this machine.
        self.assertNotRegex(text, r"mhlo\.|chlo\.|loc\(|\.py")
        description = json.loads((self.folder / "model.json").read_text())
        facts = description.pop("info")
        self.assertEqual(facts.pop("class_names"), [*"abc"])
        self.assertContainsSubset(["method", "version"], facts)
        self.assertEqual(
            description,
            {
                "file": "model.mlir",
                "inputs": [
                    {
                        "argument": "images",
                        "shape": [2, 4, 4, 3],
                        "dtype": "float32",
                    },
                    {"state": "head/kernel"},
                    {"state": "head/bias"},
                ],
                "outputs": [
                    {"result": "classes", "shape": [2], "dtype": "int64"},
                    {"result": "logits", "shape": [2, 3], "dtype": "float32"},
                    {
                        "result": "probabilities",
                        "shape": [2, 3],
                        "dtype": "float32",
                    },
                ],
            },
        )
        with np.load(self.folder / "weights.npz") as weights:
            self.assertAllEqual(weights["head/kernel"], model.weights[0])
            self.assertLen(weights.files, 2)

    def test_weights_of_one_path(self):
        """Parts that were built apart have weights of the same path."""
        parts = [dense(), dense()]
        inputs = keras.Input((4, 4, 3))
        outputs = layers.Subtract()([part(inputs) for part in parts])
        model = keras.Model(inputs, outputs)
        path = export(model, self.folder, "stablehlo", batch_size=3)
        images = images_of((4, 4, 3), 3)
        found = load("stablehlo", path)(images)["logits"]
        self.assertAllClose(found, model(images), atol=1e-6)
        self.assertGreater(np.abs(found).max(), 1e-3)

    def test_refused(self):
        for model, message in (
            (dense((None, 4, 3)), r"fixed size.*shape=\(None, 4, 3\)$"),
            (
                dense(
                    operation=lambda x: tf.reshape(
                        tf.strings.to_number(tf.strings.as_string(x)),
                        (-1, 4, 4, 3),
                    )
                ),
                "XLA can compile.*Received: ",
            ),
        ):
            with self.assertRaisesRegex(InputError, message) as caught:
                export(model, self.folder, "stablehlo")
            self.assertNotIn("\n", str(caught.exception))
            self.assertFalse(self.folder.exists())


if __name__ == "__main__":
    tf.test.main()
