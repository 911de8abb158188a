"""Where does it break?"""

import math
from collections.abc import Callable

from matplotlib.ticker import PercentFormatter

from fastbat_tf.experiment.report import charts, labels, measured, suggestions
from fastbat_tf.experiment.report import curves as curves_of
from fastbat_tf.experiment.report.blocks import Picture, Table, Text, of_each
from fastbat_tf.experiment.report.numbers import norm_name, percent
from fastbat_tf.experiment.report.record import RunRecord, grouped
from fastbat_tf.runtime.formatting import radius

QUESTION = "Where does it break?"
MARKERS = "osD^vPX"
# Radii that are further apart stand on a logarithmic axis.
WIDEST_LINEAR = 8
MOST_TICKS = 8
# Inches, of the names of curves, and of points.
LEGEND, NAME = 5.0, 2.5
LONG_NAME = 20  # Characters; longer names stand below each other.


def blocks(records: list[RunRecord]) -> list:
    """Returns the blocks of this section.

    Args:
        records: List of `RunRecord`s.
    """
    return of_each(grouped(records), _unit)


def apart(
    epsilons: list[float], scale: Callable[[float], float]
) -> list[float]:
    """Returns radii whose names do not overlap on an axis.

    Args:
        epsilons: Floats, rising.
        scale: Function from a radius to its place on the axis.

    Returns:
        List of floats, the last radius among them.
    """
    places = {epsilon: scale(epsilon) for epsilon in epsilons}
    least = (places[epsilons[-1]] - places[epsilons[0]]) / MOST_TICKS
    kept = []
    for epsilon in reversed(epsilons):
        if not kept or places[kept[-1]] - places[epsilon] > 0.99 * least:
            kept.append(epsilon)
    return kept[::-1]


def _unit(unit, name, number):
    unit = measured.only(unit)
    curves = curves_of.of(unit)
    if not curves:
        return [Text("No attack has been measured yet.", "note")]
    made = []
    for norm in dict.fromkeys(curve.norm for curve in curves):
        mine = [curve for curve in curves if curve.norm == norm]
        clean = curves_of.clean_accuracies(unit, norm)
        ends = [_end(curve) for curve in mine if curve.reaches_zero]
        made += [Text(f"It breaks: {'; '.join(ends)}.")] if ends else []
        reasons = curves_of.signs_of_masking(unit, mine)
        made += [Text(text, "warning") for text in reasons]
        made += _advice(unit, mine, norm)
        made.append(_picture(mine, clean, f"radii-{number}-{norm}", name))
        made.append(_table(mine, clean, len(unit)))
    return made


def _end(curve):
    place = next(
        k
        for k, accuracy in enumerate(curve.accuracies)
        if accuracy <= curves_of.NEARLY_ZERO
    )
    at = radius(curve.epsilons[place], curve.norm)
    return f"{curve.label} leaves {percent(curve.accuracies[place])} at {at}"


def _advice(unit, curves, norm):
    """The command that measures further, if no curve reaches its end."""
    large = curves_of.large_radius(unit[0], norm)
    short = [
        curve
        for curve in curves
        if not curve.reaches_zero and curve.epsilons[-1] < large * (1 - 1e-6)
    ]
    if not short or any(curve.reaches_zero for curve in curves):
        return []
    names = dict.fromkeys(curve.attack for curve in short)
    attacks = [n for n in names if not n.startswith("transfer")]
    if unit[0].config is not None:
        known = set(unit[0].config["evaluation"]["attacks"])
        attacks = [n for n in attacks if n in known] or attacks
    command = "\n".join(
        suggestions.sweep(record, attacks or ["pgd-50-10"], norm, large)
        for record in unit
    )
    return [
        Text(
            "The largest radius leaves more than nothing, and is too small to "
            "say whether gradients are masked. This measures out to where "
            "nothing may be left:",
            "note",
        ),
        Text(command, "code"),
    ]


