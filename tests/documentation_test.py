"""Runs the documentation's examples and checks the names that it mentions.

A comment `<!-- not executed: why -->` above a block of Python skips it.
"""

import contextlib
import importlib.util
import itertools
import os
import pathlib
import re
import shlex
import tempfile
from unittest import mock

import keras
import numpy as np
import safetensors.numpy
import tensorflow as tf
from absl import flags as absl_flags
from absl.testing import absltest, flagsaver, parameterized

import fastbat_tf
import flags
from fastbat_tf.experiment.config import Config
from fastbat_tf.files import write_json
from fastbat_tf.saving.export import export
from tests import recipes_test
from tests.support.command_line import TOP
from tests.support.documentation import (
    executed_pages,
    exists,
    pages,
    read_blocks,
    read_code,
    read_commands,
)

# Flags of other programs that the documentation mentions.
FOREIGN_FLAGS = {
    "batching_parameters_file": "tensorflow_model_server",
    "check": "sha256sum",
    "enable_batching": "tensorflow_model_server",
    "flagfile": "absl",
    "gpus-per-task": "Slurm",
    "helpshort": "absl",
    "logdir": "tensorboard",
    "no-deps": "pip",
    "ntasks-per-node": "Slurm",
    "record-long": "pytest",
    "requeue": "Slurm",
    "rm": "docker",
    "signal": "Slurm",
    "small": "examples",
    "strict": "mkdocs",
    "weights": "examples/finetune_pretrained.py",
}

# CONTRIBUTING.md calls so what its reader writes: files and flags to come.
PLACEHOLDERS = r"\btoy|\.\.\."

# The first part of the paths and dotted names that are checked.
FOLDERS = "fastbat_tf|flags|models|tests|benchmarks|examples|recipes|docs"


