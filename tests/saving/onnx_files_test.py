"""ONNX files of this and other programs are measured."""

import pathlib
import sys
import tempfile
from unittest import mock

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from absl.testing import parameterized
from onnx import TensorProto, helper, numpy_helper

from fastbat_tf.errors import InputError
from fastbat_tf.evaluation.robustness import evaluate_robustness
from fastbat_tf.saving import model_files
from fastbat_tf.saving.export import export
from tests.evaluation.robustness_test import without_seconds
from tests.support.served_models import images_of

SHAPE = (4, 6, 3)
WEIGHTS = np.random.default_rng(0).normal(size=(72, 5)).astype(np.float32)
IMAGES = images_of(SHAPE, 7)
FIRST = (None, 3, 4, 6)  # Channels first, as in PyTorch.
LAST = (None, 4, 6, 3)


def expected(images, shape=LAST):
    if shape[1] == 3:
        images = images.transpose(0, 3, 1, 2)
    return images.reshape(len(images), -1) @ WEIGHTS


def linear(shape=LAST, dtype=TensorProto.FLOAT, outputs=("logits",), **more):
    """A linear classifier as an ONNX model.

    Args:
        shape: Sizes of its input; None and strings are open.
        dtype: Type of its input.
        outputs: Names of its outputs, which are all logits.
        **more: Lists of further `inputs` of the graph.
    """
    type_of_weights = TensorProto.FLOAT if dtype == TensorProto.UINT8 else dtype
    sizes = [n for n in shape[1:] if isinstance(n, int)]
    count = np.prod(sizes) if len(sizes) == 3 else len(WEIGHTS)
    of_weights = helper.tensor_dtype_to_np_dtype(type_of_weights)
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=type_of_weights),
        helper.make_node("Flatten", ["x"], ["flat"]),
        *(helper.make_node("MatMul", ["flat", "w"], [o]) for o in outputs),
    ]
    if dtype == TensorProto.UINT8:
        nodes[0:1] = [
            helper.make_node("Cast", ["images"], ["y"], to=1),
            helper.make_node("Div", ["y", "most"], ["x"]),
        ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "linear",
        [value("images", dtype, shape), *more.get("inputs", ())],
        [value(o, type_of_weights, (shape[0], 5)) for o in outputs],
        [
            numpy_helper.from_array(WEIGHTS[:count].astype(of_weights), "w"),
            numpy_helper.from_array(np.float32(255), "most"),
        ],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    )


class OnnxFilesTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory())
        )
        self.path = self.folder / "model.onnx"

    def read(self, model):
        onnx.save(model, self.path)
        return model_files.load(self.path)

    @parameterized.parameters(
        (LAST,),
        (FIRST,),
        ((2, 3, 4, 6),),
        ((16, 4, 6, 3),),
        ((1, 4, 6, 3),),
        (("n", 3, "h", "w"),),
        (("n", "h", "w", 3),),
    )
    def test_layouts(self, shape):
        network = self.read(linear(shape))
        for images in (IMAGES, IMAGES[:1]):
            self.assertAllClose(
                network(images), expected(images, shape), atol=1e-5
            )

    @parameterized.parameters(
        ((None, 3, 3, 3), (1, 3, 3, 3)), (("n", "h", "w", "c"), (7, *SHAPE))
    )
    def test_ambiguous_layouts(self, shape, size):
        network = self.read(linear(shape))
        with self.assertRaisesRegex(InputError, "channels are first or last"):
            network(np.zeros(size, np.float32))

    @parameterized.parameters(
        (TensorProto.FLOAT16, 1e-2), (TensorProto.DOUBLE, 1e-5)
    )
    def test_other_floats(self, dtype, atol):
        logits = self.read(linear(dtype=dtype))(IMAGES)
        self.assertDTypeEqual(logits, np.float32)
        self.assertAllClose(logits, expected(IMAGES), atol=atol, rtol=atol)

    def test_integers(self):
        """Pixels in 0..255, rounded."""
        pixels = np.rint(255 * IMAGES)
        shifted = ((pixels + 0.3) / 255).clip(0, 1).astype(np.float32)
        network = self.read(linear(dtype=TensorProto.UINT8))
        self.assertAllClose(network(shifted), expected(pixels / 255), atol=1e-4)

    @parameterized.parameters(
        (("scores",), 0), (("logits", "scores"), 0), (("a", "logits"), 1)
    )
    def test_outputs(self, names, index):
        del index
        network = self.read(linear(outputs=names))
        self.assertAllClose(network(IMAGES), expected(IMAGES), atol=1e-5)

    def test_shapes_that_do_not_fit(self):
        network = self.read(linear())
        for images in (
            IMAGES[:, :3],
            IMAGES[..., :1],
            IMAGES[0],
            IMAGES[:0],
            IMAGES.transpose(0, 2, 1, 3),
        ):
            with self.assertRaisesRegex(
                InputError, r"\['None'|images of the shape .*Received: images"
            ):
                network(images)

    def assert_refused(self, message):
        with self.assertRaisesRegex(InputError, message) as caught:
            model_files.load(self.path)
        self.assertIn("Received: ", str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))

    @parameterized.parameters(b"", b"No model.\n", None)
    def test_no_model(self, content):
        half = linear().SerializeToString()[:500]
        self.path.write_bytes(half if content is None else content)
        self.assert_refused("^The ONNX file cannot be read. Received: model_pa")

    def test_classifiers_only(self):
        value = helper.make_tensor_value_info("t", TensorProto.FLOAT, ())
        for model, message in (
            (linear(outputs=("a", "b")), "output logits.*outputs=a: .*, b: "),
            (linear(inputs=[value]), "one input.*Received: inputs=images.*t: "),
            (linear((None, 72)), "with 4 sizes.*inputs=images: .*72"),
            (linear(dtype=TensorProto.INT32), "of the type float16.*int32"),
        ):
            with self.subTest(message):
                onnx.save(model, self.path)
                self.assert_refused(message)

    def test_operations_of_others(self):
        model = linear()
        model.graph.node[1].domain = "com.example"
        model.opset_import.append(helper.make_opsetid("com.example", 1))
        onnx.save(model, self.path)
        self.assert_refused(r"cannot be read.*com\.example")

    def test_weights_elsewhere(self):
        """A file reads no other files than those in its directory."""
        inside = self.folder / "model"
        inside.mkdir()
        (self.folder / "secret").write_bytes(WEIGHTS.tobytes())
        (inside / "weights").write_bytes(WEIGHTS.tobytes())
        (inside / "link").symlink_to("../secret")
        self.path = inside / "model.onnx"
        for location, message in (
            ("weights", None),
            ("../secret", "escapes model directory"),
            ("link", "escapes model directory"),
            (str(self.folder / "secret"), "Absolute path not allowed"),
            ("missing", "does not exist"),
        ):
            with self.subTest(location):
                model = linear()
                weights = model.graph.initializer[0]
                weights.ClearField("raw_data")
                weights.data_location = TensorProto.EXTERNAL
                weights.external_data.add(key="location", value=location)
                self.path.write_bytes(model.SerializeToString())
                if message:
                    self.assert_refused(f"cannot be read.*{message}")
                else:
                    found = model_files.load(self.path)(IMAGES)
                    self.assertAllClose(found, expected(IMAGES), atol=1e-5)

    def test_without_the_runtime(self):
        onnx.save(linear(), self.path)
        with mock.patch.dict(sys.modules, {"onnxruntime": None}):
            self.assert_refused(r'pip install "fastbat_tf\[export\]"')

    def test_a_failing_session(self):
        """What the runtime raises about images is one line, too."""
        network = self.read(linear(("n", "h", "w", 3)))
        with self.assertRaisesRegex(
            InputError, r"^The ONNX file cannot classify.*\(1, 5, 5, 3\)"
        ) as caught:
            network(np.zeros((1, 5, 5, 3), np.float32))
        self.assertNotIn("\n", str(caught.exception))


class EvaluationTest(parameterized.TestCase, tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.folder = pathlib.Path(directory.name)
        inputs = keras.Input(SHAPE)
        flat = keras.layers.Flatten()(inputs)
        dense = keras.layers.Dense(5)
        cls.model = keras.Model(inputs, dense(flat))
        dense.kernel.assign(WEIGHTS)
        cls.path = export(cls.model, cls.folder / "exported", "onnx")
        cls.labels = expected(IMAGES).argmax(-1)

    def evaluate(self, model, attacks, **options):
        results = evaluate_robustness(
            model, (IMAGES, self.labels), attacks, [0.02, 0.05], **options
        )
        results.pop("model", None)
        return without_seconds(results)

    def test_square(self):
        """It finds what it finds on the model itself."""
        found = self.evaluate(self.path, "square-50")
        self.assertEqual(found["clean_accuracy"], 1.0)
        self.assertLess(found["attacks"][1]["robust_accuracy"], 1.0)
        wanted = self.evaluate(self.model, "square-50")
        self.assertEqual(found["attacks"], wanted["attacks"])

    @pytest.mark.slow
    def test_transfer(self):
        found, wanted = (
            self.evaluate(model, "transfer-pgd-5-1", surrogate=self.model)
            for model in (self.path, self.model)
        )
        self.assertEqual(found["attacks"], wanted["attacks"])
        self.assertLess(found["attacks"][1]["robust_accuracy"], 1.0)

    @pytest.mark.slow
    def test_resumed(self):
        whole = self.evaluate(self.path, ["square-50"])
        directory = self.folder / "results"
        self.evaluate(self.path, ["square-50"], directory=directory)
        again = self.evaluate(self.path, ["square-50"], directory=directory)
        self.assertEqual(again["attacks"], whole["attacks"])

    @parameterized.parameters("pgd-2-1", "autoattack")
    def test_attacks_by_gradients(self, attack):
        with self.assertRaisesRegex(
            InputError,
            "Received: model without gradient .ONNX Runtime.*by square, or",
        ) as caught:
            self.evaluate(self.path, attack)
        self.assertNotIn("\n", str(caught.exception))


if __name__ == "__main__":
    tf.test.main()