def _picture(curves, clean, file, name):
    norm = curves[0].norm
    is_sweep = len({epsilon for c in curves for epsilon in c.epsilons}) > 1
    draw = _draw_curves if is_sweep else _draw_points
    made = draw(curves, clean)
    lines = "; ".join(
        f"{c.label} {percent(c.accuracies[0])} at {radius(c.epsilons[0], norm)}"
        + (
            f" to {percent(c.accuracies[-1])} at {radius(c.epsilons[-1], norm)}"
            if len(c.epsilons) > 1
            else ""
        )
        for c in curves
    )
    bands = "Bands" if is_sweep else "Bars"
    return Picture(
        file,
        charts.svg(made, file),
        "svg",
        alt=f"Accuracy of {name} against {norm_name(norm)} epsilon: {lines}.",
        caption=f"Accuracy against epsilon in {norm_name(norm)}, for each "
        f"attack on its own. Dashed: clean images. {bands}: 95% intervals, or "
        "of several seeds the sample standard deviation.",
    )


def _draw_curves(curves, clean):
    made, axes = charts.figure(height=3.4)
    norm = curves[0].norm
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    for k, curve in enumerate(curves):
        x = curve.epsilons
        color = charts.COLORS[k % len(charts.COLORS)]
        marker = MARKERS[k % len(MARKERS)]
        low, high = zip(*curve.bounds, strict=True)
        if len(x) == 1:
            errors = _errors(curve)
            axes.errorbar(
                x, curve.accuracies, errors, color=color, capsize=4, fmt="none"
            )
        axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
        axes.plot(
            x,
            curve.accuracies,
            color=color,
            marker=marker,
            markersize=5,
            label=labels.cut(curve.label, LEGEND),
        )
    _clean_lines(axes.axhline, clean)
    epsilons = sorted({e for curve in curves for e in curve.epsilons})
    if epsilons[-1] / epsilons[0] > WIDEST_LINEAR:
        axes.set_xscale("log", base=2)
        axes.minorticks_off()
        epsilons = apart(epsilons, math.log)
    else:
        axes.set_xlim(left=0)
        epsilons = apart([0.0, *epsilons], float)
    axes.set_xticks(epsilons, [radius(e, norm) if e else "0" for e in epsilons])
    axes.set_xlabel(f"epsilon ({norm_name(norm)})")
    axes.set_ylabel("accuracy")
    axes.set_ylim(bottom=0)
    names = axes.get_legend_handles_labels()[1]
    made.legend(
        loc="outside upper left",
        ncols=3 if max(map(len, names)) <= LONG_NAME else 1,
        handlelength=2,
        columnspacing=1.5,
    )
    return made


def _draw_points(curves, clean):
    """Points with error bars: there is one radius."""
    made, axes = charts.figure(height=0.9 + 0.45 * len(curves))
    axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
    for k, curve in enumerate(curves):
        axes.errorbar(
            curve.accuracies,
            [k],
            xerr=_errors(curve),
            color=charts.BLUE,
            fmt="o",
            capsize=4,
        )
    _clean_lines(axes.axvline, clean)
    names = [labels.cut(curve.label, NAME) for curve in curves]
    axes.set_yticks(range(len(curves)), names)
    axes.set_ylim(len(curves) - 0.5, -0.5)
    axes.set_xlim(left=0)
    at = radius(curves[0].epsilons[0], curves[0].norm)
    axes.set_xlabel(f"robust accuracy at {at}")
    if clean:
        made.legend(loc="outside upper left")
    return made


def _errors(curve):
    (accuracy,), ((low, high),) = curve.accuracies, curve.bounds
    return [[max(0.0, accuracy - low)], [max(0.0, high - accuracy)]]


def _clean_lines(line, clean):
    for k, accuracy in enumerate(clean):
        label = None if k else "clean"
        line(accuracy, color=charts.BLACK, linestyle="--", label=label)


def _table(curves, clean, seeds):
    norm = curves[0].norm
    epsilons = sorted({epsilon for c in curves for epsilon in c.epsilons})
    rows = [("epsilon", *(curve.label for curve in curves))]
    if len(clean) == 1:
        rows.append(("0 (clean)", *[percent(clean[0])] * len(curves)))
    for epsilon in epsilons:
        cells = [
            dict(zip(c.epsilons, c.texts, strict=True)).get(epsilon, "")
            for c in curves
        ]
        rows.append((radius(epsilon, norm), *cells))
    bounds = "95% intervals" if seeds == 1 else "sample standard deviations"
    return Table(
        rows,
        f"Robust accuracy by {norm_name(norm)} epsilon and attack, with "
        f"{bounds}.",
    )
