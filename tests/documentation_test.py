"""Tests of the documentation: what it says to run runs, what it names exists.

A comment `<!-- not executed: why -->` above a block of Python leaves it out.
"""

import contextlib
import importlib
import importlib.util
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import types
from typing import NamedTuple
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl import flags as absl_flags
from absl.testing import absltest, flagsaver, parameterized

import fastbat_tf
import flags
from fastbat_tf import methods
from fastbat_tf.experiment.config import Config
from fastbat_tf.files import write_json
from fastbat_tf.saving.export import export
from tests.support.command_line import TOP

NOT_EXECUTED = r"<!-- not executed: .+ -->\n+"
BLOCK = (
    rf"(?ms)^(?P<skip>{NOT_EXECUTED})?```(?P<language>\w*)\n(?P<text>.*?)^```$"
)

# Flags in the documentation that belong to other programs, with the program.
FOREIGN_FLAGS = {
    "check": "sha256sum",
    "flagfile": "absl",
    "helpshort": "absl",
    "logdir": "tensorboard",
    "requeue": "Slurm",
    "signal": "Slurm",
    "strict": "mkdocs",
}

# What a path in the documentation may begin with.
FOLDERS = "fastbat_tf|flags|models|tests|benchmarks|recipes|docs"


class Block(NamedTuple):
    """A block of code of a page.

    Attributes:
        language: What stands behind the backquotes.
        text: The code.
        executed: Whether no comment leaves it out.
        line: Integer, the line of the page on which it begins.
    """

    language: str
    text: str
    executed: bool
    line: int


def pages():
    """Paths of all pages, relative to the repository."""
    patterns = ("*.md", "docs/**/*.md", "recipes/*.md", "benchmarks/**/*.md")
    paths = {path for pattern in patterns for path in TOP.glob(pattern)}
    paths.add(TOP / "tests/golden/README.md")
    return sorted(str(path.relative_to(TOP)) for path in paths)


def read_blocks(page, *languages):
    """The `Block`s of a page in these languages."""
    text = (TOP / page).read_text()
    return [
        Block(
            match["language"],
            match["text"],
            match["skip"] is None,
            text.count("\n", 0, match.start("text")),
        )
        for match in re.finditer(BLOCK, text)
        if match["language"] in languages
    ]


def read_commands(page):
    """The commands in a page's shell blocks, as lists of their words."""
    lines = [
        line
        for block in read_blocks(page, "sh")
        for line in block.text.replace("\\\n", "").splitlines()
    ]
    return [
        words
        for words in (shlex.split(line, comments=True) for line in lines)
        if words
    ]


def read_code(page):
    """What a page sets as code: its spans, and its shell blocks."""
    text = re.sub(r"(?ms)^ *```.*?^ *```$", "", (TOP / page).read_text())
    spans = re.findall(r"`([^`]+)`", text)
    return spans + [block.text for block in read_blocks(page, "sh")]


def executed_pages():
    """Pages of README and docs/ with a block of Python."""
    return [
        page
        for page in pages()
        if page == "README.md" or page.startswith("docs/")
        if any(block.executed for block in read_blocks(page, "python"))
    ]


def build_model():
    """A classifier of 8 x 8 pixels that takes no time."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, use_bias=False)(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Activation("softplus")(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(inputs, keras.layers.Dense(10)(x))


def make_namespace():
    """The names that the examples take for given."""
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
    """In a directory that holds what the commands name."""

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
        for run in ("demo", "portable"):
            checkpoints = directory / "runs" / run / "checkpoints"
            checkpoints.mkdir(parents=True)
            (checkpoints / "best.weights.h5").touch()
            settings = Config().to_dict()
            write_json(checkpoints.parent / "config.json", settings)
        cls.directory = directory

    def parse(self, arguments):
        """Fails if main.py refuses the arguments."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.chdir(self.directory))
            stack.enter_context(flagsaver.flagsaver())
            fail = mock.Mock(side_effect=AssertionError)
            stack.enter_context(mock.patch.object(flags, "fail", fail))
            try:
                flags.parse(["main.py", *arguments])
                flags.get_command()
            except (AssertionError, ValueError) as error:
                reason = fail.call_args or error
                self.fail(f"main.py {shlex.join(arguments)}: {reason}")

    @parameterized.parameters(*pages())
    def test_main(self, page):
        for words in read_commands(page):
            if "main.py" in words:
                arguments = words[words.index("main.py") + 1 :]
                if arguments != ["--helpshort"]:
                    self.parse(arguments)

    def test_a_wrong_flag_fails(self):
        self.parse(["--method=pgd", "--steps=10"])
        for wrong in ("--stepz=10", "--quantile=0.1", "--mode=evaluate"):
            with self.assertRaises(self.failureException):
                self.parse(["--method=pgd", wrong])

    @parameterized.parameters(*pages())
    def test_modules(self, page):
        """`python -m module` names one that is there."""
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
    """What the pages name exists."""

    @parameterized.parameters(*pages())
    def test_flags(self, page):
        known = known_flags()
        for code in read_code(page):
            for name in re.findall(r"(?<![\w-])--([a-z]\w*)", code):
                self.assertIn(name, known, code)

    @parameterized.parameters(*pages())
    def test_paths(self, page):
        # Without fences: they may show a tree.
        for code in read_code(page):
            for path in re.findall(
                rf"(?<![\w/.-])((?:{FOLDERS})/[\w./*-]*)", code
            ):
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

    def test_length_of_readme(self):
        lines = (TOP / "README.md").read_text().splitlines()
        self.assertLessEqual(len(lines), 150)


