"""Tests TFLite files as functions from images to logits."""

import concurrent.futures
import contextlib
import importlib.util
import pathlib
import signal
import subprocess
import tempfile
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.errors import InputError
from fastbat_tf.evaluation.robustness import evaluate_robustness
from fastbat_tf.saving import litert_files, model_files
from fastbat_tf.saving.formats import tflite
from tests.support.testing import images_and_labels

WEIGHTS = np.random.default_rng(0).normal(size=(192, 4)).astype(np.float32)


def linear(images):
    return tf.reshape(images, (-1, 192)) @ (WEIGHTS / 30)


def convert(function, shape=(None, 8, 8, 3), **settings):
    """The content of a file of somebody else's."""
    spec = tf.TensorSpec(shape, tf.float32, name="pixels")
    module = tf.Module()
    module.serve = tf.function(function, [spec], autograph=False)
    concrete = module.serve.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [concrete], module
    )
    for name, value in settings.items():
        setattr(converter, name, value)
    with tflite.converting("tflite"):
        return converter.convert()


def convert_integers(dtype):
    images, _ = images_and_labels(16)
    return convert(
        linear,
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=lambda: ([image[None]] for image in images),
        inference_input_type=dtype,
        inference_output_type=dtype,
    )


class ReadTest(parameterized.TestCase, tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.directory = pathlib.Path(directory.name)
        cls.images, _ = images_and_labels(10)
        cls.logits = linear(cls.images).numpy()
        cls.path = cls.directory / "model.tflite"
        cls.path.write_bytes(convert(linear))

    def write(self, content, name="other.tflite"):
        path = self.directory / name
        path.write_bytes(content)
        return path

    def refuse(self, content, message):
        path = self.write(content)
        with self.assertRaisesRegex(InputError, message) as caught:
            model_files.load(path)
        self.assertNotIn("\n", str(caught.exception))

    def test_any_number_of_images(self):
        network = model_files.load(self.path)
        for count in (10, 1, 3, 10):
            self.assertAllClose(
                network(self.images[:count]), self.logits[:count], atol=1e-5
            )

    def test_single_file_of_a_fixed_batch(self):
        path = self.write(convert(linear, (4, 8, 8, 3)))
        network = model_files.load(path)
        for count in (10, 1, 4):
            self.assertAllClose(
                network(self.images[:count]), self.logits[:count], atol=1e-5
            )

    @parameterized.parameters(tf.uint8, tf.int8)
    def test_integers(self, dtype):
        """Input and output are quantized, as `inference_output_type` asks."""
        network = model_files.load(self.write(convert_integers(dtype)))
        measured = network(self.images)
        self.assertEqual(measured.dtype, np.float32)
        # 1 % were measured. Rounded down, pixels alone would make it 4 %.
        error = np.abs(measured - self.logits).max() / np.ptp(self.logits)
        self.assertLess(error, 0.025)

    @parameterized.parameters(
        (np.uint8, 1 / 255, 0, [0, 0, 2, 255, 255]),
        (np.int8, 1 / 255, -128, [-128, -128, -126, 127, 127]),
        (np.int8, 1 / 64, 0, [-2, 0, 0, 64, 66]),
    )
    def test_rounded_and_clipped(self, dtype, scale, zero, expected):
        details = {"dtype": dtype, "quantization": (scale, zero)}
        given = np.array([-0.03, 0, 1.6 / 255, 1, 1.03], np.float32)
        numbers = litert_files._quantize(given, details)
        self.assertEqual(numbers.dtype, dtype)
        self.assertAllEqual(numbers, expected)

    def test_the_output_logits(self):
        def answers(images):
            logits = linear(images)
            return {
                "a": tf.nn.softmax(logits),
                "logits": logits,
                "z": -logits,
            }

        network = model_files.load(self.write(convert(answers)))
        self.assertAllClose(network(self.images), self.logits, atol=1e-5)

    def test_which_output(self):
        content = convert(lambda x: {"a": linear(x), "b": -linear(x)})
        self.refuse(content, r"calls logits\. Received: outputs=\['a', 'b'\]$")

    def test_two_inputs(self):
        module = tf.Module()
        specs = [tf.TensorSpec((1, 8, 8, 3)), tf.TensorSpec((1, 4))]
        module.serve = tf.function(lambda x, y: linear(x) + y, specs)
        with tflite.converting("tflite"):
            content = tf.lite.TFLiteConverter.from_concrete_functions(
                [module.serve.get_concrete_function()], module
            ).convert()
        self.refuse(content, "one input, the images. Received: inputs=.*, .*")

    def test_no_images(self):
        content = convert(lambda x: x @ WEIGHTS, (None, 192))
        self.refuse(content, r"Received: input=\(any, 192\), output=\(any, 4\)")

    def test_no_logits(self):
        self.refuse(convert(lambda x: 2 * x), r"output=\(any, 8, 8, 3\)$")

    def test_other_shapes(self):
        network = model_files.load(self.path)
        for shape in ((2, 8, 9, 3), (2, 8, 8, 1), (8, 8, 3), (0, 8, 8, 3)):
            with self.assertRaisesRegex(
                InputError,
                r"expects images of the shape \(any, 8, 8, 3\). Received: "
                rf"images.shape=\({', '.join(map(str, shape))}\)$",
            ):
                network(np.zeros(shape, np.float32))

    def test_no_tflite_file(self):
        self.refuse(b"", "letters TFL3")
        self.refuse(b"a line of text\n", "letters TFL3")

    def test_truncated(self):
        content = self.path.read_bytes()
        for size in (8, 100, len(content) // 2, len(content) - 50):
            self.refuse(content[:size], "complete TFLite file.*valid Flatbuf")

    def test_operation_that_it_lacks(self):
        content = convert(
            lambda x: linear(tf.math.atan(x)),
            target_spec=tf.lite.TargetSpec(
                supported_ops=[
                    tf.lite.OpsSet.TFLITE_BUILTINS,
                    tf.lite.OpsSet.SELECT_TF_OPS,
                ]
            ),
        )
        self.refuse(content, "operations that LiteRT has. .*Flex")

    def test_a_file_that_aborts(self):
        """A trial in another process finds it."""
        trial = subprocess.CompletedProcess([], -signal.SIGABRT)
        with mock.patch.object(subprocess, "run", return_value=trial):
            self.refuse(self.path.read_bytes(), "^The TFLite file is damaged")

    def test_modules_of_the_working_directory(self):
        """They may have come with the model, and are not imported."""
        mark = self.directory / "mark"
        for name in ("ai_edge_litert", "numpy"):
            module = self.directory / f"{name}.py"
            module.write_text(f"open({str(mark)!r}, 'w')")
            self.addCleanup(module.unlink)
        with contextlib.chdir(self.directory):
            self.assertFalse(litert_files._aborts(self.path))
        self.assertFalse(mark.exists())

    def test_a_file_that_is_too_large(self):
        path = self.directory / "large.tflite"
        with path.open("wb") as file:
            file.truncate(10 * 2**30)  # It takes no space on the disk.
        with self.assertRaisesRegex(InputError, "at most .* bytes. Received"):
            litert_files.read(path)

    def test_the_trial(self):
        self.assertFalse(litert_files._aborts(self.path))
        abort = "import os; os.abort()"
        with mock.patch.object(litert_files, "TRIAL", abort):
            self.assertTrue(litert_files._aborts(self.path))

    def test_not_installed(self):
        with (
            mock.patch.object(importlib.util, "find_spec", return_value=None),
            self.assertRaisesRegex(
                InputError, r'install .* pip install "fastbat_tf\[export\]"'
            ),
        ):
            model_files.load(self.path)

    def test_threads(self):
        network = model_files.load(self.path)

        def ask(count):
            return np.abs(
                network(self.images[:count]) - self.logits[:count]
            ).max()

        counts = 25 * [1, 10, 3, 7]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            errors = list(pool.map(ask, counts))
        self.assertLess(max(errors), 1e-5)

    def test_robustness(self):
        labels = self.logits.argmax(axis=-1)
        labels[0] = (labels[0] + 1) % 4
        results = evaluate_robustness(
            self.path, (self.images, labels), "square-10", 0.05
        )
        self.assertEqual(results["clean_accuracy"], 0.9)
        self.assertBetween(results["attacks"][0]["robust_accuracy"], 0, 0.9)

    def test_no_gradients(self):
        with self.assertRaisesRegex(
            InputError,
            "^An attack by gradients .* square, or by transfer from a .*$",
        ):
            evaluate_robustness(
                self.path,
                (self.images, self.logits.argmax(axis=-1)),
                "pgd-2-1",
                0.05,
            )


if __name__ == "__main__":
    tf.test.main()