def build_model():
    """Returns a tiny classifier of 8 x 8 images."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, use_bias=False)(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Activation("softplus")(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(10)(x))


def build_application(input_shape, include_top, pooling, weights):
    """Stands for a network of `keras.applications`, which takes a minute."""
    assert weights == "imagenet" and pooling == "avg" and not include_top
    inputs = keras.Input(input_shape)
    x = keras.layers.Conv2D(4, 3, strides=2, use_bias=False)(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    return keras.Model(inputs, x)


def make_namespace():
    """Returns the names that the examples assume."""
    draws = np.random.default_rng(0)
    images = draws.random((64, 8, 8, 3), np.float32)
    labels = np.arange(64) % 10
    pixels = np.uint8(255 * images[:4])
    batches = tf.data.Dataset.from_tensors(
        ({"images": images, "index": np.arange(64)}, labels)
    )
    return {
        "keras": keras,
        "fastbat_tf": fastbat_tf,
        "RobustClassifier": fastbat_tf.RobustClassifier,
        "model": build_model(),
        "classifier": build_model(),
        "images": images,
        "labels": labels,
        "test_images": images[:16],
        "test_labels": labels[:16],
        "validation": (images[:16], labels[:16]),
        "photos": np.uint8(255 * images[:8]),
        "photo_labels": labels[:8],
        "batches": batches,
        "pixels": pixels,
        "png": tf.io.encode_png(pixels[0]).numpy(),
    }


class PythonTest(parameterized.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.directory = pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory())
        )
        export(build_model(), cls.directory / "runs/demo/saved_model")

    @parameterized.parameters(*executed_pages())
    def test_runs(self, page):
        self.enterContext(
            mock.patch.object(
                keras.applications, "MobileNet", build_application
            )
        )
        # The tenth epoch runs what the second has run.
        self.addCleanup(keras.config.set_max_epochs, keras.config.max_epochs())
        keras.config.set_max_epochs(2)
        namespace = make_namespace()
        blocks = read_blocks(page, "python")
        with contextlib.chdir(self.directory):
            for block in blocks:
                if block.executed:
                    name = f"{TOP / page}:{block.line}"
                    exec(compile(block.text, name, "exec"), namespace)

    def test_pages_are_found(self):
        self.assertContainsSubset(
            ["README.md", "docs/keras.md"], executed_pages()
        )


class CommandsTest(parameterized.TestCase):
    """Parses the commands where the files that they name exist."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory())
        )
        (directory / "recipes").symlink_to(TOP / "recipes")
        for split in ("train", "test"):
            for name in ("cat", "dog"):
                place = directory / "my/images" / split / name
                place.mkdir(parents=True)
                (place / "1.png").touch()
        (directory / "DIR").symlink_to("my/images")
        for file in ("model.keras", "other.keras"):
            (directory / file).touch()
        for run in ("demo", "portable", "fastbat"):
            checkpoints = directory / "runs" / run / "checkpoints"
            checkpoints.mkdir(parents=True)
            (checkpoints / "best.weights.h5").touch()
            settings = Config().to_dict()
            write_json(checkpoints.parent / "config.json", settings)
        cls.directory = directory

    def parse(self, arguments, variables=()):
        """Fails if main.py rejects the arguments, with these variables."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.chdir(self.directory))
            stack.enter_context(mock.patch.dict(os.environ, variables))
            stack.enter_context(flagsaver.flagsaver())
            fail = mock.Mock(side_effect=AssertionError)
            stack.enter_context(mock.patch.object(flags.command, "fail", fail))
            for argument in arguments:  # What a page has downloaded.
                name, _, value = argument.partition("=")
                if name == "--init_weights" and value.endswith(".safetensors"):
                    safetensors.numpy.save_file({}, value)
                elif name == "--init_weights":
                    pathlib.Path(value).touch()
                elif name == "--extra_data":
                    recipes_test.write_extra_images(value)
            try:
                flags.parse(["main.py", *arguments])
                flags.get_command()
            except (AssertionError, ValueError) as error:
                reason = fail.call_args or error
                self.fail(f"main.py {shlex.join(arguments)}: {reason}")

    @parameterized.parameters(*pages())
    def test_main(self, page):
        for words in read_commands(page):
            for program in {"main.py", "fastbat-tf"} & set(words):
                arguments = words[words.index(program) + 1 :]
                if re.search(PLACEHOLDERS, " ".join(arguments)):
                    self.assertEqual(page, "CONTRIBUTING.md")
                elif arguments != ["--helpshort"]:
                    variables = itertools.takewhile(is_assignment, words)
                    self.parse(
                        arguments,
                        dict(word.split("=", 1) for word in variables),
                    )

    def test_a_wrong_flag_fails(self):
        self.parse(["--method=pgd", "--steps=10"])
        for wrong in ("--stepz=10", "--quantile=0.1", "--mode=evaluate"):
            with self.assertRaises(self.failureException):
                self.parse(["--method=pgd", wrong])

    @parameterized.parameters(*pages())
    def test_modules(self, page):
        """The module in `python -m module` exists."""
        for words in read_commands(page):
            if "-m" in words and words[0].endswith("python"):
                module = words[words.index("-m") + 1]
                self.assertIsNotNone(importlib.util.find_spec(module), module)

    def test_commands_are_found(self):
        found = [words for page in pages() for words in read_commands(page)]
        mains = [words for words in found if "main.py" in words]
        self.assertGreater(len(mains), 20)
        self.assertGreater(len([w for w in found if "-m" in w]), 10)


class NamesTest(parameterized.TestCase):
    """Flags, paths and Python names on the pages exist."""

    @parameterized.parameters(*pages())
    def test_flags(self, page):
        known = known_flags()
        for code in read_code(page):
            for name in re.findall(r"(?<![\w-])--([a-z][\w-]*)", code):
                self.assertIn(name, known, code)

    @parameterized.parameters(*pages())
    def test_paths(self, page):
        # Blocks that show a directory tree are not read.
        for code in read_code(page):
            for path in re.findall(
                rf"(?<![\w/.-])((?:{FOLDERS})/[\w./*-]*)", code
            ):
                if re.search(PLACEHOLDERS, path):
                    self.assertEqual(page, "CONTRIBUTING.md")
                    continue
                self.assertNotEmpty(list(TOP.glob(path.rstrip("."))), path)

    @parameterized.parameters(*pages())
    def test_dotted_names(self, page):
        for code in read_code(page):
            for name in re.findall(
                rf"(?<![\w/.-])((?:{FOLDERS})(?:\.[A-Za-z]\w*)+)(?!/)", code
            ):
                self.assertTrue(exists(name), name)

    def test_what_does_not_exist_is_found(self):
        self.assertTrue(exists("fastbat_tf.training.schedules.OneCycle"))
        self.assertTrue(exists("benchmarks.portable.run"))
        self.assertFalse(exists("fastbat_tf.trainer"))
        self.assertFalse(exists("fastbat_tf.training.schedules.TwoCycles"))
        self.assertNotIn("stepz", known_flags())
        self.assertIn("noaugment", known_flags())

    @parameterized.parameters(*pages())
    def test_lists(self, page):
        """Items of lists start on their own lines, and go on indented."""
        text = re.sub(r"(?ms)^ *```.*?^ *```$", "", (TOP / page).read_text())
        for item in re.findall(r"(?m)^[-*] .*(?:\n.+)*", text):
            for line in item.splitlines():
                self.assertRegex(line, r"^([-*] |\d+\. |  )")
                self.assertNotRegex(line, r"[.;)] - [A-Z`]")

    def test_length_of_readme(self):
        lines = (TOP / "README.md").read_text().splitlines()
        self.assertLessEqual(len(lines), 150)


def is_assignment(word):
    """Whether a word of a command is `VARIABLE=value`."""
    return re.match(r"[A-Z_]+=", word) is not None


def known_flags():
    """Returns the flags of main.py, of the benchmarks, and `FOREIGN_FLAGS`."""
    names = {*absl_flags.FLAGS, *FOREIGN_FLAGS}
    for path in TOP.glob("benchmarks/**/*.py"):
        names |= set(
            re.findall(
                r'(?:DEFINE_\w+\(|add_argument\()\s*"-*(\w+)"',
                path.read_text(),
            )
        )
    return names | {f"no{name}" for name in names}


if __name__ == "__main__":
    absltest.main()