def known_flags():
    """Names of the flags of main.py, of the benchmarks, and of others."""
    names = {*absl_flags.FLAGS, *FOREIGN_FLAGS}
    for path in TOP.glob("benchmarks/**/*.py"):
        names |= set(
            re.findall(
                r'(?:DEFINE_\w+\(|add_argument\()\s*"-*(\w+)"',
                path.read_text(),
            )
        )
    return names | {f"no{name}" for name in names}


def exists(name):
    """Whether a dotted name is a module, or an attribute of one."""
    module, *attributes = name.split(".")
    if module in ("benchmarks", "tests"):  # Importing one defines its flags.
        return (TOP / name.replace(".", "/")).exists() or (
            TOP / f"{name.replace('.', '/')}.py"
        ).exists()
    found = importlib.import_module(module)
    for attribute in attributes:
        if isinstance(found, types.ModuleType):
            with contextlib.suppress(ModuleNotFoundError):
                importlib.import_module(f"{found.__name__}.{attribute}")
        if not hasattr(found, attribute):
            return False
        found = getattr(found, attribute)
    return True


def load_hooks():
    """The module docs/hooks.py, which is in no package."""
    spec = importlib.util.spec_from_file_location(
        "hooks", TOP / "docs/hooks.py"
    )
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    return hooks


class ApiTest(absltest.TestCase):
    """Each public name has its entry in the API reference."""

    def entries(self):
        """Dict from the entries of the pages to what they are."""
        hooks = load_hooks()
        paths = {
            path
            for page in sorted((TOP / "docs/api").glob("*.md"))
            for path in re.findall(
                r"(?m)^::: ([\w.]+)$",
                hooks.on_page_markdown(page.read_text()),
            )
        }
        found = {}
        for path in paths:
            module, _, name = path.rpartition(".")
            self.assertTrue(exists(path), path)
            found[path] = getattr(importlib.import_module(module), name)
        return found

    def test_every_public_name_has_an_entry(self):
        documented = list(self.entries().values())
        for name in fastbat_tf.__all__:
            public = getattr(fastbat_tf, name)
            self.assertTrue(
                any(public is entry for entry in documented),
                f"docs/api/*.md have no entry of {name}.",
            )

    def test_every_method_has_an_entry(self):
        entries = load_hooks().method_classes()
        classes = map(methods.get_class, methods.METHODS)
        self.assertSameElements(
            entries, [f"{c.__module__}.{c.__name__}" for c in classes]
        )


class WebsiteTest(absltest.TestCase):
    """The documentation is built; what is broken fails the build."""

    def setUp(self):
        super().setUp()
        # Sources alone, so that a build writes nothing here.
        self.copy = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory())
        )
        hooks = load_hooks()
        sources = [
            path
            for folder in ("fastbat_tf", "models")
            for path in (TOP / folder).rglob("*.py*")
            if path.suffix in (".py", ".pyi")
        ]
        others = TOP / "mkdocs.yml", TOP / "docs/hooks.py"
        for path in (*hooks.published(), *sources, *others):
            target = self.copy / path.relative_to(TOP)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)

    def build(self):
        return subprocess.run(
            [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"],
            cwd=self.copy,
            env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
            capture_output=True,
            text=True,
        )

    def test_builds(self):
        process = self.build()
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(process.stderr, "")
        site = self.copy / "build/site"
        text = (site / "docs/api/classifier.html").read_text()
        self.assertIn("fastbat_tf.training.classifier.RobustClassifier", text)
        text = (site / "docs/api/methods.html").read_text()
        self.assertIn('id="fastbat_tf.methods.fastbat.FastBAT"', text)
        # Nothing is loaded from elsewhere.
        for page in site.rglob("*.html"):
            self.assertNotRegex(
                page.read_text(),
                r'<(script|img|iframe)[^>]* src="(https?:)?//|'
                r'<link[^>]* rel="(stylesheet|preconnect)"[^>]*"(https?:)?//',
            )

    def build_with(self, text):
        """The errors of a build in which one page has this text at its end."""
        page = self.copy / "docs/serving.md"
        page.write_text(f"{page.read_text()}\n{text}\n")
        process = self.build()
        self.assertEqual(process.returncode, 1, process.stderr)
        return process.stderr

    def test_broken_links_fail(self):
        """A page, a heading and a name that are not there."""
        said = self.build_with(
            "[a page](nowhere.md) [a heading](index.md#nowhere) "
            "[a name][fastbat_tf.Nothing]"
        )
        self.assertIn("contains a link 'nowhere.md'", said)
        self.assertIn("does not contain an anchor '#nowhere'", said)
        self.assertRegex(said, "cross-reference target.*fastbat_tf.Nothing")
        self.assertLen(said.splitlines(), 3)

    def test_an_entry_of_nothing_fails(self):
        self.assertIn(
            "fastbat_tf.methods.nothing",
            self.build_with("::: fastbat_tf.methods.nothing.Nothing"),
        )


if __name__ == "__main__":
    absltest.main()
