"""The pages of the documentation, read for its tests."""

import contextlib
import importlib
import importlib.util
import re
import shlex
import types
from typing import NamedTuple

from tests.support.command_line import TOP

NOT_EXECUTED = r"<!-- not executed: .+ -->\n+"
BLOCK = (
    rf"(?ms)^(?P<skip>{NOT_EXECUTED})?```(?P<language>\w*)\n(?P<text>.*?)^```$"
)


class Block(NamedTuple):
    """A block of code of a page.

    Attributes:
        language: The word after the opening backquotes.
        text: The code.
        executed: False if a comment skips it.
        line: Integer, its first line on the page.
    """

    language: str
    text: str
    executed: bool
    line: int


def pages():
    """Returns the paths of all pages, relative to the repository."""
    patterns = ("*.md", "docs/**/*.md", "recipes/*.md", "benchmarks/**/*.md")
    paths = {path for pattern in patterns for path in TOP.glob(pattern)}
    paths.add(TOP / "tests/golden/README.md")
    return sorted(str(path.relative_to(TOP)) for path in paths)


def read_blocks(page, *languages):
    """Returns the `Block`s of a page in these languages."""
    return find_blocks((TOP / page).read_text(), *languages)


def find_blocks(text, *languages):
    """Returns the `Block`s of a text in these languages."""
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


def executed_pages():
    """Returns the pages among README.md and docs/ whose Python is run."""
    return [
        page
        for page in pages()
        if page == "README.md" or page.startswith("docs/")
        if any(block.executed for block in read_blocks(page, "python"))
    ]


def read_commands(page):
    """Returns the commands in a page's shell blocks, split into words."""
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
    """Returns the code spans and the shell blocks of a page."""
    text = re.sub(r"(?ms)^ *```.*?^ *```$", "", (TOP / page).read_text())
    spans = re.findall(r"`([^`]+)`", text)
    return spans + [block.text for block in read_blocks(page, "sh")]


def exists(name):
    """Returns whether a dotted name is a module, or an attribute of one."""
    module, *attributes = name.split(".")
    if module in ("benchmarks", "tests"):  # An import would define its flags.
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
    """Imports docs/hooks.py, which is in no package."""
    spec = importlib.util.spec_from_file_location(
        "hooks", TOP / "docs/hooks.py"
    )
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    return hooks


def read_tables(page):
    """Returns the tables of a page.

    Returns:
        Dict from the text of a heading to the tables below it. A table is a
        list of rows, of which the first has the heads; a row is a list of
        strings.
    """
    found = {}
    heading, previous = "", ""
    for line in (TOP / page).read_text().splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and not set("".join(cells)) <= set("-:"):
            tables = found.setdefault(heading, [])
            if not previous.startswith("|"):
                tables.append([])
            tables[-1].append(cells)
        previous = line
    return found
