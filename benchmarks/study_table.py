"""Writes the rows of a study as a table, and draws them."""

import math

# Titles of the measures, in the order of the columns.
TITLES = {
    "last: clean": "clean, last epoch",
    "last: pgd-10-1": "PGD-10, last epoch",
    "clean": "clean",
    "pgd-50-10": "PGD-50-10",
    "apgd-ce+apgd-t": "APGD-CE + APGD-T",
    "autoattack": "AutoAttack",
}
COLORS = ("#1d4ed8", "#c2410c", "#15803d", "#7c3aed", "#0e7490", "#a16207")


def table(rows):
    """Returns the lines of a Markdown table.

    Accuracies are in percent, differences in percentage points with their 95 %
    interval. The ratio and the cosine of the implicit term are those of the
    first and the last epoch, means over the seeds.

    Args:
        rows: List of dicts, as `benchmarks.study.collect` returns them.
    """
    measures = _measures(rows)
    heads = ["row", "seeds"]
    for name in measures:
        heads += [TITLES.get(name, name)]
        heads += ["minus the base"] if _is_attack(name) else []
    heads += ["term's length", "its cosine", "interior", "alignment"]
    lines = [_line(heads), "|" + "---|" * len(heads)]
    for row in rows:
        cells = [f"`{row['row']}`", str(len(row["seeds"]))]
        for name in measures:
            cells += [_accuracy(row, name)]
            cells += [_difference(row, name)] if _is_attack(name) else []
        for name in ("implicit_ratio", "implicit_cosine"):
            is_off = not any(_curve(row, "implicit_ratio"))
            cells.append("" if is_off else _ends(_curve(row, name)))
        cells.append(_ends(_curve(row, "interior_fraction")))
        cells.append(
            f"{_mean([seed['alignment'] for seed in row['seeds']]):.2f}"
        )
        lines.append(_line(cells))
    return lines


def _measures(rows):
    """Returns the names of all accuracies, in the order of the rows."""
    return list(dict.fromkeys(name for row in rows for name in row["accuracy"]))


def _is_attack(name):
    return "clean" not in name


def _line(cells):
    return f"| {' | '.join(cells)} |"


def _accuracy(row, name):
    found = row["accuracy"].get(name)
    return f"{100 * found['value']:.1f}" if found else ""


def _difference(row, name):
    found = row["difference"].get(name)
    if not found:
        return ""
    low, high = (100 * bound for bound in found["interval"])
    return f"{100 * found['value']:+.1f} ({low:+.1f} to {high:+.1f})"


def _mean(values):
    return sum(values) / len(values)


def _curve(row, name):
    """Returns the mean of a curve over the seeds, one value an epoch."""
    curves = [seed["history"].get(name, []) for seed in row["seeds"]]
    return [_mean(values) for values in zip(*curves, strict=False)]


def _ends(curve):
    """Writes the first and the last value of a curve."""
    return f"{_short(curve[0])} to {_short(curve[-1])}" if curve else ""


def _short(value):
    """Writes a number with two significant digits."""
    if value and abs(value) < 0.1:
        digits = 1 - math.floor(math.log10(abs(value)))
        return f"{value:.{digits}f}"
    return f"{value:.2f}"


def draw(rows, title):
    """Draws the differences, and the length of the implicit term.

    Where no row has the term, the share of the pixel values on no bound takes
    its place.

    The accuracy that is compared is the first one under attack.

    Args:
        rows: List of dicts, as `benchmarks.study.collect` returns them.
        title: Title of the plot.

    Returns:
        A matplotlib `Figure`.
    """
    from matplotlib import figure

    measure = next(name for name in _measures(rows) if _is_attack(name))
    whole = figure.Figure(figsize=(9, 4.2), facecolor="white")
    left, right = whole.subplots(1, 2, width_ratios=[1.15, 1])
    _draw_differences(left, rows, measure)
    _draw_curves(right, rows)
    whole.suptitle(title, x=0.02, ha="left", fontsize=12, fontweight="bold")
    whole.tight_layout()
    return whole


def _draw_differences(axes, rows, measure):
    shown = [row for row in rows if measure in row["difference"]]
    for place, row in enumerate(shown):
        found = row["difference"][measure]
        low, high = (100 * bound for bound in found["interval"])
        axes.plot([low, high], [place, place], color="#475569", lw=2)
        axes.plot([100 * found["value"]], [place], "o", color=COLORS[0])
    axes.axvline(0, color="#111111", lw=0.8)
    axes.set_yticks(range(len(shown)), [row["row"] for row in shown])
    axes.invert_yaxis()
    axes.set_xlabel(f"{TITLES.get(measure, measure)}, minus the base (points)")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_curves(axes, rows):
    """Draws the length of the term; without a term, the interior fraction."""
    has_term = any(any(_curve(row, "implicit_ratio")) for row in rows)
    name = "implicit_ratio" if has_term else "interior_fraction"
    shown = [row for row in rows if any(_curve(row, name))]
    for number, row in enumerate(shown):
        curve = _curve(row, name)
        axes.plot(
            range(1, len(curve) + 1),
            curve,
            ".-",
            color=COLORS[number % len(COLORS)],
            label=row["row"],
        )
    axes.set_xlabel("epoch")
    if has_term:
        axes.set_yscale("log")
        axes.set_ylabel(
            "length of the implicit term\n(1: that of the gradient)"
        )
    else:
        axes.set_ylim(0, 1)
        axes.set_ylabel("share of the pixel values on no bound")
    axes.spines[["top", "right"]].set_visible(False)
    if shown:
        axes.legend(frameon=False, fontsize=8)
