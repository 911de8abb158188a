"""Tests the requests with which TensorFlow Serving warms a model up."""

import importlib.util
import pathlib
import tempfile
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from fastbat_tf.runtime import display
from fastbat_tf.saving.export import export
from fastbat_tf.saving.serving_warm_up import FILE
from tests.support import tf_serving


def pooled(shape):
    """A classifier of images of a shape."""
    inputs = keras.Input(shape)
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


class WarmUpTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        top = self.enterContext(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(top, "model")
        self.notes = self.enterContext(mock.patch.object(display, "note"))

    def replayed(self):
        """The requests, after the model has answered each."""
        # Uncompressed, as the server reads it.
        records = tf.data.TFRecordDataset(str(self.path / FILE))
        loaded = tf.saved_model.load(self.path)
        requests = []
        for record in records.as_numpy_iterator():
            log = prediction_log_pb2.PredictionLog.FromString(record)
            self.assertEqual(log.WhichOneof("log_type"), "predict_log")
            request = log.predict_log.request
            answer = tf_serving.predict(loaded.signatures, request)
            logits = tf.make_ndarray(answer.outputs["logits"])
            self.assertTrue(np.isfinite(logits).all())
            (tensor,) = request.inputs.values()
            name = request.model_spec.signature_name
            requests.append((name, tf.make_ndarray(tensor)))
        return requests

    def test_each_signature(self):
        export(pooled((8, 6, 3)), self.path, warm_up=True)
        requests = self.replayed()
        self.assertEqual(
            [(name, array.shape) for name, array in requests],
            [
                ("serving_default", (2, 8, 6, 3)),
                ("serve_uint8", (2, 8, 6, 3)),
                ("serve_bytes", (2,)),
                ("serve_bytes", (1,)),
            ],
        )
        photograph = requests[-1][1][0]
        self.assertStartsWith(photograph, b"\xff\xd8")
        self.assertEqual(tf.io.decode_jpeg(photograph).shape, (256, 320, 3))
        self.assertGreater(np.ptp(requests[1][1]), 100)
        self.notes.assert_not_called()

    def test_gray(self):
        export(pooled((8, 8, 1)), self.path, warm_up=True)
        self.assertLen(self.replayed(), 4)

    def test_no_files(self):
        export(pooled((None, None, 2)), self.path, warm_up=True)
        names = [name for name, _ in self.replayed()]
        self.assertEqual(names, ["serving_default", "serve_uint8"])
        self.notes.assert_not_called()

    def test_images_that_the_network_does_not_take(self):
        """The server would not serve the model at all."""
        inputs = keras.Input((None, None, 2))
        x = keras.layers.Reshape((72,))(inputs)
        model = keras.Model(inputs, keras.layers.Dense(3)(x))
        export(model, self.path, warm_up=True)
        self.assertEqual(self.replayed(), [])
        notes = [call.args[0] for call in self.notes.call_args_list]
        self.assertLen(notes, 2)
        for note in notes:
            self.assertRegex(note, r"does not take images of .*\(224, 224, 2\)")

    def test_not_installed(self):
        find = importlib.util.find_spec

        def find_others(name, *arguments):
            missing = name == "tensorflow_serving"
            return None if missing else find(name, *arguments)

        with mock.patch.object(importlib.util, "find_spec", find_others):
            export(pooled((8, 8, 3)), self.path, warm_up=True)
        self.notes.assert_called_once()
        (note,) = self.notes.call_args.args
        self.assertIn('pip install "fastbat_tf[export]"', note)
        self.assertNotIn("\n", note)
        self.assertFalse((self.path / FILE).exists())
        self.assertTrue((self.path / "saved_model.pb").exists())

    def test_only_if_wanted(self):
        export(pooled((8, 8, 3)), self.path)
        self.assertFalse((self.path / FILE.parent).exists())
        self.notes.assert_not_called()


if __name__ == "__main__":
    tf.test.main()
