"""Text of others in Markdown, in the flavor of GitHub."""

import re

# What Markdown, or HTML in it, would take as markup. GitHub typesets `$`.
SPECIAL = re.compile(r"([\\`*_\[\]<>|~&$])")
# What would begin a list, a heading or a quotation.
BEGINNING = re.compile(r"^(\d*)([-+#.)=])(?=[-#=]*(\s|$))")


def escape(text: str) -> str:
    """Returns a text in one line, which Markdown shows as it is.

    Example:

    >>> print(escape("runs/my_run | <b>"))
    runs/my\\_run \\| \\<b\\>
    """
    line = SPECIAL.sub(r"\\\1", " ".join(text.split()))
    return BEGINNING.sub(r"\1\\\2", line)


def fence(text: str, language: str = "") -> str:
    """Returns a text as a block of code.

    Args:
        text: String, one or more lines.
        language: String, such as `"python"`. Defaults to `""`.
    """
    longest = max(map(len, re.findall("`+", text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{language}\n{text}\n{ticks}"
