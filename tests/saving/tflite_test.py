"""Tests the files for LiteRT, in float32 and in 8-bit integers."""

import os
import pathlib
import tempfile
import warnings
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized
from ai_edge_litert.interpreter import Interpreter

from fastbat_tf import load_data, models
from fastbat_tf.errors import InputError
from fastbat_tf.runtime import environment
from fastbat_tf.saving.export import export
from fastbat_tf.saving.formats import integer_graph, tflite_int8
from fastbat_tf.saving.litert_files import LiteRTNetwork
from tests.support.testing import small_network

CALIBRATION = r"^tflite_int8 expects `calibration`, .*\(examples, 8, 8, 3\).*"


def randomize(model):
    """Weights and statistics as after a training."""
    generator = np.random.default_rng(0)
    for weight in model.weights:
        if "variance" in weight.path or "gamma" in weight.path:
            weight.assign(generator.uniform(0.5, 1.5, weight.shape))
        elif any(name in weight.path for name in ("mean", "beta", "bias")):
            weight.assign(generator.normal(0, 0.3, weight.shape))


def pixels(count, size=8):
    generator = np.random.default_rng(1)
    return generator.integers(0, 256, (count, size, size, 3), np.uint8)


def as_floats(numbers):
    return numbers / np.float32(255)


