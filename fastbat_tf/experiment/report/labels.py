"""Writes names beside points and curves, none over another."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes

from fastbat_tf.experiment.report import charts

# The width of a letter and the height of a line, as shares of the axes.
LETTER, LINE = 0.02, 0.09
DISTANCE = 9  # From the point, in points.


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


def write(axes: Axes, labels: Sequence[Label]) -> None:
    """Writes labels beside their points, once the axes have their limits.

    Args:
        axes: The `Axes`.
        labels: The `Label`s. The lowest keeps its height; others move up if
            they would cover one.
    """
    placed = []
    to_axes = axes.transData + axes.transAxes.inverted()
    for label in sorted(labels, key=lambda each: each.y):
        x, y = to_axes.transform((label.x, label.y))
        width = LETTER * len(label.text)
        is_left = x + width > 1 and x > width
        begin = x - width if is_left else x
        while any(
            begin < other_end
            and other < begin + width
            and abs(y - height) < LINE
            for other, other_end, height in placed
        ):
            y += LINE / 4
        placed.append((begin, begin + width, y))
        axes.annotate(
            label.text,
            (x, y),
            (-DISTANCE if is_left else DISTANCE, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right" if is_left else "left",
            va="center",
            color=label.color,
        )
