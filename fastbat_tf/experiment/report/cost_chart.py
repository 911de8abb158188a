"""Draws what robustness costs: training time against robust accuracy."""

import statistics
from typing import NamedTuple

from fastbat_tf.experiment.report import charts, pairs, point_labels
from fastbat_tf.experiment.report.blocks import Picture, Text
from fastbat_tf.experiment.report.comparable import Comparison, units
from fastbat_tf.experiment.report.numbers import (
    confidence_interval,
    percent,
    seconds,
)
from fastbat_tf.experiment.report.point_labels import Label

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
    names = []
    for point, color in zip(
        points, point_labels.colors(len(points)), strict=True
    ):
        place = point.seconds / scale, 100 * point.share
        names.append(Label(point.name, place[0], 100 * point.high, color))
        below, above = point.share - point.low, point.high - point.share
        axes.errorbar(
            *place,
            [[100 * below], [100 * above]],
            color=color,
            marker="o",
            capsize=3,
        )
    times = [point.seconds / scale for point in points]
    if max(times) > WIDE * min(times) > 0:
        axes.set_xscale("log")
        axes.set_xlim(min(times) / 1.5, max(times) * 4)
    else:
        axes.set_xlim(0, max(times) * 1.4)
    top = 100 * max(point.high for point in points)
    axes.set_ylim(0, min(100, top * 1.1 + 2))
    point_labels.write(axes, names, above=True)
    axes.set_xlabel(f"Training time ({unit})")
    axes.set_ylabel("Robust accuracy (%)")
    return made


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
