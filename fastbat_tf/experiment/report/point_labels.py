"""Writes names beside points and curves, none over another."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes

from fastbat_tf.experiment.report import charts

# The width of a letter and the height of a line, as shares of the axes.
LETTER, LINE = 0.017, 0.09
DISTANCE = 0.02  # From the point.


class Label(NamedTuple):
    """A name, and where it belongs.

    Attributes:
        text: String.
        x: Float, in the units of the axis.
        y: Float, in the units of the axis.
        color: String.
    """

    text: str
    x: float
    y: float
    color: str


def colors(count: int) -> list[str]:
    """Returns a color for each of several runs."""
    return [charts.COLORS[k % len(charts.COLORS)] for k in range(count)]


def write(axes: Axes, labels: Sequence[Label], above: bool = False) -> None:
    """Writes labels beside or above their points.

    Args:
        axes: The `Axes`, whose limits are as they will be shown.
        labels: The `Label`s. The lowest keeps its height; others move up if
            they would cover one.
        above: Whether they stand above their points, instead of beside them.
            Defaults to `False`.
    """
    axes.autoscale_view()  # Or the limits would change after this.
    placed = []
    to_axes = axes.transData + axes.transAxes.inverted()
    for label in sorted(labels, key=lambda each: each.y):
        x, y = to_axes.transform((label.x, label.y))
        width = LETTER * len(label.text)
        if above:
            # As far as there is room, in the middle.
            begin = max(0, min(x - width / 2, 1 - width))
            y += LINE / 2
        else:  # The layout makes room beside the axes.
            begin = x + DISTANCE
        while any(
            begin < end and other < begin + width and abs(y - height) < LINE
            for other, end, height in placed
        ):
            y += LINE / 4
        placed.append((begin, begin + width, y))
        axes.text(
            begin + width / 2 if above else begin,
            y,
            label.text,
            transform=axes.transAxes,
            ha="center" if above else "left",
            va="center",
            color=label.color,
        )
