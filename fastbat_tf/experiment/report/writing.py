"""Writes the report: `report.html`, and `report.md` with its pictures."""

import os
import pathlib
import time
from typing import NamedTuple

import fastbat_tf
from fastbat_tf import files
from fastbat_tf.errors import InputError
from fastbat_tf.experiment.report import (
    charts,
    classes,
    comparison,
    corruptions,
    cost,
    distances,
    gallery,
    markdown,
    method,
    overfitting,
    page,
    quotable,
    radii,
    stages,
    surface,
)
from fastbat_tf.experiment.report import tables as paper
from fastbat_tf.experiment.report.blocks import Section
from fastbat_tf.experiment.report.record import RunRecord

PARTS = (
    quotable,
    radii,
    distances,
    stages,
    overfitting,
    method,
    classes,
    gallery,
    surface,
    comparison,
    cost,
)
OPTIONAL = (corruptions,)  # Left out if they have nothing to show.
HTML, MARKDOWN, PICTURES = "report.html", "report.md", "report_files"
SECONDS_TO_WRITE = 30.0  # Of another process that writes the same report.
# As many as a heading holds.
NAMES = 4


class Written(NamedTuple):
    """The files of a report.

    Attributes:
        html: `pathlib.Path` of the page.
        markdown: `pathlib.Path` of the same as Markdown.
    """

    html: pathlib.Path
    markdown: pathlib.Path


def write(records: list[RunRecord], directory: str | os.PathLike) -> Written:
    """Writes the report of runs and evaluations.

    Args:
        records: List of `RunRecord`s, as `record.read` returns it.
        directory: Path of the directory of the report, which need not exist.

    Returns:
        The paths of the files.

    Raises:
        InputError: If a file of a run cannot be read, or the report cannot be
            written.

    Example:

    ```python
    from fastbat_tf.experiment.report import record, writing

    runs = record.read(["runs/fastbat", "runs/standard"])
    writing.write(runs, "comparison").html
    ```
    """
    directory = pathlib.Path(directory)
    made = sections(records)
    heading = title(records), subtitle(records)
    text = markdown.render(made, *heading, PICTURES)
    written = Written(directory / HTML, directory / MARKDOWN)
    try:
        files.make_directory(directory)
        # A training and an evaluation of the same run may end together.
        with files.locked(directory / ".report.lock", SECONDS_TO_WRITE):
            _write_pictures(directory / PICTURES, markdown.pictures(made))
            _write(written.markdown, text)
            _write(written.html, page.render(made, *heading))
    except OSError as error:
        raise InputError(
            "The report cannot be written; check free space and permissions. "
            f"Received: report_dir={directory} ({error})"
        ) from error
    return written


def sections(records: list[RunRecord]) -> list[Section]:
    """Returns the `Section`s of the report, in the order of the page."""
    with charts.style():
        made = [_section(part, records) for part in PARTS]
        others = [_section(part, records) for part in OPTIONAL]
    return [*made, *(section for section in others if section.blocks)]


def _section(part, records):
    return Section(part.QUESTION, part.blocks(records))


def title(records: list[RunRecord]) -> str:
    """Returns the heading: the names of the runs."""
    names = list(dict.fromkeys(each.group or each.name for each in records))
    if len(names) > NAMES:
        return f"{', '.join(names[:NAMES])} and {len(names) - NAMES} more"
    return ", ".join(names)


def subtitle(records: list[RunRecord]) -> str:
    """Returns the line below: when, and by which version."""
    times = [
        (each.path / name).stat().st_mtime
        for each in records
        for name in ("results.json", "history.csv", "config.json")
        if (each.path / name).exists()
    ]
    date = time.strftime("%Y-%m-%d", time.gmtime(max(times)))
    return (
        f"How robust, at what cost. Newest result: {date}. Written by "
        f"fastbat_tf {fastbat_tf.__version__}."
    )


def tables(records: list[RunRecord], form: str) -> str:
    """Returns the tables of a comparison, for a paper.

    Args:
        records: List of `RunRecord`s.
        form: `"latex"` or `"markdown"`.

    Raises:
        InputError: If no run has been measured.
    """
    forms = {"latex": paper.latex, "markdown": paper.markdown}
    return forms[form](records)


def _write_pictures(directory, contents):
    files.make_directory(directory)
    for name, content in contents.items():
        with files.replacing(directory / name) as file:
            file.write(content)
    for path in directory.iterdir():  # Those of an earlier report.
        if path.suffix in (".svg", ".png") and path.name not in contents:
            path.unlink()


def _write(path, text):
    with files.replacing(path) as file:
        file.write(text.encode())
