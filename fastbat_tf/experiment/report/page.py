"""Makes the page: one HTML file without scripts, fonts or requests."""

import base64
import functools
import re

import jinja2
import markupsafe

from fastbat_tf.experiment.report.blocks import Picture, Section, Table, Text

# A cell that stands on the right, so that digits stand below each other.
NUMBER = re.compile(r"(< )?[-+\N{MINUS SIGN}\N{PLUS-MINUS SIGN}]?\d")
EMPTY = ("", "-", "\N{EN DASH}", "\N{EM DASH}")
# A flag, or the name of an attack: a browser would end a line at its hyphens.
HYPHENATED = re.compile(r"(\S*-\S*)")
# Where its line may end if it has to: --attacks= | apgd-ce+ | fab-t, | square
PIECE = re.compile(r"[^=+,]*[=+,]+|[^=+,]+")


def render(sections: list[Section], title: str, subtitle: str) -> str:
    """Returns the page as HTML.

    Args:
        sections: List of `Section`s.
        title: String, its heading and the title of its window.
        subtitle: String, the line below.
    """
    return _template().render(
        sections=sections,
        title=title,
        subtitle=subtitle,
        kind_of=_kind_of,
        inline=_inline,
        data_uri=_data_uri,
        is_number=_number_columns,
    )


@functools.cache
def _template():
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fastbat_tf.experiment.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(whole_words=_whole_words, cell=_cell)
    return environment.get_template("report.html.jinja")


def _whole_words(text):
    """Marks what has hyphens, so that no line ends at one of them."""
    parts = []
    # What the pattern has found stands at the odd places.
    for place, part in enumerate(HYPHENATED.split(text)):
        pieces = PIECE.findall(part) if place % 2 else []
        if len(pieces) > 1:
            part = markupsafe.Markup("").join(map(_word, pieces))
        parts.append(_word(part) if pieces else part)
    return markupsafe.Markup("").join(parts)


def _cell(text):
    """Lets a line of a cell end before what is in parentheses."""
    return _whole_words(text).replace(" (", markupsafe.Markup(" <wbr>("))


def _word(text):
    return markupsafe.Markup('<span class="word">{}</span>').format(text)


def _kind_of(block):
    if isinstance(block, Text):
        return block.kind
    if isinstance(block, Table):
        return "table"
    return block.format


def _inline(picture: Picture):
    """Returns an SVG as an element of the page.

    Its ids begin with the name of the picture, because the ids of a page are
    shared by all of its pictures.
    """
    text = picture.content.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # It would apply to the whole page, whose own style has these rules.
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    prefix = f"{picture.name}-"
    text = re.sub(r'\bid="', rf"\g<0>{prefix}", text)
    text = re.sub(r'(\bhref="#|\burl\(#)', rf"\g<0>{prefix}", text)
    # It is as wide as the page lets it be.
    start, end = text.split(">", 1)
    start = re.sub(r'\s(width|height|xmlns:xlink|version)="[^"]*"', "", start)
    end = end.replace("xlink:href=", "href=")
    label = markupsafe.escape(picture.alt)
    return markupsafe.Markup(
        f'{start} class="chart" role="img" aria-label="{label}">{end.strip()}'
    )


def _data_uri(picture: Picture):
    content = base64.b64encode(picture.content).decode()
    return f"data:image/{picture.format};base64,{content}"


def _number_columns(table: Table):
    """Returns for each column whether it holds numbers."""
    columns = zip(*table.rows[1:], strict=True)
    kinds = [
        all(cell in EMPTY or NUMBER.match(cell) for cell in column)
        for column in columns
    ]
    return kinds or [False] * len(table.rows[0])
