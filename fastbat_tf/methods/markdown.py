"""Writes the tables of the documentation from the methods' declarations."""

import collections
import re

from fastbat_tf.methods.spec import by_cost, costs

NOT_MEASURED = "–"


def write_names(specs, measured):
    """Returns a paragraph with the names of all methods."""
    del measured
    return _wrap(", ".join(f"`{name}`" for name in specs) + ".")


def write_overview(specs, measured):
    """Returns the table of the methods' descriptions and costs."""
    rows = ["| method | what it does | cost (on paper) | paper |"]
    rows.append("|---|---|---|---|")
    for name, spec in by_cost(specs):
        ratio = measured.get(name, NOT_MEASURED)
        paper = _over_standard(spec.passes, specs)
        rows.append(
            f"| `{name}` | {spec.summary} | {ratio} ({paper:.2f}) | "
            f"{_cite(spec.paper)} |"
        )
    return "\n".join(rows)


def write_options(specs, measured):
    """Returns the table of the methods' options and their defaults."""
    del measured
    rows = ["| method | options and their defaults |", "|---|---|"]
    for name, spec in specs.items():
        listed = ", ".join(
            f"`{option}={declaration.shown_default}`"
            for option, declaration in spec.options.items()
        )
        rows.append(f"| `{name}` | {listed or 'none'} |")
    return "\n".join(rows)


def write_meanings(specs, measured):
    """Returns the table of the options' meanings."""
    del measured
    meanings = {}
    for name, spec in specs.items():
        for option, declaration in spec.options.items():
            text = declaration.help
            if declaration.choices:
                words = ", ".join(f"`{word}`" for word in declaration.choices)
                text += f" One of {words}."
            meanings.setdefault((option, text), []).append(name)
    several = collections.Counter(option for option, _ in meanings)
    rows = ["| option | meaning |", "|---|---|"]
    for (option, text), names in sorted(meanings.items()):
        if several[option] > 1:
            names = ", ".join(f"`{name}`" for name in names)
            text = f"{text} ({names})"
        rows.append(f"| `{option}` | {text} |")
    return "\n".join(rows)


def write_reports(specs, measured):
    """Returns the table of what the methods log."""
    del measured
    rows = ["| column | meaning | methods |", "|---|---|---|"]
    meanings = {}
    for name, spec in specs.items():
        for report, meaning in spec.reports.items():
            meanings.setdefault((report, meaning), []).append(f"`{name}`")
    for (report, meaning), names in sorted(meanings.items()):
        rows.append(f"| `robust_{report}` | {meaning} | {', '.join(names)} |")
    return "\n".join(rows)


def write_costs(specs, measured):
    """Returns the table of the passes and the measured costs."""
    rows = [
        "| method | forwards | backwards | on paper | measured | over it |",
        "|---|---|---|---|---|---|",
    ]
    for name, passes in costs(specs).items():
        paper = _over_standard(passes, specs)
        ratio = over = measured.get(name, NOT_MEASURED)
        if ratio != NOT_MEASURED:
            over = f"{float(ratio) / paper:.2f}"
        rows.append(
            f"| `{name}` | {passes.forwards:g} | {passes.to_images:g} + "
            f"{passes.to_weights:g} | {paper:.2f} | {ratio} | {over} |"
        )
    return "\n".join(rows)


BLOCKS = {
    "methods": write_overview,
    "method names": write_names,
    "method options": write_options,
    "option meanings": write_meanings,
    "method reports": write_reports,
    "method costs": write_costs,
}


def _over_standard(passes, specs):
    return passes.total() / specs["standard"].passes.total()


def _cite(paper):
    if paper is None:
        return ""
    text = f"{paper.authors}, {paper.venue}"
    return f"[{text}]({paper.url})" if paper.url else text


def _wrap(text, width=80):
    lines = [""]
    for word in text.split(" "):
        if len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def read_measured(text):
    """Reads the measured costs from the table of the passes.

    Args:
        text: String, the document that holds it.

    Returns:
        Dict of strings by `NAME` or `NAME-VARIANT`.
    """
    row = r"(?m)^\| `([\w-]+)` \|[^|]*\|[^|]*\|[^|]*\| (\d[\d.]*) \|[^|]*\|$"
    return dict(re.findall(row, text))
