"""Tests ONNX files whose weights are in other files."""

import importlib.util
import pathlib
import tempfile
import unittest

import numpy as np
from absl.testing import absltest, parameterized

from fastbat_tf.errors import InputError
from fastbat_tf.saving import model_files

WEIGHTS = np.arange(12, dtype=np.float32).reshape(3, 4)


def write(path, location):
    """Writes a linear classifier whose weights are elsewhere."""
    import onnx
    from onnx import helper

    weights = onnx.TensorProto(
        name="w",
        data_type=onnx.TensorProto.FLOAT,
        dims=WEIGHTS.shape,
        data_location=onnx.TensorProto.EXTERNAL,
    )
    for key, value in {"location": location, "length": "48"}.items():
        weights.external_data.add(key=key, value=value)
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "w"], ["logits"]),
        ],
        "graph",
        [helper.make_tensor_value_info("x", kind, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", kind, ["n", 4])],
        [weights],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    path.write_bytes(model.SerializeToString())


@unittest.skipIf(
    importlib.util.find_spec("onnxruntime") is None, "There is no ONNX Runtime."
)
class ExternalWeightsTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.secret = pathlib.Path(directory, "secret.bin")
        self.secret.write_bytes(WEIGHTS.tobytes())
        self.directory = pathlib.Path(directory, "model")
        self.directory.mkdir()
        (self.directory / "own.bin").write_bytes(WEIGHTS.tobytes())
        (self.directory / "link.bin").symlink_to(self.secret)
        (self.directory / "up").symlink_to(directory)
        self.path = self.directory / "model.onnx"

    def test_beside_the_file(self):
        write(self.path, "own.bin")
        logits = model_files.load(self.path)(np.ones((1, 8, 8, 3), np.float32))
        np.testing.assert_allclose(logits, [WEIGHTS.sum(axis=0)])

    @parameterized.parameters(
        "../secret.bin", "SECRET", "link.bin", "up/secret.bin", "/dev/zero"
    )
    def test_elsewhere(self, location):
        write(self.path, location.replace("SECRET", str(self.secret)))
        with self.assertRaisesRegex(
            InputError,
            rf"^The ONNX file cannot be read. Received: model_path={self.path}",
        ) as caught:
            model_files.load(self.path)
        self.assertNotIn("\n", str(caught.exception))


if __name__ == "__main__":
    absltest.main()
