"""Gives the documentation's website the layout of the repository.

MkDocs publishes the files of one folder, but README.md, the recipes, the
examples and the benchmarks have files of their own and link to each other.
`on_files` publishes all of them at their paths in the repository, so that a
relative link means the same on GitHub, in a clone and on the website.

`on_startup` keeps `--strict` strict under `--quiet`.

`on_page_markdown` replaces the lines `<!-- every method -->` and
`<!-- every attack -->` by an entry of the API reference for each such class.

`PlainSections` extends griffe, which reads the docstrings.
"""

import ast
import logging
import pathlib
import re
import textwrap

import griffe
from mkdocs.structure.files import File

TOP = pathlib.Path(__file__).absolute().parent.parent
PUBLISHED = (
    "*.md",
    "CITATION.cff",
    "LICENSE",
    "docs/**/*",
    "examples/*",
    "recipes/**/*",
    "benchmarks/**/*.md",
    "tests/golden/*.md",
)
NOT_PUBLISHED = {"docs/hooks.py"}


class PlainSections(griffe.Extension):
    """Sets examples and return values as plain text with a heading.

    Keras and this library do not indent examples, so griffe takes them for
    Markdown. A return value without a type would become a list of one item.
    The few type annotations are for type checkers; the text says more.
    """

    def on_object(self, *, obj, **_):
        if obj.is_function:
            for parameter in obj.parameters:
                parameter.annotation = None
        if obj.docstring is None:
            return
        text = re.sub(
            r"(?m)^( *)>>> .*(\n\1\S.*)*",
            r"\1```pycon\n\g<0>\n\1```",
            obj.docstring.value,
        )
        text = re.sub(r"(?m)^Examples?:\n\n(?! )", "**Example:**\n\n", text)
        obj.docstring.value = re.sub(
            r"(?m)^Returns:\n((?:(?: .*)?(?:\n|\Z))+)",
            lambda match: f"**Returns:**\n\n{textwrap.dedent(match[1])}",
            text,
        )


def on_startup(**_):
    """Lets `--strict` count warnings that `--quiet` would suppress."""
    logger = logging.getLogger("mkdocs")
    logger.setLevel(min(logger.getEffectiveLevel(), logging.WARNING))


def on_files(files, config):
    """Replaces the files of docs/ by those of the repository."""
    for file in list(files):
        if file.src_dir == config.docs_dir:
            files.remove(file)
    for path in published():
        files.append(
            File(
                path.relative_to(TOP).as_posix(),
                src_dir=str(TOP),
                dest_dir=config.site_dir,
                use_directory_urls=config.use_directory_urls,
            )
        )
    return files


def on_page_markdown(markdown, **_):
    """Expands the lists of methods and attacks."""
    lists = {"method": method_classes, "attack": attack_classes}
    for kind, classes in lists.items():
        line = f"<!-- every {kind} -->"
        if line in markdown:
            entries = "\n\n".join(
                f"::: {path}\n    options:\n      members: false"
                for path in classes()
            )
            markdown = markdown.replace(line, entries)
    return markdown


def published():
    """Returns the paths of all files of the website, sorted."""
    paths = {path for pattern in PUBLISHED for path in TOP.glob(pattern)}
    return sorted(
        path
        for path in paths
        if path.is_file() and path.suffix != ".pyc"
        if path.relative_to(TOP).as_posix() not in NOT_PUBLISHED
    )


def method_classes():
    """Returns the classes in `fastbat_tf/methods` that have a `name`."""
    return [path for path, node in _classes("methods") if _has_name(node)]


def attack_classes():
    """Returns the classes in `fastbat_tf/attacks` that are an attack."""
    found = {}
    # A class that is derived from another attack comes in a later pass.
    bases = {"Attack", "SteppedAttack", "TargetableAttack"}
    for _ in range(2):
        for path, node in _classes("attacks"):
            is_base = path.rpartition(".")[2] in bases - set(found.values())
            # A search of a function is no attack by name.
            is_base |= path.startswith("fastbat_tf.attacks.nearest.")
            if not is_base and bases & set(map(ast.unparse, node.bases)):
                found[path] = node.name
        bases |= set(found.values())
    return sorted(found)


def _classes(folder):
    """Returns pairs of the full name and the syntax tree of each class."""
    return [
        (f"fastbat_tf.{folder}.{path.stem}.{node.name}", node)
        for path in sorted((TOP / "fastbat_tf" / folder).glob("*.py"))
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]


def _has_name(node):
    """Returns whether the body of a class has a line `name = "..."`."""
    return any(
        isinstance(line, ast.Assign)
        and [ast.unparse(target) for target in line.targets] == ["name"]
        and isinstance(line.value, ast.Constant)
        and line.value.value
        for line in node.body
    )
