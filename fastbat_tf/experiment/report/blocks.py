"""The parts of a report, which HTML and Markdown show alike."""

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