class TFLiteTest(parameterized.TestCase, tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.directory = pathlib.Path(directory.name)
        cls.model = small_network(
            "swish", normalization=keras.layers.BatchNormalization
        )
        randomize(cls.model)
        cls.pixels = pixels(32)
        cls.files = {
            "tflite": export(cls.model, cls.directory / "floats", "tflite"),
            "tflite_int8": export(
                cls.model,
                cls.directory / "integers",
                "tflite_int8",
                calibration=as_floats(cls.pixels),
            ),
        }

    def serve(self, name):
        return Interpreter(self.files[name]).get_signature_runner(
            "serving_default"
        )

    @parameterized.parameters(1, 3, 32)
    def test_parity(self, count):
        images = as_floats(pixels(count))
        answer = self.serve("tflite")(images=images)
        logits = self.model(images).numpy()
        self.assertAllClose(answer["logits"], logits, rtol=0, atol=1e-6)
        self.assertAllClose(
            answer["probabilities"], tf.nn.softmax(logits), rtol=0, atol=1e-6
        )
        self.assertAllEqual(answer["classes"], logits.argmax(axis=-1))
        self.assertEqual(answer["classes"].dtype, np.int64)
        self.assertLen(answer, 3)

    @parameterized.parameters(1, 3, 32)
    def test_parity_of_integers(self, count):
        given = pixels(count)
        answer = self.serve("tflite_int8")(images=given)
        logits = self.model(as_floats(given)).numpy()
        # 0.8 % were measured; a wrong zero point or scale changes half of it.
        error = np.abs(answer["logits"] - logits).max() / np.ptp(logits)
        self.assertLess(error, 0.03)
        self.assertAllEqual(answer["classes"], answer["logits"].argmax(axis=-1))
        self.assertAllClose(
            answer["probabilities"],
            tf.nn.softmax(answer["logits"]),
            rtol=0,
            atol=1 / 256,
        )
        self.assertEqual(answer["logits"].dtype, np.float32)
        self.assertEqual(answer["classes"].dtype, np.int64)

    def test_pixels_of_8_bits(self):
        interpreter = Interpreter(self.files["tflite_int8"])
        (details,) = interpreter.get_input_details()
        self.assertEqual(details["dtype"], np.uint8)
        self.assertEqual(details["quantization"], (np.float32(1 / 255), 0))

    def test_weights_are_integers_by_channel(self):
        interpreter = Interpreter(self.files["tflite_int8"])
        weights = [
            details
            for details in interpreter.get_tensor_details()
            if details["dtype"] == np.int8
            and len(details["quantization_parameters"]["scales"]) == 4
        ]
        # Two convolutions of 4 filters, and a dense layer of 4 classes.
        self.assertLen(weights, 3)
        floats = [
            each["op_name"]
            for each in interpreter._get_ops_details()
            if each["op_name"].startswith(("Flex", "CUSTOM"))
        ]
        self.assertEmpty(floats)

    def test_no_answer_about_what_is_no_image(self):
        good = as_floats(pixels(6))
        images = good.copy()
        for row, value in enumerate([np.nan, np.inf, -np.inf, 1.01, -0.01]):
            images[row, 1, 2, 0] = value
        answer = self.serve("tflite")(images=images)
        self.assertAllEqual(answer["classes"][:5], np.full(5, -1))
        for name in ("logits", "probabilities"):
            self.assertTrue(np.isnan(answer[name][:5]).all())
        self.assertAllClose(
            answer["logits"][5:], self.model(good[5:]), rtol=0, atol=1e-6
        )
        rounded = good * np.float32(1 + 5e-6)  # The tolerance.
        self.assertAllGreater(
            self.serve("tflite")(images=rounded)["classes"], -1
        )

    @parameterized.product(
        name=("tflite", "tflite_int8"),
        shape=(
            (2, 8, 7, 3),
            (2, 8, 8, 1),
            (2, 1, 8, 3),
            (2, 4, 16, 3),  # As many numbers as two images have.
            (2, 3, 8, 8),
            (8, 8, 3),
        ),
    )
    def test_wrong_shapes(self, name, shape):
        serve = self.serve(name)
        dtype = np.float32 if name == "tflite" else np.uint8
        with self.assertRaises((ValueError, RuntimeError)):
            serve(images=np.zeros(shape, dtype))
        answer = serve(images=np.zeros((2, 8, 8, 3), dtype))
        self.assertEqual(answer["classes"].shape, (2,))

    @parameterized.parameters("tflite", "tflite_int8")
    def test_wrong_dtypes(self, name):
        for dtype in {np.float32, np.uint8, np.float64} - {
            np.float32 if name == "tflite" else np.uint8
        }:
            with self.assertRaisesRegex(ValueError, "type"):
                self.serve(name)(images=np.zeros((1, 8, 8, 3), dtype))

    @parameterized.named_parameters(
        ("none", None, "=None$"),
        ("rank", np.zeros((8, 8, 3), np.float32), r"shape=\(8, 8, 3\)$"),
        ("none_at_all", np.zeros((0, 8, 8, 3), np.float32), r"=\(0, 8, 8, 3"),
        ("size", np.zeros((2, 8, 9, 3), np.float32), r"shape=\(2, 8, 9, 3\)$"),
        ("dtype", np.zeros((2, 8, 8, 3), np.uint8), "dtype=uint8$"),
        ("range", np.full((2, 8, 8, 3), 2, np.float32), r"max=2\.0$"),
        ("nan", np.full((2, 8, 8, 3), np.nan, np.float32), "max=nan$"),
        ("ragged", [np.zeros((8, 8, 3)), np.zeros((2, 8, 3))], "inhomog.*$"),
    )
    def test_wrong_calibration(self, calibration, received):
        path = self.directory / "wrong"
        with self.assertRaisesRegex(InputError, CALIBRATION + received):
            export(self.model, path, "tflite_int8", calibration=calibration)
        self.assertNotIn("model.tflite", _files(path))

    def test_calibration_of_floats(self):
        with self.assertRaisesRegex(
            InputError, "^`calibration` applies only .* format=tflite$"
        ):
            export(
                self.model,
                self.directory / "wrong",
                "tflite",
                calibration=as_floats(self.pixels),
            )

    def test_calibration_without_black_and_white(self):
        """Pixels are whole numbers whatever the images of calibration."""
        gray = 0.25 + as_floats(self.pixels[:2]) / 2
        path = self.directory / "gray"
        file = export(self.model, path, "tflite_int8", calibration=gray)
        (details,) = Interpreter(str(file)).get_input_details()
        self.assertAllClose(details["quantization"], (1 / 255, 0))

    def test_operation_that_litert_lacks(self):
        inputs = keras.Input((8, 8, 3))
        x = keras.layers.Lambda(tf.math.atan)(inputs)
        x = keras.layers.GlobalAveragePooling2D()(x)
        model = keras.Model(inputs, keras.layers.Dense(4)(x))
        path = self.directory / "lacking"
        calibration = as_floats(self.pixels[:2])
        for name, images in (("tflite", None), ("tflite_int8", calibration)):
            with environment.captured_errors() as read:
                with self.assertRaisesRegex(
                    InputError,
                    "^The model cannot be converted for LiteRT, .* Received: "
                    f"format={name}, operation=Atan$",
                ):
                    export(model, path, name, calibration=images)
                self.assertEqual(read(), "")
        self.assertEmpty(_files(path))

    def test_other_errors(self):
        with (
            mock.patch.object(
                integer_graph, "prepare", side_effect=ValueError("One.\nTwo.")
            ),
            self.assertRaisesRegex(
                InputError,
                "^The model cannot be converted for LiteRT. Received: "
                r"format=tflite_int8 \(One.\)$",
            ),
        ):
            export(
                self.model,
                self.directory / "failing",
                "tflite_int8",
                calibration=as_floats(self.pixels[:2]),
            )

    def test_quiet(self):
        with (
            environment.captured_errors() as read,
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("error", UserWarning)
            os.write(2, b"seen")
            export(self.model, self.directory / "quiet", "tflite")
            self.assertEqual(read(), "seen")

    def test_disagreement(self):
        images = as_floats(self.pixels)

        def wrong(_, batch):
            logits = self.model(batch).numpy()
            return -logits

        with (
            mock.patch.object(LiteRTNetwork, "__call__", wrong),
            self.assertWarnsRegex(
                UserWarning, "In 8-bit integers, 0 of 32 images .* keep"
            ),
        ):
            network = LiteRTNetwork(self.files["tflite_int8"].read_bytes())
            tflite_int8._compare(
                network,
                lambda batch: {"classes": tf.argmax(self.model(batch), -1)},
                images,
            )


class TrainedTest(tf.test.TestCase):
    def test_integers_keep_the_classes(self):
        """Of 400 images of CIFAR-10, with a network of a few seconds."""
        (images, labels), (others, truth), _ = load_data("cifar10_mini")
        keras.utils.set_random_seed(0)
        model = small_network("relu", size=32, classes=10, width=8)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.005), loss)
        model.fit(images, labels, verbose=0)
        classes = model(others).numpy().argmax(axis=-1)
        self.assertGreater((classes == truth).mean(), 0.25)
        path = export(
            model, self.get_temp_dir(), "tflite_int8", calibration=images[:200]
        )
        serve = Interpreter(path).get_signature_runner()
        given = np.rint(255 * others).astype(np.uint8)
        same = (serve(images=given)["classes"] == classes).mean()
        # 387 were measured; with a wrong scale of the input, 106.
        self.assertGreater(same, 0.93)
        halved = (serve(images=given // 2)["classes"] == classes).mean()
        self.assertLess(halved, 0.6)


class IntegerGraphTest(parameterized.TestCase, tf.test.TestCase):
    """What is replaced has the same values."""

    def prepare(self, model, size):
        spec = tf.TensorSpec((None, size, size, 3), tf.float32, name="images")
        exact = tf.function(
            lambda images: {"logits": model(images, training=False)},
            [spec],
            autograph=False,
        )
        prepared = integer_graph.prepare(exact)
        images = as_floats(pixels(4, size))
        self.assertAllClose(
            prepared(images)["logits"],
            exact(images)["logits"],
            rtol=1e-6,
            atol=1e-6,
        )
        graph = prepared.get_concrete_function().graph
        return {operation.type for operation in graph.get_operations()}

    def test_softplus(self):
        operations = self.prepare(small_network("softplus"), 8)
        self.assertNotIn("Softplus", operations)
        self.assertIn("Sigmoid", operations)

    def test_softplus_of_large_numbers(self):
        function = tf.function(
            lambda x: {"y": tf.nn.softplus(x)},
            [tf.TensorSpec((None,), tf.float32)],
        )
        numbers = np.array([-200, -20, -1, 0, 1, 20, 200], np.float32)
        self.assertAllClose(
            integer_graph.prepare(function)(numbers)["y"],
            tf.nn.softplus(numbers),
            rtol=1e-6,
            atol=1e-7,
        )

    @parameterized.parameters(15, 16)
    def test_padding_of_a_maximum(self, size):
        inputs = keras.Input((size, size, 3))
        edges = ((0, 0), (1, 1), (1, 1), (0, 0))
        x = keras.ops.pad(inputs - 1, edges, constant_values=-np.inf)
        x = keras.layers.MaxPooling2D(3, 2)(x)
        operations = self.prepare(keras.Model(inputs, x), size)
        self.assertIn("MirrorPad", operations)
        self.assertNotIn("PadV2", operations)

    def test_infinity(self):
        inputs = keras.Input((8, 8, 3))
        edges = ((0, 0), (2, 2), (2, 2), (0, 0))
        x = keras.ops.pad(inputs, edges, constant_values=-np.inf)
        # Some windows see nothing but the padding.
        x = keras.layers.MaxPooling2D(2, 2)(x)
        with self.assertRaisesRegex(
            InputError, r"cannot express infinity .* operation=PadV2 \("
        ):
            self.prepare(keras.Model(inputs, x), 8)


class ZooTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.product(
        name=("resnet18", "resnet50", "preact_resnet18", "wrn10_1"),
        activation=("relu", "softplus", "swish"),
        stem=("cifar", "imagenet"),
    )
    @pytest.mark.quick("wrn10_1 relu imagenet")
    def test_network(self, name, activation, stem):
        options = {"dropout": 0.3} if "wrn" in name else {"width": 4}
        keras.utils.set_random_seed(0)
        model = models.get(
            name,
            num_classes=10,
            activation=activation,
            stem=stem,
            mean=[0.5] * 3,
            std=[0.25] * 3,
            **options,
        )
        randomize(model)
        given = pixels(40, 32)
        images = as_floats(given)
        logits = model(images, training=False).numpy()
        path = self.get_temp_dir()
        file = export(model, path, "tflite")
        measured = LiteRTNetwork(file.read_bytes())(images)
        scale = np.abs(logits).max()
        self.assertAllClose(measured, logits, rtol=0, atol=3e-6 * scale)
        with warnings.catch_warnings():
            # Random networks give nearly the same logits to all images.
            warnings.filterwarnings("ignore", "In 8-bit integers", UserWarning)
            file = export(model, path, "tflite_int8", calibration=images)
        measured = LiteRTNetwork(file.read_bytes())(images)
        # At most 7 % were measured.
        self.assertLess(np.abs(measured - logits).max(), 0.12 * scale)


def _files(path):
    return sorted(file.name for file in path.glob("*")) if path.exists() else []


if __name__ == "__main__":
    tf.test.main()
