"""Tests of the public names: in Python, in the wheel; typing_test has types."""

import inspect
import pathlib
import re
import rlcompleter
import shutil
import subprocess
import sys
import tempfile
import zipfile

from absl.testing import absltest, parameterized

import fastbat_tf
from tests.support.command_line import TOP, python
from tests.support.documentation import read_blocks
from tests.support.public_names import public_names


class NamesTest(parameterized.TestCase):
    def test_each_is_found(self):
        self.assertGreater(len(fastbat_tf.__all__), 40)
        self.assertContainsSubset(
            ["FastBAT", "Method", "RobustClassifier", "evaluate_robustness"],
            fastbat_tf.__all__,
        )
        self.assertEqual(fastbat_tf.__all__, sorted(set(fastbat_tf.__all__)))
        for name in fastbat_tf.__all__:
            found = getattr(fastbat_tf, name).__name__
            self.assertEqual(found.removeprefix("fastbat_tf."), name)

    def test_names_are_listed_and_completed(self):
        self.assertContainsSubset(fastbat_tf.__all__, dir(fastbat_tf))
        completer = rlcompleter.Completer({"fastbat_tf": fastbat_tf})
        self.assertCountEqual(
            [
                name.strip("()")
                for name in completer.attr_matches("fastbat_tf.Fa")
            ],
            ["fastbat_tf.FastAT", "fastbat_tf.FastBAT"],
        )

    def test_star(self):
        names = {}
        exec("from fastbat_tf import *", names)
        self.assertContainsSubset(fastbat_tf.__all__, names)

    def test_an_unknown_name(self):
        with self.assertRaisesRegex(AttributeError, "fastbat_tf.*Fastbat"):
            fastbat_tf.Fastbat  # noqa: B018
        with self.assertRaisesRegex(ImportError, "'Fastbat' from 'fastbat_tf'"):
            from fastbat_tf import Fastbat  # noqa: F401
        self.assertFalse(hasattr(fastbat_tf, "_Method"))

    def test_help(self):
        process = python("-c", "import fastbat_tf\nhelp(fastbat_tf)")
        self.assertEqual(process.returncode, 0, process.stderr)
        for name in fastbat_tf.__all__:
            self.assertRegex(
                process.stdout, rf"(class {name}\(| {name} ?\(|^    {name} = )"
            )
        self.assertIn(f"VERSION\n    {fastbat_tf.__version__}", process.stdout)

    def test_the_import_is_light(self):
        process = python(
            "-c",
            "import sys, fastbat_tf\n"
            "dir(fastbat_tf), fastbat_tf.__version__, fastbat_tf.__all__\n"
            "assert not {'keras', 'numpy', 'tensorflow'} & sys.modules.keys()",
        )
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(process.stdout + process.stderr, "")

    def test_names_of_packages_are_completed(self):
        """In a new process, which has imported nothing else."""
        process = python(
            "-c",
            "import rlcompleter, fastbat_tf\n"
            "completer = rlcompleter.Completer({'fastbat_tf': fastbat_tf})\n"
            "for package in ('attacks', 'models'):\n"
            "    print(*completer.attr_matches(f'fastbat_tf.{package}.'))",
        )
        for package in ("attacks", "models"):
            found = re.findall(rf"tf\.{package}\.(\w+)", process.stdout)
            listed = getattr(fastbat_tf, package).__all__
            self.assertContainsSubset(listed, found, process.stderr)
            self.assertGreater(len(listed), 15)

    def test_signatures_and_docstrings(self):
        """What `help` and an editor show of each."""
        for name, value in public_names().items():
            if not callable(value):
                continue
            self.assertTrue(inspect.getdoc(value), name)
            parameters = inspect.signature(value).parameters.values()
            named = [p for p in parameters if p.name not in ("args", "kwargs")]
            self.assertTrue(named or not parameters, name)


class WheelTest(absltest.TestCase):
    """The installed package: its files."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory())
        )
        cls.site = directory / "site"
        source = directory / "source"
        source.mkdir()
        for name in ("pyproject.toml", "LICENSE"):
            shutil.copy(TOP / name, source)
        for name in ("docs", "fastbat_tf", "flags", "recipes"):
            shutil.copytree(
                TOP / name,
                source / name,
                ignore=shutil.ignore_patterns("__pycache__"),
            )
        subprocess.run(
            [
                sys.executable,
                "-c",
                "from setuptools import build_meta\n"
                "build_meta.build_wheel('../wheel')\n",
            ],
            cwd=source,
            check=True,
            capture_output=True,
        )
        (wheel,) = directory.glob("wheel/*.whl")
        zipfile.ZipFile(wheel).extractall(cls.site)

    def test_its_files(self):
        """All that are in the repository, and no others."""

        def files(top, folder="fastbat_tf"):
            return {
                path.relative_to(top).as_posix()
                for path in (top / folder).rglob("*")
                if path.is_file() and path.suffix != ".pyc"
            }

        moved = files(TOP, "flags") | files(TOP, "recipes")
        moved.remove("recipes/README.md")
        self.assertEqual(
            files(self.site),
            files(TOP) | {f"fastbat_tf/{name}" for name in moved},
            "`packages` and `package-data` of pyproject.toml list each folder.",
        )
        (about,) = self.site.glob("*.dist-info")
        self.assertEqual(
            set(self.site.iterdir()), {self.site / "fastbat_tf", about}
        )
        self.assertEqual(
            {path.name for path in about.iterdir()},
            {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses"}
            | {"top_level.txt"},
        )
        self.assertContainsSubset(
            {
                "fastbat_tf/__init__.pyi",
                "fastbat_tf/py.typed",
                "fastbat_tf/data/cifar10_mini/train.png",
                "fastbat_tf/flags/start.py",
                "fastbat_tf/models/blocks.py",
                "fastbat_tf/recipes/demo.cfg",
                "fastbat_tf/training/callbacks/validation.py",
            },
            files(self.site),
        )

    def test_its_description(self):
        """It links to no file of the repository, and shows README's Python."""
        (metadata,) = self.site.glob("*.dist-info/METADATA")
        text = metadata.read_text()
        page = (TOP / "docs/package.md").read_text()
        self.assertEndsWith(text.strip(), page.strip())
        for target in re.findall(r"\]\(([^)]*)\)", page):
            self.assertStartsWith(target, "https://")
        readme = read_blocks("README.md", "python")
        shown = [
            block.text for block in read_blocks("docs/package.md", "python")
        ]
        self.assertGreaterEqual(len(readme), 2)
        self.assertContainsSubset([block.text for block in readme], shown)


if __name__ == "__main__":
    absltest.main()
