"""Draws what robustness costs: training time against robust accuracy."""

import statistics
from itertools import cycle
from typing import NamedTuple

from fastbat_tf.experiment.report import charts, labels, pairs
from fastbat_tf.experiment.report.blocks import Picture, Text
from fastbat_tf.experiment.report.comparable import Comparison, units
from fastbat_tf.experiment.report.numbers import (
    confidence_interval,
    percent,
    seconds,
)

# Times that differ by more need a logarithmic axis.
WIDE = 10
UNITS = (("hours", 7200, 3600), ("minutes", 120, 60), ("seconds", 0, 1))


class Point(NamedTuple):
    """A run, or the mean of its seeds.

    Attributes:
        name: String.
        seconds: Float, of the training.
        share: Float, the robust accuracy.
        low: Float, where its error bar begins.
        high: Float, where it ends.
    """

    name: str
    seconds: float
    share: float
    low: float
    high: float


def blocks(comparison: Comparison, name: str) -> list:
    """Returns the chart of cost against robustness, or why there is none.

    Args:
        comparison: A `Comparison`.
        name: String, the name of the picture.
    """
    if not comparison.shared:
        return []
    points = _points(comparison)
    if len(points) < 2:
        if len(units(comparison.records)) < 2:
            return []
        return [
            Text(
                "Cost against robustness is not drawn: the training time of "
                "fewer than two runs is known. Name the run directories, which "
                "have it, in --runs.",
                "note",
            )
        ]
    listed = "; ".join(
        f"{p.name} {seconds(p.seconds)}, {percent(p.share)}" for p in points
    )
    caption = (
        "Seconds of training against accuracy under "
        f"{pairs.attack_name(comparison)}: higher is more robust, further "
        "left is cheaper. Bars: 95% intervals"
    )
    if any(unit.is_group for unit in units(comparison.records)):
        caption += "; of several seeds, one standard deviation"
    made = [
        Picture(
            name,
            charts.svg(_draw(points, comparison), name),
            "svg",
            f"Training time and robust accuracy: {listed}.",
            f"{caption}.",
        )
    ]
    return made + _devices(comparison)


def _points(comparison):
    made = []
    for unit in units(comparison.records):
        spent = unit.training_seconds
        if spent is None:
            continue
        shares = pairs.shares(comparison, unit, pairs.ROBUST)
        share = statistics.mean(shares)
        if unit.is_group:
            deviation = statistics.stdev(shares)
            low, high = share - deviation, share + deviation
        else:
            count = comparison.examples
            low, high = confidence_interval(round(share * count), count)
        made.append(Point(pairs.named(unit), spent, share, low, high))
    return made


def _draw(points, comparison):
    made, axes = charts.figure(height=3.4)
    largest = max(point.seconds for point in points)
    unit, _, scale = next(u for u in UNITS if largest >= u[1])
    colors = [color for color, _ in zip(cycle(charts.COLORS), points)]
    for point, color in zip(points, colors, strict=True):
        below, above = point.share - point.low, point.high - point.share
        axes.errorbar(
            point.seconds / scale,
            100 * point.share,
            [[100 * below], [100 * above]],
            color=color,
            marker="o",
            capsize=3,
        )
    times = [point.seconds / scale for point in points]
    if max(times) > WIDE * min(times) > 0:
        axes.set_xscale("log")
        axes.set_xlim(min(times) / 1.5, max(times) * 1.5)
    else:
        axes.set_xlim(0, max(times) * 1.15)
    top = 100 * max(point.high for point in points)
    axes.set_ylim(0, min(100, top * 1.1 + 2))
    axes.set_xlabel(f"training time ({unit})")
    axes.set_ylabel("robust accuracy (%)")
    _label(
        made,
        axes,
        [p._replace(seconds=p.seconds / scale) for p in points],
        colors,
    )
    return made


def _label(figure, axes, points, colors):
    """Names the error bars above them, none over another or over a bar."""
    figure.draw_without_rendering()  # Now the axes have their size.
    box = axes.get_window_extent().transformed(
        figure.dpi_scale_trans.inverted()
    )
    line = labels.TEXT_SIZE * labels.SPACING / 72 / box.height
    to_axes = axes.transData + axes.transAxes.inverted()
    # Rectangles that are taken: left, right, bottom, top.
    taken = []
    for point in points:
        ends = [(point.seconds, 100 * y) for y in (point.low, point.high)]
        (x, bottom), (_, top) = to_axes.transform(ends)
        taken.append((x, x, bottom, top))
    for k in sorted(range(len(points)), key=lambda k: points[k].high):
        x, _, _, y = taken[k]
        name = labels.cut(points[k].name, 0.9 * box.width)
        width = labels.text_width(name) / box.width
        # In the middle, as far as there is room.
        left = max(0, min(x - width / 2, 1 - width))
        y += line / 4
        while any(
            left <= end
            and begin <= left + width
            and y < top
            and bottom < y + line
            for begin, end, bottom, top in taken
        ):
            y += line / 4
        taken.append((left, left + width, y, y + line))
        axes.text(
            left + width / 2,
            y + line / 2,
            name,
            transform=axes.transAxes,
            ha="center",
            va="center",
            color=colors[k],
            fontsize=labels.TEXT_SIZE,
        )


def _devices(comparison):
    """Says if seconds are not comparable."""
    devices = {}
    for record in comparison.records:
        known = (record.config or {}).get("environment") or {}
        if "device" in known:
            devices.setdefault(known["device"], []).append(record.name)
    if len(devices) < 2:
        return []
    listed = "; ".join(f"{k}: {', '.join(v)}" for k, v in devices.items())
    return [
        Text(
            "The runs were trained on different devices, so their seconds do "
            f"not compare ({listed}).",
            "note",
        )
    ]
