"""Runs the examples with small settings, and checks what they print."""

import ast
import contextlib
import io
import pathlib
import re
import runpy
import sys
import tempfile
import warnings
from unittest import mock

import keras
from absl.testing import absltest, parameterized

from tests.support.command_line import TOP
from tests.support.documentation import read_blocks

FOLDER = TOP / "examples"
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py"))
# Beside `--small`.
ARGUMENTS = {"finetune_pretrained": ["--weights=none"]}


def printed_in_full(name):
    """What the head comment of an example says that it printed."""
    comment = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text()))
    (block,) = re.findall(r"printed:\n\n((?:    .*\n|\n)+)", comment)
    return re.sub("(?m)^    ", "", block).strip("\n")


def form(text):
    """A text without its numbers and without the width of its columns."""
    return re.sub(r" +", " ", re.sub(r" *\d[\d.]*", " 0", text)).strip()


def run(name, *arguments):
    """Runs a script in this process, in an empty folder that it returns."""
    path = FOLDER / f"{name}.py"
    with (
        mock.patch.object(sys, "argv", [str(path), *arguments]),
        contextlib.redirect_stdout(io.StringIO()) as stdout,
        warnings.catch_warnings(),
    ):
        # Too few images and steps to be above chance.
        warnings.filterwarnings("ignore", "The clean accuracy", UserWarning)
        warnings.filterwarnings("error", category=UserWarning)
        runpy.run_path(str(path), run_name="__main__")
    return stdout.getvalue()


class ScriptsTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory())
        )
        self.enterContext(contextlib.chdir(self.folder))

    @parameterized.parameters(*SCRIPTS)
    def test_it_prints_what_it_says(self, name):
        """With small settings it prints the same text, with other numbers."""
        text = run(name, "--small", *ARGUMENTS.get(name, []))
        self.assertEqual(form(text), form(printed_in_full(name)))
        # Robust images are among those that are right without an attack.
        for clean, attacked in re.findall(
            r"clean accuracy +([\d.]+)%, under attack +([\d.]+)%", text
        ):
            self.assertLessEqual(float(attacked), float(clean))

    @parameterized.parameters(*SCRIPTS)
    def test_its_page(self, name):
        """docs/examples.md shows what the head comment shows."""
        blocks = [
            block.text for block in read_blocks("docs/examples.md", "text")
        ]
        self.assertIn(printed_in_full(name) + "\n", blocks)

    @parameterized.parameters(*SCRIPTS)
    def test_its_size(self, name):
        lines = (FOLDER / f"{name}.py").read_text().splitlines()
        self.assertBetween(len(lines), 30, 130)

    def test_a_download_that_fails(self):
        self.enterContext(
            mock.patch.object(
                keras.applications,
                "MobileNet",
                side_effect=Exception("URL fetch failure on https://storage"),
            )
        )
        with self.assertRaisesRegex(
            SystemExit, "^.*--weights=none.* URL fetch failure on .*$"
        ):
            run("finetune_pretrained", "--small")


if __name__ == "__main__":
    absltest.main()
