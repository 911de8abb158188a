"""Text for people: tables and durations."""


def align(rows):
    """Formats a table, its first column left-aligned, the others right.

    Args:
        rows: List of tuples of strings, all of one length.

    Returns:
        List of lines.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [
                cell.rjust(width)
                for cell, width in zip(row[1:], widths[1:], strict=True)
            ]
        ).rstrip()
        for row in rows
    ]


def duration(seconds):
    """Formats seconds for people.

    Example:

    >>> duration(5000)
    '1 h 23 min'
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def make_table(rows, width):
    """Returns a table of `rich`, with the first row as its headings.

    Args:
        rows: List of tuples of strings, all of one length.
        width: Integer, the columns of the terminal.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    headings, *body = rows
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column(headings[0], overflow="fold")
    for heading in headings[1:]:
        table.add_column(heading, justify="right", overflow="fold")
    others = sum(
        max(map(len, column)) + 3
        for column in list(zip(*rows, strict=True))[1:]
    )
    for first, *rest in body:
        # The name of an ensemble breaks between its attacks.
        first = _break_at(first, "+", max(width - others, 20))
        table.add_row(*map(Text, [first, *rest]))
    return table


def _break_at(text, mark, width):
    """Breaks a text after marks, if possible into lines of at most `width`."""
    lines = [""]
    for part in text.replace(mark, f"{mark}\0").split("\0"):
        if lines[-1] and len(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)
