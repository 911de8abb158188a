"""Makes the same report as Markdown, with its pictures as files beside it."""

from fastbat_tf.experiment.report.blocks import Picture, Section, Table
from fastbat_tf.runtime.markdown import escape, fence


def render(
    sections: list[Section], title: str, subtitle: str, folder: str
) -> str:
    """Returns the report as Markdown, in the flavor of GitHub.

    Args:
        sections: List of `Section`s.
        title: String, its heading.
        subtitle: String, the line below.
        folder: String, the directory of the pictures, relative to the file.
    """
    parts = [f"# {escape(title)}", escape(subtitle)]
    for number, section in enumerate(sections, start=1):
        parts.append(f"## {number}. {escape(section.question)}")
        parts += [_block(block, folder) for block in section.blocks]
    return "\n\n".join(parts) + "\n"


def pictures(sections: list[Section]) -> dict[str, bytes]:
    """Returns the content of each picture by the name of its file."""
    return {
        _file(block): block.content
        for section in sections
        for block in section.blocks
        if isinstance(block, Picture)
    }


def table(shown: Table) -> str:
    """Returns a table as Markdown, its caption above.

    Example:

    >>> print(table(Table([("attack", "robust"), ("pgd-50-10", "45.1%")])))
    | attack | robust |
    | --- | --- |
    | pgd-50-10 | 45.1% |
    """
    first, *rest = [
        "| " + " | ".join(map(escape, r)) + " |" for r in shown.rows
    ]
    rule = "| " + " | ".join("---" for _ in shown.rows[0]) + " |"
    lines = [first, rule, *rest]
    if shown.caption:
        lines = [escape(shown.caption), "", *lines]
    return "\n".join(lines)


def _block(block, folder):
    if isinstance(block, Table):
        return table(block)
    if isinstance(block, Picture):
        alt = escape(block.alt)
        place = f"{folder}/{_file(block)}"
        return f"![{alt}]({place})\n\n{escape(block.caption)}"
    if block.kind == "code":
        return fence(block.text)
    begins = {
        "heading": "### ",
        "warning": "> **Warning:** ",
        "quote": "> ",
    }
    return begins.get(block.kind, "") + escape(block.text)


def _file(picture):
    return f"{picture.name}.{picture.format}"
