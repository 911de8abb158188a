"""Tests a SavedModel behind TensorFlow Serving's protocol.

The requests and answers are those of docs/serving.md.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
from concurrent import futures
from unittest import mock

import grpc
import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

import fastbat_tf
from fastbat_tf.saving.export import export
from fastbat_tf.saving.model_info import ModelInfo
from tests.support import session_signatures, tf_serving
from tests.support.command_line import TOP
from tests.support.documentation import find_blocks
from tests.support.image_data import encode

PAGE = (TOP / "docs/serving.md").read_text()
SECTION = re.search(r"(?ms)^## TensorFlow Serving\n(.*?)^## ", PAGE)[1]
ROW = {
    "norm": "linf",
    "epsilon": 8 / 255,
    "confidence_interval": [0.4771, 0.5389],
    "examples": 1000,
    "attacked": 810,
    "seconds": 1.0,
    "seed": 0,
    "outcomes": "evaluations/1/outcomes.npz",
}
RESULTS = {
    "clean_accuracy": 0.81,
    "clean_confidence_interval": [0.7845, 0.8332],
    "examples": 1000,
    "subset": None,
    "norm": "linf",
    "seed": 0,
    "attacks": [
        {**ROW, "attack": "pgd-50-10", "robust_accuracy": 0.53},
        {**ROW, "attack": "autoattack", "robust_accuracy": 0.51},
    ],
    "worst_case": [
        {
            **ROW,
            "attack": "worst case",
            "robust_accuracy": 0.508,
            "attacks": ["pgd-50-10", "autoattack"],
        },
    ],
    "warnings": ["PGD needs more steps."],
    "notes": [],
}
INFO = ModelInfo(
    "colors",
    class_names=("red", "green", "blue"),
    method="fastbat",
    norm="linf",
    epsilon=8 / 255,
    results=RESULTS,
)


def colors():
    """The model of docs/serving.md: its logits are ten times the mean color."""
    inputs = keras.Input((2, 2, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    return keras.Model(inputs, keras.layers.Rescaling(10.0)(x))


def request(name, **inputs):
    """A `PredictRequest`, as a server reads it."""
    message = predict_pb2.PredictRequest()
    message.model_spec.name = "colors"
    message.model_spec.signature_name = name
    for key, array in inputs.items():
        message.inputs[key].CopyFrom(tf.make_tensor_proto(array))
    content = message.SerializeToString()
    return predict_pb2.PredictRequest.FromString(content)


class ProtocolTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory())
        )
        cls.path = folder / "colors"
        export(colors(), cls.path, info=INFO)
        cls.signatures = session_signatures.load(cls.path)

    def rest(self, content, status=200):
        text = content if isinstance(content, str) else json.dumps(content)
        actual, answer = tf_serving.serve_rest(self.signatures, text)
        self.assertEqual(actual, status, answer)
        return json.loads(answer, parse_constant=self.fail)

    def assert_like(self, actual, shown):
        """An answer is the one shown; `...` stands for more of a string."""
        self.assertIs(type(actual), type(shown))
        if isinstance(shown, dict):
            self.assertEqual(set(actual), set(shown))
            for key, value in shown.items():
                self.assert_like(actual[key], value)
        elif isinstance(shown, list):
            self.assertLen(actual, len(shown))
            for one, other in zip(actual, shown, strict=True):
                self.assert_like(one, other)
        elif isinstance(shown, str) and shown.endswith("..."):
            self.assertStartsWith(actual, shown.removesuffix("..."))
        elif isinstance(shown, float):
            self.assertNear(actual, shown, 1e-5 * abs(shown))
        else:
            self.assertEqual(actual, shown)

    def test_page_rest(self):
        blocks = [block.text for block in find_blocks(SECTION, "json")]
        self.assertLen(blocks, 8)
        for asked, shown in zip(blocks[::2], blocks[1::2], strict=True):
            shown = json.loads(shown)
            for row in shown.get("predictions", []):
                if "version" in row:
                    row["version"] = fastbat_tf.__version__
            self.assert_like(self.rest(asked), shown)

    def test_page_grpc(self):
        (block,) = find_blocks(SECTION, "python")
        server = tf_serving.Server(self.signatures, "colors")
        pixels = np.tile(np.uint8([204, 51, 51]), (2, 2, 1))
        namespace = {"png": encode(pixels), "print": (printed := mock.Mock())}
        with server.running() as address:
            self.assertIn("localhost:8500", block.text)
            exec(block.text.replace("localhost:8500", address), namespace)
            namespace["channel"].close()
        classes, names = (call.args[0] for call in printed.call_args_list)
        self.assertAllEqual(classes, [0])
        self.assertAllEqual(names, [b"red", b"green", b"blue"])

    def test_info(self):
        response = tf_serving.predict(self.signatures, request("info"))
        content = response.SerializeToString()
        response = predict_pb2.PredictResponse.FromString(content)
        info = {k: tf.make_ndarray(v) for k, v in response.outputs.items()}
        self.assertEqual(info["robust_accuracy"], 0.508)
        self.assertEqual(info["version"], fastbat_tf.__version__.encode())
        measured = json.loads(info["measured"].item())
        self.assertEqual(measured["attacks"][1]["attack"], "autoattack")
        self.assertEqual(measured["warnings"], RESULTS["warnings"])
        self.assertNotIn("outcomes", info["measured"].item().decode())
        with self.assertRaisesRegex(tf_serving.RefusedError, "input size"):
            tf_serving.predict(self.signatures, request("info", x=[1]))
        # The rule for which there is `info_rest`.
        error = self.rest({"signature_name": "info", "inputs": {}}, 400)
        self.assertStartsWith(error["error"], "Failed to get input map")

    @pytest.mark.slow
    def test_saved_model_cli(self):
        """TensorFlow's own tool shows and runs it."""
        program = pathlib.Path(sys.executable).with_name("saved_model_cli")

        def run(*arguments):
            command = [program, *arguments, "--dir", self.path]
            command += ["--tag_set", "serve", "--signature_def"]
            name = "info_rest" if "run" in arguments else "info"
            return subprocess.run(
                [*command, name], check=True, capture_output=True, text=True
            ).stdout

        shown = run("show")
        for name in tf_serving.specs(self.signatures, "info"):
            self.fail(f"info has the input {name}")
        self.assertIn("outputs['robust_accuracy'] tensor_info:", shown)
        self.assertIn("Method name is: tensorflow/serving/predict", shown)
        answer = run("run", "--input_exprs", "requests=[0]")
        self.assertIn("[b'red' b'green' b'blue']", answer)

    def test_info_with_a_batch(self):
        """A server that joins requests splits each output."""
        asked = {"signature_name": "info_rest", "instances": [7, -1, 0]}
        rows = self.rest(asked)["predictions"]
        self.assertLen(rows, 3)
        self.assertEqual(rows[0], rows[2])
        signature = self.signatures["info_rest"]
        for size in (0, 1, 1000):
            answer = signature(requests=tf.zeros(size, tf.int32))
            for name, tensor in answer.items():
                self.assertEqual(tensor.shape[0], size, name)
        with self.assertRaisesRegex(
            tf.errors.InvalidArgumentError, "At most 1000 requests"
        ):
            signature(requests=tf.zeros(1001, tf.int32))

    def test_rest_refuses(self):
        picture = [[[0.5, 0.5, 0.5]] * 2] * 2
        nan = "[[[[NaN, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]]]"
        for message, content in (
            ("Parse error", '{"instances": ['),
            ("No values", {"instances": []}),
            ("one of", {"instances": [picture], "inputs": [picture]}),
            ("one of", {}),
            ("not found", {"signature_name": "x", "instances": [1]}),
            ("expected type", {"instances": [[[["a"] * 3] * 2] * 2]}),
            ("unexpected size", {"instances": [picture, picture[:1]]}),
            (r"\(batch, 2, 2, 3\)", {"instances": [[[0.5]]]}),
            (r"\(batch, 2, 2, 3\)", {"inputs": []}),
            ("finite", f'{{"instances": {nan}}}'),
            ("finite", {"inputs": (255 * np.ones((1, 2, 2, 3))).tolist()}),
            (
                r"encoded\[0\]: it is not a PNG",
                {"signature_name": "serve_bytes", "instances": ["text"]},
            ),
            (
                "base64",
                {"signature_name": "serve_bytes", "inputs": [{"b64": "?"}]},
            ),
        ):
            with self.subTest(message):
                answer = self.rest(content, 400)
                self.assertRegex(answer["error"], message)

    def test_an_invalid_image_fails_its_batch(self):
        images = np.full((3, 2, 2, 3), 0.5, np.float32)
        images[1, 0, 0, 0] = 2
        with self.assertRaisesRegex(tf_serving.RefusedError, "finite"):
            tf_serving.predict(
                self.signatures, request("serving_default", images=images)
            )

    def test_requests_that_the_server_joins(self):
        """It joins inputs along the batch, and splits every output so."""
        random = np.random.default_rng(0)
        pixels = random.integers(0, 256, (5, 2, 2, 3), np.uint8)
        files = np.array([encode(image) for image in pixels], object)
        for name, arrays in (
            ("serving_default", np.float32(pixels / 255)),
            ("serve_uint8", pixels),
            ("serve_bytes", files),
            ("info_rest", np.arange(5, dtype=np.int32)),
        ):
            signature = self.signatures[name]
            (key,) = signature.structured_input_signature[1]
            together = signature(**{key: arrays})
            for part in (slice(0, 1), slice(1, 4), slice(4, 5)):
                alone = signature(**{key: arrays[part]})
                for output, tensor in alone.items():
                    joined = together[output][part].numpy()
                    if joined.dtype.kind == "f":
                        self.assertAllClose(tensor, joined, 1e-6, 1e-6)
                    else:
                        self.assertAllEqual(tensor, joined)

    def test_load(self):
        """Hundreds of requests at once, of which every third is invalid."""
        random = np.random.default_rng(0)
        pixels = random.integers(0, 256, (300, 2, 2, 3), np.uint8)
        floats = (pixels / 255).astype("float32")
        server = tf_serving.Server(self.signatures, "colors")
        valid = (
            lambda i: ("serving_default", {"images": floats[i : i + 1]}),
            lambda i: ("serve_uint8", {"images": pixels[i : i + 2]}),
            lambda i: ("serve_bytes", {"encoded": [encode(pixels[i])]}),
            lambda i: ("info", {}),
        )
        broken = encode(pixels[0])[:40]
        invalid = (
            ("serving_default", {"images": floats[:1, :1]}),
            ("serving_default", {"images": floats[0]}),
            ("serving_default", {"images": np.full_like(floats[:1], np.nan)}),
            ("serving_default", {"images": 255 * floats[:2]}),
            ("serving_default", {"images": floats[:0]}),
            ("serving_default", {"images": pixels[:1]}),
            ("serving_default", {"encoded": ["x"]}),
            ("serve_uint8", {"images": pixels[:0]}),
            ("serve_bytes", {"encoded": [encode(pixels[0]), broken]}),
            ("serve_bytes", {"encoded": [b""]}),
            ("serve_bytes", {"encoded": np.array([], object)}),
            ("info_rest", {"requests": np.zeros(1001, np.int32)}),
        )

        def ask(number):
            is_valid = number % 3 > 0
            kind = number // 3
            name, inputs = (
                valid[kind % len(valid)](number)
                if is_valid
                else invalid[kind % len(invalid)]
            )
            try:
                answer = stub.Predict(request(name, **inputs), timeout=60)
            except grpc.RpcError as error:
                return not is_valid and error.code() == tf_serving.INVALID
            if name == "info":
                return is_valid
            logits = tf.make_ndarray(answer.outputs["logits"])
            expected = 10 * floats[number : number + len(logits)].mean((1, 2))
            return is_valid and np.allclose(logits, expected, 1e-5, 1e-5)

        with server.running() as address, grpc.insecure_channel(address) as c:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(c)
            with futures.ThreadPoolExecutor(8) as pool:
                right = list(pool.map(ask, range(299)))
        self.assertEqual(
            [n for n, is_right in enumerate(right) if not is_right], []
        )
        self.assertEqual(server.answered, 199)


if __name__ == "__main__":
    tf.test.main()
