"""Loads the weights of published networks, without PyTorch.

The names, shapes and logits are recorded from twins in PyTorch.
"""

import pathlib
import tempfile

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized
from safetensors.numpy import save_file

import fastbat_tf as fb
from tests.support.torch_cases import CASES, recorded


class RecordedTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.path = pathlib.Path(directory.name) / "weights.safetensors"

    @parameterized.parameters(*CASES)
    @pytest.mark.quick(
        "wong_preact18",
        "rice_preact18",
        "engstrom_resnet50",
        "torchvision_resnet18",
        "trades_wrn16_2",
        "deepmind_swish_wrn10_2",
    )
    def test_logits(self, name):
        case = CASES[name]
        arrays, expected = recorded(name)
        save_file(arrays, self.path)
        model = case.build()
        if name == "rice_preact18":
            model = fb.RobustClassifier(model, fb.FastBAT())
        done = fb.load_torch_weights(model, self.path)
        images = tf.constant(case.images())
        logits = model(images, training=False)
        self.assertGreater(expected.std(axis=0).max(), 0.005)
        self.assertLess(np.abs(logits - expected).max(), 1e-5)
        has_constants = case.wrapper not in (None, "module")
        self.assertEqual(done.normalization, "read" if has_constants else None)
        used = [name for name in arrays if name not in done.unused]
        self.assertLen(used, done.tensors + 2 * has_constants)


if __name__ == "__main__":
    tf.test.main()
