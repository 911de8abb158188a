"""Tables for a paper, as LaTeX and as Markdown."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from fastbat_tf.errors import InputError
from fastbat_tf.experiment.report import comparable, pairs, seed_table
from fastbat_tf.experiment.report.blocks import NOTHING
from fastbat_tf.experiment.report.comparable import Comparison, Unit
from fastbat_tf.experiment.report.markdown import escape
from fastbat_tf.experiment.report.numbers import (
    confidence_interval,
    listed,
    mean_percent,
    norm_name,
)
from fastbat_tf.experiment.report.record import RunRecord
from fastbat_tf.runtime.formatting import radius

TIMES = (("h", 7200, 3600), ("min", 120, 60), ("s", 0, 1))
SPECIAL: dict[str, str] = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\N{INFINITY}": r"$\infty$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    "\N{EN DASH}": "--",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    # These three are ligatures or accents beside another letter.
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "|": r"\textbar{}",
}


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
        text: String.
        is_best: Whether it is the best of its column. Defaults to `False`.
    """

    text: str
    is_best: bool = False


def latex(records: Sequence[RunRecord]) -> str:
    """Returns tables of the runs as LaTeX, for the package booktabs.

    Args:
        records: `RunRecord`s.

    Returns:
        String, a `table` for each radius at which runs were measured on the
        same examples, the most telling one first.

    Raises:
        InputError: If no run has been measured.
    """
    made = []
    for number, (caption, rows) in enumerate(_tables(records), start=1):
        headings, *body = rows
        columns = "l" + "r" * (len(headings) - 1)
        lines = [
            "% Needs \\usepackage{booktabs} and \\usepackage{textcomp}.",
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{_latex(caption)}}}",
            f"  \\label{{tab:robustness-{number}}}",
            f"  \\begin{{tabular}}{{{columns}}}",
            r"    \toprule",
            _latex_row(headings),
            r"    \midrule",
            *map(_latex_row, body),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
        made.append("\n".join(lines))
    return "\n\n".join(made)


def markdown(records: Sequence[RunRecord]) -> str:
    """Returns tables of the runs as Markdown, in the flavor of GitHub.

    Args:
        records: `RunRecord`s.

    Returns:
        String, a table for each radius at which runs were measured on the same
        examples, the most telling one first; its caption is above.

    Raises:
        InputError: If no run has been measured.
    """
    made = []
    for caption, rows in _tables(records):
        headings, *body = rows
        rule = [":--", *["--:"] * (len(headings) - 1)]
        lines = [
            _markdown_row(headings),
            f"| {' | '.join(rule)} |",
            *map(_markdown_row, body),
        ]
        made.append(f"{escape(caption)}\n\n" + "\n".join(lines))
    return "\n\n".join(made)


def _tables(records):
    """Returns pairs of a caption and rows of `Cell`s, the headings first."""
    families = comparable.families(comparable.comparisons(records, least=1))
    if not families:
        paths = ",".join(str(record.path) for record in records)
        raise InputError(
            "None of the runs has results with their outcomes.npz; expected "
            "one that was measured, as a training does at its end. "
            f"Received: runs={paths}"
        )
    made, shown = [], set()
    for family in families:
        names = {record.name for record in family[0].records}
        if names <= shown:  # Its other radii are on the page.
            continue
        shown |= names
        made.append((_caption(family[0]), _rows(family[0])))
        others = comparable.other_radii(family)
        if others:
            made.append((_caption_of_radii(others), _rows_of_radii(others)))
    return made


def _rows(comparison):
    units = comparable.units(comparison.records)
    columns = _first_columns(units)
    columns.append(_shares("Clean (%)", _of(comparison, units, pairs.CLEAN)))
    for attack in comparison.attacks:
        shares = [seed_table.under(comparison, u, attack) for u in units]
        columns.append(_shares(f"{attack} (%)", shares))
    if len(comparison.shared) > 1:
        worst = _of(comparison, units, pairs.ROBUST)
        columns.append(_shares("Worst case (%)", worst))
    times = _times(units)
    if times:
        columns.append(times)
    return list(zip(*columns, strict=True))


def _rows_of_radii(comparisons):
    units = comparable.units(comparisons[0].records)
    columns = _first_columns(units)
    for each in comparisons:
        heading = f"{radius(each.epsilon, each.norm)} (%)"
        columns.append(_shares(heading, _of(each, units, pairs.ROBUST)))
    return list(zip(*columns, strict=True))


