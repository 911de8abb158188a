"""Draws the loss around an image: from above, and along two lines."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from fastbat_tf.experiment.report import charts, labels
from fastbat_tf.experiment.report.numbers import class_name

HEIGHT = 6.75  # Inches.
LEVELS = 12  # Of the loss.
LEAST = 0.04  # The share of the points from which a region has its name.


class Surface(Protocol):
    """What is drawn: see `report.surface.Surface`."""

    loss: np.ndarray
    predicted: np.ndarray
    steps: np.ndarray
    label: int
    middle: int


def draw(surface: Surface, names: Sequence[str], name: str) -> bytes:
    """Draws a loss surface.

    Args:
        surface: A `Surface`.
        names: Names of the classes; may be empty.
        name: String, the name of the picture.

    Returns:
        Bytes of an SVG file.
    """
    figure, (above, profile) = charts.figure(
        2, height=HEIGHT, gridspec_kw={"height_ratios": [4.3, 1.3]}
    )
    _draw_above(figure, above, surface)
    _name_regions(above, surface, names)
    _draw_profile(figure, profile, surface)
    return charts.svg(figure, name)


def _draw_above(figure, axes, surface):
    steps = surface.steps
    loss = np.ma.masked_invalid(surface.loss)
    low, high = float(loss.min()), float(loss.max())
    if not high > low:  # A constant has no contours.
        low, high = low - 0.5, low + 0.5
    levels = np.linspace(low, high, LEVELS + 1).round(9)
    # The adversarial direction to the right.
    filled = axes.contourf(
        steps, steps, loss.T, levels, cmap="viridis", extend="neither"
    )
    bar = figure.colorbar(filled, ax=axes, pad=0.02)
    bar.set_label("loss (cross-entropy)")
    bar.outline.set_visible(False)
    bar.locator = MaxNLocator(6)
    bar.formatter = StrMethodFormatter("{x:g}")
    bar.update_ticks()
    classes = np.unique(surface.predicted)
    for number in classes if len(classes) > 1 else []:
        axes.contour(
            steps,
            steps,
            (surface.predicted == number).T.astype(float),
            [0.5],
            colors="white",
            linewidths=1.2,
        )
    axes.plot(0, 0, "o", color="white", mec=charts.BLACK, ms=6)
    axes.set_aspect("equal")
    axes.grid(visible=False)
    axes.set_xlabel("adversarial direction (epsilon)")
    axes.set_ylabel("random direction (epsilon)")
    _mark_steps(axes.xaxis, steps)
    _mark_steps(axes.yaxis, steps)


def _mark_steps(axis, steps):
    ticks = np.linspace(steps[0], steps[-1], 5)
    axis.set_ticks(ticks, [_step(tick) for tick in ticks])


def _step(value):
    text = f"{value:+.2g}" if value else "0"
    return text.replace("-", "\N{MINUS SIGN}")


def _name_regions(axes, surface, names):
    """Writes the predicted class into each region that is large enough."""
    for number in np.unique(surface.predicted):
        rows, columns = np.nonzero(surface.predicted == number)
        if len(rows) < LEAST * surface.predicted.size:
            continue
        # The point of the region that is nearest to its middle.
        distance = (rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2
        # Not on the image, whose dot would cover it.
        is_near = (abs(rows - surface.middle) <= len(surface.steps) / 4) & (
            abs(columns - surface.middle) <= len(surface.steps) / 10
        )
        distance = distance + 1e6 * is_near
        nearest = distance.argmin()
        axes.text(
            surface.steps[rows[nearest]],
            surface.steps[columns[nearest]],
            labels.cut(class_name(names, number), 1.2),
            ha=_anchor(surface.steps[rows[nearest]], "left", "right"),
            va=_anchor(surface.steps[columns[nearest]], "bottom", "top"),
            color="white",
            fontsize=labels.TEXT_SIZE,
            weight="bold" if number == surface.label else "normal",
            bbox={
                "boxstyle": "round,pad=0.2",
                "facecolor": charts.BLACK,
                "edgecolor": "none",
                "alpha": 0.55,
            },
        )


def _anchor(step, low, high):
    """Keeps a name that stands near an edge inside."""
    return low if step < -0.6 else high if step > 0.6 else "center"


def _draw_profile(figure, axes, surface):
    middle = surface.middle
    lines = (
        ("adversarial", surface.loss[:, middle], charts.VERMILION),
        ("random", surface.loss[middle], charts.BLUE),
    )
    ends = []
    for name, values, color in lines:
        shown = np.where(np.isfinite(values), values, np.nan)
        axes.plot(surface.steps, shown, color=color)
        if np.isfinite(values).any():
            ends.append((values[np.isfinite(values)][-1], name, color))
    axes.set_xlim(surface.steps[0], surface.steps[-1])
    axes.set_xlabel("distance from the image (epsilon)")
    axes.set_ylabel("loss")
    _mark_steps(axes.xaxis, surface.steps)
    # The bar of the other axes leaves room for it.
    labels.label_ends(figure, axes, ends, makes_room=False)
