"""Tests of the layout: what imports what, and where files are."""

import ast
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from absl.testing import absltest, parameterized

from tests.support.command_line import TOP, python

PACKAGES = ("benchmarks", "fastbat_tf", "flags", "models", "tests")
LINES = 400  # A file has at most so many.

# A file, an import that it must not have, and the contract that reports it.
FORBIDDEN = (
    (
        "fastbat_tf/attacks/pgd.py",
        "from fastbat_tf.methods import base",
        "Within the library, imports run down only",
    ),
    (
        "fastbat_tf/methods/pgd.py",
        "import fastbat_tf.experiment.config",
        "Within the library, imports run down only",
    ),
    (
        "fastbat_tf/evaluation/table.py",
        "def late():\n    from fastbat_tf.experiment import config",
        "Within the library, imports run down only",
    ),
    (
        "fastbat_tf/draws.py",
        "from fastbat_tf.runtime import display",
        "Within the library, imports run down only",
    ),
    (
        "fastbat_tf/a_new_room.py",
        "",
        "Within the library, imports run down only",
    ),
    (
        "fastbat_tf/training/losses.py",
        "import models",
        "The library imports neither flags nor the models of a clone",
    ),
    (
        "fastbat_tf/experiment/config.py",
        "from flags import method",
        "The library imports neither flags nor the models of a clone",
    ),
    (
        "fastbat_tf/models/blocks.py",
        "import tensorflow as tf",
        "The models import Keras, and not TensorFlow",
    ),
    (
        "fastbat_tf/models/registry.py",
        "from fastbat_tf import errors",
        "Within the library, imports run down only",
    ),
    (
        "fastbat_tf/experiment/train.py",
        "def late():\n    from fastbat_tf import models",
        "No other room of the library imports the models",
    ),
    (
        "fastbat_tf/files.py",
        "from absl import flags as absl_flags",
        "Only flags, main and the benchmarks import absl.flags",
    ),
    (
        "fastbat_tf/experiment/train.py",
        "from absl.flags import FLAGS",
        "Only flags, main and the benchmarks import absl.flags",
    ),
)


def python_files(*folders):
    """Paths of the Python files of these folders, of PACKAGES by default."""
    for folder in folders or PACKAGES:
        yield from sorted((TOP / folder).rglob("*.py"))


def check_contracts(directory):
    """Runs import-linter on the packages in `directory`.

    Returns:
        What `subprocess.run` does.
    """
    program = pathlib.Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [program, "--no-logo", "--no-cache"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=300,
    )


class ContractsTest(parameterized.TestCase):
    """The contracts of import-linter, on a copy of the packages."""

    def setUp(self):
        super().setUp()
        self.directory = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory())
        )
        shutil.copy(TOP / "pyproject.toml", self.directory)
        for path in python_files():
            copy = self.directory / path.relative_to(TOP)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)

    def test_they_are_kept(self):
        with open(self.directory / "fastbat_tf/files.py", "a") as file:
            file.write("from absl import app, logging\n")  # Not absl.flags.
        process = check_contracts(self.directory)
        self.assertEqual(process.returncode, 0, process.stdout)
        self.assertIn("5 kept, 0 broken", process.stdout)

    @parameterized.parameters(*FORBIDDEN)
    def test_a_forbidden_import_is_reported(self, file, line, contract):
        with open(self.directory / file, "a") as copy:
            copy.write(f"{line}\n")
        process = check_contracts(self.directory)
        self.assertEqual(process.returncode, 1, process.stdout)
        self.assertIn("4 kept, 1 broken", process.stdout)
        self.assertIn(f"{contract} BROKEN", process.stdout)


class ImportTest(absltest.TestCase):
    """What an import brings with it, in a new process."""

    def loaded(self, statement):
        """Names of the modules that are loaded after `statement`."""
        process = python("-c", f"{statement}\nimport sys\nprint(*sys.modules)")
        self.assertEqual(process.returncode, 0, process.stderr)
        return set(process.stdout.split())

    def test_evaluation_needs_no_experiment(self):
        loaded = self.loaded(
            "from fastbat_tf.evaluation import evaluate_robustness"
        )
        self.assertIn("fastbat_tf.evaluation.robustness", loaded)
        self.assertNoCommonElements(
            loaded, ["fastbat_tf.experiment", "flags", "models"]
        )

    def test_flags_and_registries_need_no_tensorflow(self):
        loaded = self.loaded(
            "import flags\n"
            "from fastbat_tf.experiment import config, run_directory\n"
            "from fastbat_tf import attacks, data, methods\n"
            "from models import registry\n"
        )
        self.assertContainsSubset(
            ["fastbat_tf.methods.registry", "models.registry"], loaded
        )
        self.assertNoCommonElements(loaded, ["keras", "scipy", "tensorflow"])


class BuildTest(absltest.TestCase):
    """The dependencies in BUILD, which no import of a clone needs."""

    def test_layers_are_built_with_what_they_import(self):
        (layers,) = (
            ast.literal_eval(node.value)
            for node in ast.parse((TOP / "BUILD").read_text()).body
            if isinstance(node, ast.Assign) and node.targets[0].id == "LAYERS"
        )
        reached = {}
        for layer, below in layers.items():
            reached[layer] = {layer}.union(*(reached[name] for name in below))
            imported = {
                name
                for path in python_files(f"fastbat_tf/{layer}")
                for name in re.findall(
                    r"^\s*from fastbat_tf\.(\w+)", path.read_text(), re.M
                )
            }
            self.assertLessEqual(imported & set(layers), reached[layer], layer)


class FilesTest(parameterized.TestCase):
    """Where files are, how long they are, and what an `__init__.py` holds."""

    def test_no_file_is_long(self):
        lengths = {
            str(path.relative_to(TOP)): len(path.read_text().splitlines())
            for path in [*python_files(), TOP / "main.py"]
        }
        self.assertGreater(len(lengths), 200)
        long = {path: n for path, n in lengths.items() if n > LINES}
        self.assertEmpty(long)

    def test_tests_lie_in_the_folders_of_what_they_test(self):
        folders = {path.parent for path in python_files("tests")}
        # Those without tests of a package: what tests share, or pyright reads.
        folders -= {TOP / "tests" / name for name in ("", "support", "typing")}
        self.assertGreater(len(folders), 10)
        for folder in folders:
            tested = folder.relative_to(TOP / "tests")
            self.assertTrue(
                (TOP / tested / "__init__.py").exists()
                or (TOP / "fastbat_tf" / tested / "__init__.py").exists(),
                folder,
            )

    def test_init_files_only_export(self):
        inits = [
            path
            for path in python_files("fastbat_tf", "models")
            if path.name == "__init__.py"
        ]
        self.assertGreater(len(inits), 10)
        for path in inits:
            for node in ast.parse(path.read_text()).body:
                self.assertTrue(_only_exports(node), ast.unparse(node))

    @parameterized.parameters(
        "def get():\n    pass", "import_module('os')", "METHODS = {}"
    )
    def test_init_files_with_more_are_seen(self, source):
        (node,) = ast.parse(source).body
        self.assertFalse(_only_exports(node))


def _only_exports(node):
    """Whether it is an import, a docstring, or `__all__` and its like."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Assign):
        names = ast.unparse(node.targets[0]).strip("()").split(", ")
        return all(name.startswith("__") for name in names)
    return isinstance(node, ast.Import | ast.ImportFrom)


if __name__ == "__main__":
    absltest.main()
