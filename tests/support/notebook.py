"""Runs the notebook; `python -m tests.support.notebook` saves its outputs."""

import contextlib
import os
import tempfile
from unittest import mock

import nbclient
import nbformat

from tests.support.command_line import TOP

PATH = TOP / "examples" / "quickstart.ipynb"
METADATA = {
    "kernelspec": {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    },
    "language_info": {"name": "python"},
}


def read():
    """Returns the saved notebook."""
    return nbformat.read(PATH, as_version=4)


def execute(**environment):
    """Runs all cells in a new kernel, and returns the notebook with outputs.

    Args:
        **environment: Variables of the kernel's environment.

    Returns:
        The notebook, without what TensorFlow's C++ says about the machine when
        it starts, and without times.
    """
    notebook = read()
    # The checkout, if the package is not installed.
    paths = [str(TOP), os.environ.get("PYTHONPATH", "")]
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, paths))} | (
        environment
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, environment),
    ):
        nbclient.NotebookClient(notebook, timeout=3000).execute()
    for cell in notebook.cells:
        cell.metadata.clear()
        if cell.cell_type == "code":
            cell.outputs = [
                output
                for output in cell.outputs
                if not is_start_message(output)
            ]
    notebook.metadata = METADATA
    return notebook


def is_start_message(output):
    """Whether an output is what TensorFlow logs when it starts."""
    return output.get("name") == "stderr" and "0000 00:00:" in output.text


if __name__ == "__main__":
    nbformat.write(execute(), PATH)
