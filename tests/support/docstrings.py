"""The examples in the docstrings of the library, read for their test."""

import ast
import doctest
import inspect
from typing import NamedTuple

from tests.support.command_line import TOP
from tests.support.documentation import find_blocks

_DOCUMENTED = ast.Module, ast.ClassDef, ast.FunctionDef


class Docstring(NamedTuple):
    """A docstring that has an example.

    Attributes:
        module: String, the module, such as `fastbat_tf.methods.base`.
        name: String, what it describes in the module, such as
            `Plan.progress`, or `""` for the module itself.
        sessions: List of `doctest.Example`s, with `>>>`.
        blocks: List of the `Block`s of Python.
        line: Integer, its first line in the file.
    """

    module: str
    name: str
    sessions: list
    blocks: list
    line: int

    @property
    def is_executed(self):
        """Whether a part of it runs."""
        return any(block.executed for block in self.blocks) or any(
            not example.options.get(doctest.SKIP) for example in self.sessions
        )

    @property
    def is_skipped(self):
        """Whether a part of it does not run."""
        return not all(block.executed for block in self.blocks) or any(
            example.options.get(doctest.SKIP) for example in self.sessions
        )


def read_docstrings(package="fastbat_tf"):
    """Returns the `Docstring`s of all modules that have an example."""
    found = []
    for path in sorted((TOP / package).rglob("*.py")):
        parts = path.relative_to(TOP).with_suffix("").parts
        module = ".".join(parts).removesuffix(".__init__")
        tree = ast.parse(path.read_text())
        for name, node in _documented(tree):
            text = inspect.cleandoc(ast.get_docstring(node, clean=False) or "")
            sessions = doctest.DocTestParser().get_examples(text)
            blocks = find_blocks(text, "python")
            if sessions or blocks:
                line = 1 if name == "" else node.body[0].lineno
                found.append(Docstring(module, name, sessions, blocks, line))
    return found


def _documented(node, prefix=""):
    """Yields each documented node below a node, with its name."""
    if isinstance(node, _DOCUMENTED):
        yield prefix, node
    for child in ast.iter_child_nodes(node):
        name = getattr(child, "name", "")
        if isinstance(child, _DOCUMENTED):
            yield from _documented(child, f"{prefix}.{name}".lstrip("."))
