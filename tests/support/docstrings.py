"""The examples in the docstrings of the library, read for their test."""

import doctest
import importlib
import inspect
import pkgutil
import re
from typing import NamedTuple

import fastbat_tf
from tests.support.documentation import find_blocks


class Docstring(NamedTuple):
    """A docstring that has an example.

    Attributes:
        module: String, the module, such as `fastbat_tf.methods.state`.
        name: String, what it describes in the module, such as
            `Plan.progress`, or `""` for the module itself.
        sessions: List of `doctest.Example`s, the lines with `>>>`.
        blocks: List of the `Block`s of Python.
    """

    module: str
    name: str
    sessions: list
    blocks: list

    @property
    def title(self):
        return f"{self.module}.{self.name}".rstrip(".")

    @property
    def is_executed(self):
        """Whether a part of it runs."""
        return any(block.executed for block in self.blocks) or not all(
            example.options.get(doctest.SKIP) for example in self.sessions
        )

    @property
    def is_skipped(self):
        """Whether a part of it does not run."""
        return not all(block.executed for block in self.blocks) or any(
            example.options.get(doctest.SKIP) for example in self.sessions
        )


def read_docstrings():
    """Returns the `Docstring`s of all modules, as Python has made them."""
    found = []
    for module in _modules():
        for name, text in _texts(module):
            text = inspect.cleandoc(text or "")
            sessions = doctest.DocTestParser().get_examples(text)
            blocks = find_blocks(text, "python")
            if sessions or blocks:
                found.append(Docstring(module.__name__, name, sessions, blocks))
    return found


def without_equal(docstrings):
    """Leaves out examples that differ from others in their own name only."""
    first = {}
    for docstring in docstrings:
        code = [example.source for example in docstring.sessions]
        code += [block.text for block in docstring.blocks]
        name = re.escape(docstring.name.rpartition(".")[-1])
        text = re.sub(rf"\b{name}\b", "", "".join(code)) if name else code[0]
        first.setdefault((docstring.module, text), docstring)
    return list(first.values())


def _modules():
    yield fastbat_tf
    for info in pkgutil.walk_packages(fastbat_tf.__path__, "fastbat_tf."):
        if not info.name.endswith("__main__"):
            yield importlib.import_module(info.name)


def _texts(module):
    """Yields the names and docstrings of what a module defines."""
    yield "", module.__doc__
    for name, value in vars(module).items():
        if name.startswith("_") or not _is_of(value, module):
            continue
        yield name, value.__doc__
        if inspect.isclass(value):
            for inner, member in vars(value).items():
                member = getattr(member, "fget", member)  # A property.
                member = getattr(member, "__func__", member)
                if inspect.isfunction(member) and _is_of(member, module):
                    yield f"{name}.{inner}", member.__doc__


def _is_of(value, module):
    is_documented = inspect.isclass(value) or inspect.isfunction(value)
    return is_documented and value.__module__ == module.__name__
