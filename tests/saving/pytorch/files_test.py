"""Tests what is refused of PyTorch's files, without PyTorch."""

import json
import pathlib
import pickle
import struct
import tempfile
import types
from unittest import mock

import keras
import ml_dtypes
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from safetensors.numpy import save_file

import fastbat_tf as fb
from fastbat_tf.errors import InputError
from fastbat_tf.saving.pytorch import constants as torch_constants
from fastbat_tf.saving.pytorch import files as torch_files
from tests.support.torch_cases import CASES, recorded

CONV2 = "layer1.0.conv2.weight"


class TorchFilesCase(tf.test.TestCase, parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.directory = pathlib.Path(directory.name)

    def save(self, arrays, name="weights.safetensors"):
        path = self.directory / name
        save_file(arrays, path)
        return path


class FitTest(TorchFilesCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.arrays, _ = recorded("fastbat_preact18")
        cls.arrays = {
            name.removeprefix("model."): array
            for name, array in cls.arrays.items()
        }
        cls.case = CASES["fastbat_preact18"]
        cls.model = cls.case.build()

    def refuse(self, arrays, expected, model=None):
        """Loads a file, which is refused before a weight is changed."""
        model = model or self.model
        path = self.save(arrays)
        before = model.get_weights()
        with self.assertRaises(InputError) as caught:
            fb.load_torch_weights(model, path)
        message = str(caught.exception)
        self.assertRegex(message, expected)
        self.assertNotIn("\n", message)
        self.assertIn(f"Received: path={path}", message)
        for now, weight in zip(model.get_weights(), before, strict=True):
            self.assertAllEqual(now, weight)

    def without(self, *names):
        return {k: v for k, v in self.arrays.items() if k not in names}

    def test_missing(self):
        self.refuse(
            self.without(CONV2, "layer2.0.bn1.running_var"),
            rf"it lacks {CONV2}, layer2.0.bn1.running_var\. Received",
        )

    def test_a_name_of_two_lines(self):
        """A terminal does not obey it, either."""
        arrays = {**self.arrays, "a\nb\x1b[31m": np.ones(2, "float32")}
        self.refuse(arrays, r"too many: a\\nb\\x1b\[31m\. Received")

    def test_extra(self):
        self.refuse(
            {**self.arrays, "module.hl1.1.weight": np.ones(2, "float32")},
            r"too many: module\.hl1\.1\.weight\. Received",
        )

    def test_misshapen(self):
        self.refuse(
            {**self.arrays, CONV2: np.ones((4, 4, 5, 5), "float32")},
            rf"misshapen are {CONV2} \(4, 4, 5, 5\), "
            r"expected \(4, 4, 3, 3\)\. Received",
        )

    def test_all_at_once(self):
        self.refuse(
            {
                **self.without("bn.bias"),
                "extra": np.ones(2, "float32"),
                CONV2: np.ones((4,), "float32"),
            },
            rf"lacks bn.bias; .* many: extra; misshapen are {CONV2} \(4,\), ",
        )

    def test_many(self):
        names = [name for name in self.arrays if name.startswith("layer3.")]
        self.refuse(self.without(*names), "lacks layer3.0.bn1.* and 17 more")

    def test_classes(self):
        self.refuse(
            {
                **self.arrays,
                "linear.weight": np.ones((100, 32), "float32"),
                "linear.bias": np.ones(100, "float32"),
            },
            r"linear.weight \(100, 32\), expected \(10, 32\).*"
            "The file has 100 classes, the model 10",
        )

    def test_stem(self):
        self.refuse(
            {**self.arrays, "conv1.weight": np.ones((4, 3, 7, 7), "float32")},
            'first layers are those of stem="imagenet"',
        )

    def test_not_finite(self):
        for name, value in ((CONV2, np.nan), ("bn.bias", -np.inf)):
            wrong = self.arrays[name].copy()
            wrong.flat[1] = value
            self.refuse(
                {**self.arrays, name: wrong}, f"finite weights.* in {name}"
            )
        name = "bn.running_var"
        self.refuse({**self.arrays, name: -self.arrays[name]}, name)

    def test_integers(self):
        self.refuse(
            {**self.arrays, CONV2: np.ones((4, 4, 3, 3), "int64")},
            f"{CONV2} is expected to hold floats, not int64",
        )

    def test_the_same_name_twice(self):
        self.refuse(
            {**self.arrays, f"module.{CONV2}": self.arrays[CONV2]},
            f"the same name: {CONV2} and module.{CONV2}",
        )

    def test_heads(self):
        arrays, _ = recorded("wong_preact18")
        self.refuse(arrays, r'lacks bn.weight, .*may be .* head="plain"')
        plain = self.case.build(head="plain")
        self.refuse(self.arrays, r'many: bn.bias, .*"normalized"', plain)

    def test_another_family(self):
        for name, network in (
            ("resnet18", "ResNet"),
            ("trades_wrn16_2", "WideResNet"),
        ):
            arrays, _ = recorded(name)
            self.refuse(
                arrays, f"those of a {network}; .* those of a PreActResNet"
            )

    def test_unknown_names(self):
        self.refuse({"a.weight": np.ones(2, "float32")}, "with a.weight")
        self.refuse(
            {"layer_0.0.conv_2d_1.weight": np.ones(2, "float32")},
            "DeepMind's PreActResNet has 3x3 shortcuts",
        )
        self.refuse({}, r"\(with none\)")

    def test_a_model_that_is_not_of_the_zoo(self):
        other = keras.Sequential(
            [keras.Input((8, 8, 3)), keras.layers.Flatten()]
        )
        with self.assertRaisesRegex(
            InputError, "fastbat_tf.models alone; .* Received: model=sequential"
        ):
            fb.load_torch_weights(other, self.save(self.arrays))
        with self.assertRaisesRegex(InputError, "first, .* Received: model="):
            fb.load_torch_weights(self.save(self.arrays), other)

    def test_padding(self):
        arrays, _ = recorded("deepmind_wrn16_2")
        model = CASES["deepmind_wrn16_2"].build(padding="symmetric")
        self.refuse(
            arrays,
            "names are DeepMind's.*--padding=same.*, padding=symmetric$",
            model,
        )
        arrays, _ = recorded("trades_wrn16_2")
        model = CASES["deepmind_wrn16_2"].build()
        self.refuse(
            arrays, "Zagoruyko's.*--padding=symmetric.*, padding=same$", model
        )

    def test_normalization_that_the_model_lacks(self):
        model = self.case.build(mean=None, std=None)
        self.refuse(self.arrays, "normalizes pixels.*--nonormalize", model)

    def test_wrong_normalization(self):
        for std, expected in (
            (np.zeros(3), "positive deviations in normalize.mean"),
            (np.full(3, np.nan), "positive deviations"),
            (np.ones(2), "positive deviations"),
            (np.ones((3, 64, 64)), r"per channel, but normalize.std .*64"),
        ):
            arrays = {**self.arrays, "normalize.std": std.astype("float32")}
            self.refuse(arrays, expected)
        self.refuse(self.without("normalize.std"), "has normalize.mean alone")
        one = np.full(1, 0.5, "float32")
        arrays = {**self.arrays, "normalize.std": one, "normalize.mean": one}
        self.refuse(arrays, "to have 3 numbers, not 1")


class ConversionTest(TorchFilesCase):
    def setUp(self):
        super().setUp()
        self.arrays, self.expected = recorded("deepmind_swish_wrn10_2")
        self.case = CASES["deepmind_swish_wrn10_2"]

    def test_half_precision(self):
        for dtype, error in (("float16", 0.02), (ml_dtypes.bfloat16, 0.1)):
            arrays = {
                name: array.astype(dtype) if array.ndim == 4 else array
                for name, array in self.arrays.items()
            }
            model = self.case.build()
            fb.load_torch_weights(model, self.save(arrays))
            logits = model(self.case.images(), training=False)
            self.assertAllClose(logits, self.expected, rtol=0, atol=error)
            kernel = model.get_layer("stem.conv").kernel
            self.assertEqual(kernel.dtype, "float32")
            expected = arrays["init_conv.weight"].astype("float32")
            self.assertAllEqual(kernel, np.transpose(expected, (2, 3, 1, 0)))

    def test_what_is_kept(self):
        arrays = {
            k: v for k, v in self.arrays.items() if k not in ("mean", "std")
        }
        path = self.save(arrays)
        model = self.case.build()
        done = fb.load_torch_weights(model, path)
        self.assertEqual(done.normalization, "kept")
        layer = model.get_layer("normalization")
        self.assertAllClose(layer.mean, np.full((1, 1, 1, 3), 0.5))
        bare = self.case.build(mean=None, std=None)
        done = fb.load_torch_weights(bare, path)
        self.assertEqual(done.network, "WideResNet")
        self.assertIsNone(done.normalization)
        self.assertTrue(
            all(name.endswith("num_batches_tracked") for name in done.unused)
        )

    def test_the_model_is_saved_with_the_constants(self):
        model = self.case.build()
        images = self.case.images()
        before = model.predict(images, verbose=0)
        fb.load_torch_weights(model, self.save(self.arrays))
        after = model.predict(images, verbose=0)
        self.assertAllClose(after, self.expected, rtol=0, atol=1e-5)
        self.assertNotAllClose(after, before)
        model.save(self.directory / "model.keras")
        read = keras.models.load_model(self.directory / "model.keras")
        logits = read(images, training=False)
        self.assertAllClose(logits, self.expected, rtol=0, atol=1e-5)

    def test_constants(self):
        mean, std = torch_constants.read_file(self.save(self.arrays), "path=x")
        self.assertAllClose(mean, self.arrays["mean"].ravel(), rtol=1e-7)
        self.assertAllClose(std, self.arrays["std"].ravel(), rtol=1e-7)


class FilesTest(TorchFilesCase):
    def refuse(self, path, expected):
        with self.assertRaises(InputError) as caught:
            torch_files.open_tensors(path)
        message = str(caught.exception)
        self.assertRegex(message, expected)
        self.assertNotIn("\n", message)
        self.assertIn(f"Received: path={path}", message)

    def write(self, content, name="bad.safetensors"):
        path = self.directory / name
        path.write_bytes(content)
        return path

    def test_damaged(self):
        header = json.dumps(
            {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
        ).encode()
        length = struct.pack("<Q", len(header))
        whole = length + header + bytes(8)
        torch_files.open_tensors(self.write(whole))
        huge = header.replace(b"[2]", b"[99999999999]")
        huge = struct.pack("<Q", len(huge)) + huge + bytes(8)
        for content in (
            b"",
            whole[:-1],
            whole + b"0",
            struct.pack("<Q", 2**60) + header,
            huge,
            pickle.dumps({"a": 1}),
        ):
            self.refuse(self.write(content), "^The file cannot be read; .* saf")

    def test_a_type_that_numpy_does_not_have(self):
        header = json.dumps(
            {"a": {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}}
        ).encode()
        content = struct.pack("<Q", len(header)) + header + bytes(8)
        tensors = torch_files.open_tensors(self.write(content))
        with self.assertRaisesRegex(InputError, "floats, not F8_E4M3"):
            tensors.read("a")

    def test_no_such_file(self):
        self.refuse(self.directory / "none.safetensors", "^Expected a .safe")
        self.refuse(self.write(b"", "weights.bin"), "^Expected a .safetensors")

    def test_a_pickle_without_torch(self):
        """It is refused, and not run, where PyTorch is not installed."""
        marker = self.directory / "marker"

        class Planted:
            def __reduce__(self):
                return open, (str(marker), "w")

        content = pickle.dumps(Planted())
        with mock.patch("importlib.util.find_spec", return_value=None):
            for name in ("planted.pt", "planted.pth"):
                self.refuse(
                    self.write(content, name),
                    r"pip install 'fastbat_tf\[torch\]'\), or a .safetensors "
                    "file .docs/zoo.md",
                )
        self.refuse(self.write(content, "planted.safetensors"), "cannot be re")
        self.assertFalse(marker.exists())
        pickle.loads(content).close()  # It would have been.
        self.assertTrue(marker.exists())

    def test_no_state_dict(self):
        """What PyTorch may read as a dict; it may hold itself."""
        endless = {}
        endless["state_dict"] = endless
        tensor = np.ones(2)
        torch = types.SimpleNamespace(Tensor=np.ndarray)
        self.enterContext(mock.patch.dict("sys.modules", torch=torch))
        self.enterContext(mock.patch("importlib.util.find_spec"))
        for found, expected in (
            (endless, r"a dict of tensors\. .*\(a dict\)$"),
            ({1: tensor}, r"\(with 1\)$"),
            ({"a": tensor, "b": 2}, r"\(with b\)$"),
        ):
            torch.load = lambda *args, found=found, **options: found
            self.refuse(self.write(b"", "planted.pt"), expected)


if __name__ == "__main__":
    tf.test.main()
