"""The parts of a report, which HTML and Markdown show alike."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

NOTHING = "\N{EN DASH}"  # Stands in a cell of a table that has no value.


class Text(NamedTuple):
    """A paragraph.

    Attributes:
        text: String, plain text without markup.
        kind: `"text"`; `"warning"`, shown in red; `"note"`, shown smaller;
            `"quote"`, a sentence to copy; `"code"`, a command to copy; or
            `"heading"`, the name of a run above its blocks. Defaults to
            `"text"`.
    """

    text: str
    kind: str = "text"


class Table(NamedTuple):
    """A table, whose first column names its rows.

    Attributes:
        rows: List of tuples of strings of one length; the first has the
            headings.
        caption: String, what the table shows. Defaults to `""`.
    """

    rows: list
    caption: str = ""


class Picture(NamedTuple):
    """A chart, or images.

    Attributes:
        name: String, the name of its file without extension, unique in the
            report: lower-case letters, digits and hyphens.
        content: Bytes of an SVG or PNG file.
        format: `"svg"` or `"png"`.
        alt: String, what a reader who cannot see it has to know.
        caption: String, what it shows: axes, units, bands.
    """

    name: str
    content: bytes
    format: str
    alt: str
    caption: str


class Section(NamedTuple):
    """A section of the report.

    Attributes:
        question: String, its heading: the question that it answers.
        blocks: List of `Text`s, `Table`s and `Picture`s.
    """

    question: str
    blocks: list


def of_each(units: Mapping[str, list], make: Callable[..., list]) -> list:
    """Returns the blocks of each unit, below its name if there are several.

    Args:
        units: Dict from names to lists of `RunRecord`s, as `record.grouped`
            returns it.
        make: Function that returns the blocks of a unit: of its list, its
            name, and its number, counted from 1.
    """
    found = []
    for number, (name, unit) in enumerate(units.items(), start=1):
        if len(units) > 1:
            found.append(Text(name, "heading"))
        found += make(unit, name, number)
    return found
