"""Compares the zoo's networks with their twins in PyTorch.

They are skipped where PyTorch is not installed; `torch_golden_test` compares
with what was recorded. CONTRIBUTING.md says how to run them.
"""

import pathlib
import pickle
import tempfile
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

import fastbat_tf as fb
from fastbat_tf.errors import InputError
from tests.support.torch_cases import CASES, FULL, recorded

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")
torch_networks = pytest.importorskip("tests.support.torch_networks")


class Planted:
    """Creates a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


class TwinsTest(tf.test.TestCase, parameterized.TestCase):
    def setUp(self):
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)

    def compare(self, case, suffix, images):
        network, arrays = torch_networks.build(case)
        path = self.directory / f"weights{suffix}"
        state = {name: torch.from_numpy(x) for name, x in arrays.items()}
        if suffix == ".safetensors":
            safetensors_torch.save_file(state, path)
        else:
            torch.save({"epoch": 3, "state_dict": state}, path)
        expected = torch_networks.logits(network, images)
        del network, state, arrays
        model = case.build()
        fb.load_torch_weights(model, path)
        logits = model(tf.constant(images), training=False).numpy()
        return np.abs(logits - expected).max(), np.abs(expected).max()

    @parameterized.parameters(*CASES)
    def test_small(self, name):
        case = CASES[name]
        suffix = ".pt" if case.wrapper == "mu" else ".safetensors"
        error, _ = self.compare(case, suffix, case.images())
        self.assertLess(error, 1e-5)

    @parameterized.parameters(*FULL)
    @pytest.mark.slow
    def test_published_sizes(self, name):
        case = FULL[name]
        suffix = ".pth" if case.wrapper == "mean" else ".safetensors"
        error, largest = self.compare(case, suffix, case.images(2))
        print(f"\n{name}: {error:.1e} of logits up to {largest:.2f}")
        self.assertLess(error, 1e-5)

    @parameterized.parameters(*CASES)
    def test_the_recorded_logits_are_those_of_the_twin(self, name):
        network, _ = torch_networks.build(CASES[name])
        _, expected = recorded(name)
        logits = torch_networks.logits(network, CASES[name].images())
        self.assertAllClose(logits, expected, rtol=0, atol=1e-6)


class PicklesTest(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.directory = pathlib.Path(directory.name)
        case = CASES["deepmind_swish_wrn10_2"]
        arrays, cls.expected = recorded("deepmind_swish_wrn10_2")
        cls.state = {k: torch.from_numpy(x) for k, x in arrays.items()}
        cls.images = case.images()
        cls.model = case.build()

    def load(self, found, name="weights.pt", **options):
        path = self.directory / name
        torch.save(found, path, **options)
        return fb.load_torch_weights(self.model, path)

    @parameterized.parameters(
        "state_dict", "model_state_dict", "model", "net", "ema"
    )
    def test_nested(self, key):
        others = {"epoch": 3, "optimizer": {"lr": torch.ones(2)}}
        self.load({**others, key: {"state_dict": self.state}})
        logits = self.model(self.images, training=False)
        self.assertAllClose(logits, self.expected, rtol=0, atol=1e-5)

    def test_an_old_format(self):
        done = self.load(
            self.state, "old.pth", _use_new_zipfile_serialization=False
        )
        self.assertEqual(done.normalization, "read")

    @parameterized.parameters(
        ({"best": {}, "last": {}}, "with best, last"),
        ({}, "with nothing"),
        ([torch.ones(2)], "a list"),
        (torch.ones(2), "a Tensor"),
    )
    def test_no_state_dict(self, found, reason):
        with self.assertRaisesRegex(InputError, f"^Expected a.*{reason}.*$"):
            self.load(found)

    def test_two_state_dicts(self):
        with self.assertRaisesRegex(InputError, "with model, ema"):
            self.load({"model": self.state, "ema": self.state})

    def test_integers(self):
        state = {
            **self.state,
            "init_conv.weight": torch.ones(16, 3, 3, 3).int(),
        }
        with self.assertRaisesRegex(
            InputError, "tensor init_conv.weight is .* floats, not torch.int32"
        ):
            self.load(state)

    @parameterized.parameters(
        (lambda x: x.to_sparse(), "torch.sparse_coo on cpu"),
        (lambda x: x.to("meta"), "torch.strided on meta"),
    )
    def test_tensors_without_an_array(self, change, kind):
        name = "init_conv.weight"
        state = {**self.state, name: change(self.state[name])}
        with self.assertRaisesRegex(
            InputError, f"tensor {name} is .* floats, not {kind}"
        ):
            self.load(state)

    @parameterized.parameters(
        ("zip", r"\(it holds io\.open\)$"),
        ("old", r"\(it holds io\.open\)$"),
        ("plain", "Unsupported operand 149"),
    )
    def test_a_pickle_with_code_is_not_run(self, kind, reason):
        marker = self.directory / "marker"
        path = self.directory / "planted.pt"
        planted = {**self.state, "hook": Planted(marker)}
        if kind == "plain":
            path.write_bytes(pickle.dumps(planted["hook"]))
        else:
            is_zip = kind == "zip"
            torch.save(planted, path, _use_new_zipfile_serialization=is_zip)
        before = self.model.get_weights()
        with self.assertRaisesRegex(
            InputError, rf"^The file cannot be read .*nothing else.*{reason}"
        ):
            fb.load_torch_weights(self.model, path)
        self.assertFalse(marker.exists())
        self.assertAllClose(self.model.get_weights(), before)
        # The test could fail: unpickling does create the file.
        pickle.loads(pickle.dumps(planted["hook"])).close()
        self.assertTrue(marker.exists())
        marker.unlink()

    def test_damaged(self):
        path = self.directory / "cut.pt"
        torch.save(self.state, path)
        path.write_bytes(path.read_bytes()[:5000])
        with self.assertRaisesRegex(InputError, "^The file cannot be read"):
            fb.load_torch_weights(self.model, path)

    def test_a_compressed_archive(self):
        path, bomb = self.directory / "good.pt", self.directory / "bomb.pt"
        torch.save(self.state, path)
        with (
            zipfile.ZipFile(path) as source,
            zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target,
        ):
            for name in source.namelist():
                target.writestr(name, source.read(name))
        with self.assertRaisesRegex(InputError, "^The file is a compressed"):
            fb.load_torch_weights(self.model, bomb)


if __name__ == "__main__":
    tf.test.main()
