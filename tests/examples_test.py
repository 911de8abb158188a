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
import pytest
from absl.testing import absltest, parameterized

from tests.support import notebook
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
        # Keras' own, where it restores the best weights.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("error", category=UserWarning)
        # Too few images and steps to be above chance.
        warnings.filterwarnings("ignore", "The clean accuracy", UserWarning)
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

    @pytest.mark.slow
    def test_a_file_of_weights(self):
        """Which stands for the download: the network is the same."""
        network = keras.applications.MobileNet(
            (128, 128, 3), alpha=0.25, include_top=False, weights=None
        )
        network.save_weights("mobile.weights.h5")
        text = run(
            "finetune_pretrained", "--small", "--weights=mobile.weights.h5"
        )
        self.assertEqual(
            form(text), form(printed_in_full("finetune_pretrained"))
        )

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


def code_cells(saved):
    return [cell for cell in saved.cells if cell.cell_type == "code"]


def summary(cell):
    """What a cell shows: printed text without numbers, and kinds of media."""
    printed = "".join(
        output.text for output in cell.outputs if output.get("name") == "stdout"
    )
    media = [sorted(output.data) for output in cell.outputs if "data" in output]
    return form(printed), media


class NotebookTest(absltest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.saved = notebook.read()

    @pytest.mark.slow  # .ci/wheel runs it, too.
    def test_it_runs(self):
        """With small settings each cell shows what the saved one shows."""
        executed = notebook.execute(SMALL="1")
        for now, then in zip(
            code_cells(executed), code_cells(self.saved), strict=True
        ):
            self.assertEqual(summary(now), summary(then), now.source)

    def test_all_cells_are_saved_in_order(self):
        cells = code_cells(self.saved)
        self.assertEqual(
            [cell.execution_count for cell in cells],
            list(range(1, len(cells) + 1)),
        )
        pictures = sum(
            "image/png" in media for cell in cells for media in summary(cell)[1]
        )
        self.assertEqual(pictures, 5)

    def test_nothing_of_the_machine_is_saved(self):
        """No warnings, widgets, paths or times, in less than a megabyte."""
        self.assertLess(notebook.PATH.stat().st_size, 2**20)
        self.assertEqual(self.saved.metadata, notebook.METADATA)
        for cell in self.saved.cells:
            self.assertEmpty(cell.metadata)
            for output in cell.get("outputs", []):
                self.assertNotEqual(output.get("name"), "stderr", cell.source)
                for media, value in output.get("data", {}).items():
                    self.assertIn(media, ("text/plain", "image/png"))
                    if media == "text/plain":
                        self.assertNotRegex(value, r"/\w+/| at 0x")
                self.assertNotRegex(output.get("text", ""), r"(?<!\d)/\w+/")


if __name__ == "__main__":
    absltest.main()