def _first_columns(units):
    columns = [_names(units)]
    if any(unit.is_group for unit in units):
        columns.append(_column("Seeds", [str(len(u.records)) for u in units]))
    return columns


def _of(comparison, units, measure):
    return [pairs.shares(comparison, unit, measure) for unit in units]


def _column(heading, texts):
    return [Cell(heading), *map(Cell, texts)]


def _names(units: list[Unit]):
    """Names the methods; where two have the same, also the runs."""
    methods = [unit.method for unit in units]
    names = []
    for unit in units:
        name = unit.name
        if unit.method is not None:
            is_clear = methods.count(unit.method) == 1
            name = unit.method if is_clear else f"{unit.method} ({unit.name})"
        names.append(name)
    return _column("Method", names)


def _shares(heading, each):
    """Writes shares in percent, the best one bold if there are several."""
    written = [_percent(shares) for shares in each]
    means = [statistics.mean(shares) for shares in each if shares]
    best = f"{100 * max(means):.2f}" if len(means) > 1 else None
    return [
        Cell(heading),
        *(Cell(text, text.split(" ")[0] == best) for text in written),
    ]


def _percent(shares):
    if not shares:
        return NOTHING
    return mean_percent(shares).replace("%", "")


def _times(units):
    known = [unit.training_seconds for unit in units]
    if not any(known):
        return None
    largest = max(seconds or 0 for seconds in known)
    name, _, scale = next(time for time in TIMES if largest >= time[1])
    texts = [NOTHING if s is None else f"{s / scale:.1f}" for s in known]
    return _column(f"Training ({name})", texts)


def _caption(comparison: Comparison) -> str:
    where = radius(comparison.epsilon, comparison.norm)
    text = (
        f"Accuracy on {comparison.examples:,} test images, clean and under "
        f"{listed(comparison.attacks)} with {norm_name(comparison.norm)} "
        f"epsilon {where}."
    )
    if len(comparison.shared) > 1:
        text += f" Worst case: of {listed(comparison.shared)} together."
    return text + _spread([comparison])


def _caption_of_radii(comparisons):
    counts = " or ".join(sorted({f"{c.examples:,}" for c in comparisons}))
    attacks = {}
    for each in comparisons:
        written = radius(each.epsilon, each.norm)
        attacks.setdefault(listed(each.shared), []).append(written)
    radii = "; ".join(f"{', '.join(v)}: {k}" for k, v in attacks.items())
    if len(attacks) == 1:
        (radii,) = attacks
    norms = " or ".join(dict.fromkeys(norm_name(c.norm) for c in comparisons))
    return (
        f"Robust accuracy on {counts} test images by {norms} epsilon, worst "
        f"case of the attacks ({radii}).{_spread(comparisons)}"
    )


def _spread(comparisons):
    """Says what stands behind the sign of plus or minus, or would."""
    units = comparable.units(comparisons[0].records)
    text = ""
    if any(unit.is_group for unit in units):
        text += (
            " Mean \N{PLUS-MINUS SIGN} sample standard deviation over seeds."
        )
    singles = [unit for unit in units if not unit.is_group]
    if singles:
        widest = max(_widest(each, singles) for each in comparisons)
        of = "" if len(singles) == len(units) else " of a single run"
        text += (
            f" 95% confidence intervals{of}: at most "
            f"\N{PLUS-MINUS SIGN} {50 * widest:.1f} points."
        )
    return text


def _widest(comparison, units):
    """The widest 95 % interval of any accuracy of single runs."""
    count = comparison.examples
    shares = [
        share
        for unit in units
        for each in (
            pairs.shares(comparison, unit, pairs.CLEAN),
            *(
                seed_table.under(comparison, unit, a)
                for a in comparison.attacks
            ),
        )
        for share in each
    ]
    bounds = [confidence_interval(round(s * count), count) for s in shares]
    return max(high - low for low, high in bounds)


def _latex(text):
    escaped = text.translate(str.maketrans(SPECIAL))
    return escaped.replace(r"L$\infty$", r"$L_\infty$")


def _latex_row(cells):
    texts = [_latex(cell.text) for cell in cells]
    bold = [
        f"\\textbf{{{text}}}" if cell.is_best else text
        for text, cell in zip(texts, cells, strict=True)
    ]
    return f"    {' & '.join(bold)} \\\\"


def _markdown_row(cells):
    texts = [escape(cell.text) for cell in cells]
    bold = [
        f"**{text}**" if cell.is_best else text
        for text, cell in zip(texts, cells, strict=True)
    ]
    return f"| {' | '.join(bold)} |"
