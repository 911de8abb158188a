"""The ONNX file."""

import json
import pathlib
import tempfile
from unittest import mock

import keras
import onnx
import tensorflow as tf
from keras import layers

from fastbat_tf.errors import InputError
from fastbat_tf.saving.export import export
from fastbat_tf.saving.formats import onnx as onnx_format
from fastbat_tf.saving.model_info import ModelInfo

INFO = ModelInfo(
    "tést",
    class_names=("cat", "dög", "bird"),
    method="fastbat",
    norm="linf",
    epsilon=8 / 255,
)


class OnnxTest(tf.test.TestCase):
    def export(self, layer, shape=(8, 8, 3)):
        folder = self.enterContext(tempfile.TemporaryDirectory())
        inputs = keras.Input(shape)
        x = layers.Normalization(mean=[0.5] * 3, variance=[0.1] * 3)(inputs)
        x = layers.GlobalAveragePooling2D()(layer(x))
        model = keras.Model(inputs, layers.Dense(3)(x))
        path = pathlib.Path(folder, "exported")
        return onnx.load(export(model, path, "onnx", info=INFO))

    def test_file(self):
        with self.assertNoLogs("tensorflow"), self.assertNoLogs("tf2onnx"):
            model = self.export(layers.Conv2D(2, 3), (None, None, 3))
        (opset,) = (o.version for o in model.opset_import if not o.domain)
        self.assertEqual(opset, onnx_format.OPSET)
        values = {
            value.name: [
                size.dim_param or size.dim_value
                for size in value.type.tensor_type.shape.dim
            ]
            for value in (*model.graph.input, *model.graph.output)
        }
        # The mean of the normalization is no input.
        self.assertEqual(
            list(values.items()),
            [
                ("images", ["batch", "height", "width", 3]),
                ("logits", ["batch", 3]),
                ("probabilities", ["batch", 3]),
                ("classes", ["batch"]),
            ],
        )
        facts = {entry.key: entry.value for entry in model.metadata_props}
        self.assertEqual(
            json.loads(facts.pop("class_names")), [*INFO.class_names]
        )
        self.assertEqual(float(facts.pop("epsilon")), 8 / 255)
        self.assertRegex(facts.pop("version"), r"^\d+\.\d+")
        self.assertEqual(facts, {"method": "fastbat", "norm": "linf"})

    def test_an_unknown_operation(self):
        layer = layers.Lambda(lambda x: tf.math.igamma(x * x + 1.0, x * x))
        with self.assertRaisesRegex(
            InputError, r"^A model that ONNX can.*Received: operations=Igamma$"
        ):
            self.export(layer)

    def test_a_large_model(self):
        with (
            mock.patch.object(onnx_format, "LARGEST", 100),
            self.assertRaisesRegex(InputError, "less than 2 GiB.* GiB$"),
        ):
            self.export(layers.Conv2D(2, 3))


if __name__ == "__main__":
    tf.test.main()
