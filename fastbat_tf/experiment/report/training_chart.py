"""Draws the curves of a training: accuracies, and signs of overfitting."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.ticker import MaxNLocator

from fastbat_tf.experiment.report import charts, labels
from fastbat_tf.experiment.report.epochs import (
    ALARM,
    ALIGNMENT,
    AVERAGED,
    CHOSEN,
    CLEAN,
    FGSM,
    GAP,
    LEARNING_RATE,
    ROBUST,
    ROLLBACK,
    SHARE,
    Epochs,
)

# Heights, in inches.
ACCURACY, EVENT, PANEL, EDGES = 2.5, 0.24, 0.75, 0.7


class Panel(NamedTuple):
    """A chart below the accuracies.

    Attributes:
        column: String, the column of the history.
        title: String, what it is, and its unit.
        scale: Float, what the column is multiplied by.
    """

    column: str
    title: str
    scale: float = 1.0


PANELS = (
    Panel(ALIGNMENT, "gradient alignment (cosine; 1 is a linear loss)"),
    Panel(LEARNING_RATE, "learning rate"),
    Panel(SHARE, "epsilon in use (% of epsilon)", 100.0),
)


def draw(histories: Sequence[Epochs], name: str) -> bytes:
    """Draws the training of a run, or of several seeds.

    Args:
        histories: `Epochs`s with at least one epoch each.
        name: String, the name of the picture.

    Returns:
        Bytes of an SVG file.
    """
    first = histories[0]
    attack = first.attack
    gap = Panel(GAP, f"FGSM accuracy minus {attack} accuracy (points)", 100.0)
    panels = [p for p in (gap, *PANELS) if _has(histories, p.column)]
    events = [CHOSEN] + [e for e in (ALARM, ROLLBACK) if _has(histories, e)]
    heights = [ACCURACY, EVENT * len(events) + 0.1, *[PANEL] * len(panels)]
    figure, axes = charts.figure(
        len(heights),
        height=sum(heights) + EDGES,
        sharex=True,
        squeeze=False,
        gridspec_kw={"height_ratios": heights},
    )
    axes = axes[:, 0]
    rows = [row for history in histories for row in history.rows]
    epochs = [row["epoch"] for row in rows]
    labels.label_epochs(axes[-1], min(epochs), max(epochs))
    ends = _draw_accuracies(axes[0], histories)
    _draw_events(axes[1], histories, events)
    for panel, below in zip(panels, axes[2:], strict=True):
        below.set_title(panel.title, loc="left", fontsize=labels.TEXT_SIZE)
        for history in histories:
            _line(
                below,
                history,
                panel.column,
                color=charts.BLACK,
                scale=panel.scale,
            )
        _set_limits(below, panel, histories)
    if len(histories) == 1 and first.best_epoch:
        for below in axes:
            below.axvline(
                first.best_epoch, color=charts.GREEN, lw=1, ls=(0, (4, 3))
            )
    labels.label_ends(figure, axes[0], ends)
    return charts.svg(figure, name)


def _has(histories, column):
    return any(history.has(column) for history in histories)


def _draw_accuracies(axes, histories):
    """Draws the accuracies, and returns the ends of the lines."""
    attack = histories[0].attack
    lines = [
        (CLEAN, "clean", charts.BLUE, "-"),
        (FGSM, "FGSM", charts.ORANGE, "-"),
        (ROBUST, attack, charts.VERMILION, "-"),
        (CLEAN.replace("val_", AVERAGED), "clean, averaged", charts.BLUE, ":"),
        (
            ROBUST.replace("val_", AVERAGED),
            f"{attack}, averaged",
            charts.VERMILION,
            ":",
        ),
        (histories[0].training_column, "training", charts.MUTED, "--"),
    ]
    ends = []
    for column, name, color, style in lines:
        values = [
            _line(axes, history, column, color=color, scale=100.0, style=style)
            for history in histories
        ]
        values = [value for value in values if value is not None]
        if values:
            ends.append((sum(values) / len(values), name, color))
    axes.set_ylabel("accuracy (%)")
    high = axes.dataLim.y1 if ends else 100.0
    axes.set_ylim(-0.04 * high, 1.06 * high or 1)
    return ends


def _line(axes, history, column, *, color, scale, style="-"):
    """Draws a line, and returns its last value, or None."""
    points = history.values(column)
    several = len(history.rows) > charts.MOST_MARKERS
    # A gap where a value is missing.
    axes.plot(
        [row["epoch"] for row in history.rows],
        [scale * points.get(row["epoch"], math.nan) for row in history.rows],
        color=color,
        ls=style,
        lw=1.2 if history.is_single else 0.8,
        alpha=1.0 if history.is_single else 0.6,
        marker=None if several else "o",
        ms=3,
    )
    return scale * points[max(points)] if points else None


def _draw_events(axes, histories, events):
    """Draws a strip that marks alarms, rollbacks and the chosen epoch."""
    marks = {
        CHOSEN: ("best epoch", "D", charts.GREEN),
        ALARM: ("alarms", "v", charts.VERMILION),
        ROLLBACK: ("rollbacks", "<", charts.PURPLE),
    }
    names = []
    for place, event in enumerate(events):
        name, marker, color = marks[event]
        epochs = [e for history in histories for e in history.epochs_of(event)]
        names.append(name if epochs else f"no {name}")
        if epochs:  # The layout would make room for an empty line.
            height = [place] * len(epochs)
            axes.plot(epochs, height, marker, color=color, ms=6, clip_on=False)
    axes.set_yticks(range(len(events)), names, fontsize=labels.TEXT_SIZE)
    axes.set_ylim(len(events) - 0.5, -0.5)
    axes.grid(visible=False)
    axes.tick_params(left=False)
    axes.spines["left"].set_visible(False)


def _set_limits(axes, panel, histories):
    if panel.column == GAP:
        threshold = histories[0].threshold
        if threshold:
            axes.axhline(
                100 * threshold, color=charts.VERMILION, lw=0.8, ls=":"
            )
            labels.beside(axes, 100 * threshold, "alarm", charts.VERMILION)
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, -1), max(high, 1))
    elif panel.column == ALIGNMENT:
        axes.set_ylim(min(-0.05, axes.dataLim.y0 - 0.05), 1.08)
    else:
        high = axes.dataLim.y1
        axes.set_ylim(-0.04 * high, 1.1 * high or 1)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3))
    axes.yaxis.set_major_formatter("{x:g}")
