"""Text for people: tables, durations and radii."""

import textwrap

TOLERANCE = 1e-7  # Relative; float32 rounds to half of it.


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


def radius(value, norm="linf"):
    """Formats a radius or a step size in the form in which people type it.

    The text stands for the value itself, and not for one nearby: `8/255` only
    if that is the value. In L-infinity, gray levels come first; in L2, a
    decimal number does if it is short.

    Args:
        value: Float, a fraction of the pixel range; or a tuple of them.
        norm: `"linf"` or `"l2"`. Defaults to `"linf"`.

    Returns:
        String that `8/255` or `0.0314` is an example of; for a tuple, such
        strings with commas between.

    Example:

    >>> radius(8 / 255), radius(0.0314), radius((0.5, 128 / 255), "l2")
    ('8/255', '0.0314', '0.5,128/255')
    """
    if isinstance(value, list | tuple):
        return ",".join(radius(each, norm) for each in value)
    decimal, levels = _shortest(value), _shortest(255 * value)
    is_level = levels.lstrip("-").isdigit() and levels != "0"
    if is_level and norm == "linf" and abs(value) < 1 - TOLERANCE:
        return f"{levels}/255"
    return min((decimal, f"{levels}/255"), key=len)


def distance(value, norm="linf"):
    """Formats a distance that was measured, to three digits.

    Args:
        value: Float, a fraction of the pixel range; or None, if it is unknown.
        norm: `"linf"` or `"l2"`. Defaults to `"linf"`.

    Returns:
        String.

    Example:

    >>> distance(0.0342), distance(0.51234, "l2"), distance(None)
    ('8.72/255', '0.512', 'unknown')
    """
    if value is None:
        return "unknown"
    return f"{255 * value:.3g}/255" if norm == "linf" else f"{value:.3g}"


def as_given(value):
    """Formats what an error received, with radii as they were typed.

    Example:

    >>> as_given(300 / 255), as_given([8 / 255, 0.1]), as_given(2.0)
    ('300/255', '[8/255, 0.1]', '2.0')
    """
    if isinstance(value, list | tuple):
        left, right = "[]" if isinstance(value, list) else "()"
        return left + ", ".join(map(as_given, value)) + right
    text = f"{value}"
    short = radius(value) if isinstance(value, float) else text
    return short if "/" in short and len(short) < len(text) else text


def number(value):
    """Formats a number with as few digits as it has.

    Example:

    >>> number(0.0005), number(1 / 3)
    ('0.0005', '0.3333333333333333')
    """
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))


def _shortest(value):
    """The shortest decimal number that is the value, but for rounding."""
    close = TOLERANCE * abs(value)
    if abs(value) < 1e6 and abs(round(value) - value) <= close:
        return str(round(value))
    texts = (f"{value:.{digits}g}" for digits in range(1, 17))
    return next(
        (x for x in texts if abs(float(x) - value) <= close), f"{value}"
    )


def in_pairs(named, width):
    """Formats named values, two in a line if there is room.

    The places of the values depend on the names alone, so that lines with the
    same names can be compared.

    Args:
        named: List of pairs of strings, a name and a value.
        width: Integer, the most characters of a line.

    Returns:
        List of lines.

    Example:

    >>> in_pairs([("gap", "0.01"), ("alarm", "0")], 40)
    ['gap  0.01        alarm  0']
    """
    value_width = 10
    columns = named[::2], named[1::2]
    widths = [max(len(name) for name, _ in c) for c in columns if c]
    if sum(widths) + len(widths) * (2 + value_width) + 2 > width:
        widths = [max(widths)]
    cells = [
        f"{name:{widths[k % len(widths)]}}  {value:{value_width}}"
        for k, (name, value) in enumerate(named)
    ]
    step = len(widths)
    starts = range(0, len(cells), step)
    return ["  ".join(cells[k : k + step]).rstrip() for k in starts]


def beside(stamp, text, width):
    """Puts a text to the right of a stamp.

    Args:
        stamp: String.
        text: String.
        width: Integer, the columns of a terminal, into which its lines break
            between words; or None.
    """
    lines = text.splitlines() or [""]
    indent = " " * (len(stamp) + 1)
    if width and width > 2 * len(indent):
        lines = [
            part
            for line in lines
            for part in textwrap.wrap(
                line,
                width - len(indent),
                break_long_words=False,
                break_on_hyphens=False,
            )
            or [""]
        ]
    return f"{stamp} " + f"\n{indent}".join(lines)


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
