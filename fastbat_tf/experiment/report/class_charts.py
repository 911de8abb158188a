"""Draws accuracies by class, and confusion matrices."""

from collections.abc import Sequence

import numpy as np

from fastbat_tf.experiment.report import charts, labels
from fastbat_tf.experiment.report.class_counts import ClassCounts
from fastbat_tf.experiment.report.numbers import confidence_interval

LINE, EDGES = 0.26, 0.8  # Heights, in inches.
NAME_ROOM = 1.5  # Of the name of a class, in inches.
MATRIX_ROOM = 1.0
DISTRIBUTION = 1.8
MATRIX = 4.2  # The side of a matrix that stands above the other.
MOST_NUMBERED = 10  # Classes up to which cells are wide enough for numbers.
BINS = np.linspace(0, 100, 21)


def draw_accuracies(
    counts: ClassCounts, shown: Sequence[int], name: str
) -> bytes:
    """Draws clean and robust accuracy of classes, as dots in a line for each.

    If some classes are left out, their distribution is drawn below.

    Args:
        counts: A `ClassCounts`.
        shown: The classes to draw, from the top.
        name: String, the name of the picture.

    Returns:
        Bytes of an SVG file.
    """
    some = len(shown) < len(counts.order)
    heights = [LINE * (len(shown) + some) + EDGES]
    if some:
        heights.append(DISTRIBUTION)
    figure, axes = charts.figure(
        len(heights),
        height=sum(heights),
        squeeze=False,
        gridspec_kw={"height_ratios": heights},
    )
    axes = axes[:, 0]
    places = np.arange(len(shown), dtype=float)
    if some:
        places[len(shown) // 2 :] += 1  # A gap for the classes between.
    _draw_dots(axes[0], counts, shown, places)
    if some:
        _draw_distribution(axes[1], counts)
    return charts.svg(figure, name)


def _draw_dots(axes, counts, shown, places):
    shown = list(shown)
    clean, robust = 100 * counts.clean[shown], 100 * counts.robust[shown]
    bounds = 100 * np.array(
        [
            confidence_interval(
                int(counts.robust_count[k]), int(counts.examples[k])
            )
            for k in shown
        ]
    )
    axes.hlines(
        places, bounds[:, 0], bounds[:, 1], color=charts.VERMILION, lw=1
    )
    axes.plot(
        clean, places, "o", mfc="white", color=charts.BLUE, ms=6, clip_on=False
    )
    axes.plot(robust, places, "o", color=charts.VERMILION, ms=5, clip_on=False)
    axes.set_yticks(
        places, [labels.cut(counts.names[k], NAME_ROOM) for k in shown]
    )
    if places[-1] > len(shown) - 1:
        axes.text(
            50,
            places[len(shown) // 2] - 1,
            f"{len(counts.order) - len(shown)} classes between",
            ha="center",
            va="center",
            color=charts.MUTED,
            fontsize=labels.TEXT_SIZE,
        )
    axes.set_ylim(places[-1] + 0.6, -0.6)
    axes.set_xlim(0, 100)
    axes.set_xlabel("accuracy (%)")
    axes.tick_params(left=False)
    axes.grid(visible=False, axis="y")
    _key(axes)


def _key(axes):
    """Names the two kinds of dots above the axes."""
    for place, text, color in (
        (0.0, "\N{BLACK CIRCLE} robust", charts.VERMILION),
        (0.2, "\N{WHITE CIRCLE} clean", charts.BLUE),
    ):
        axes.annotate(
            text,
            (place, 1.0),
            xytext=(0, 4),
            xycoords="axes fraction",
            textcoords="offset points",
            color=color,
            fontsize=labels.TEXT_SIZE,
        )


def _draw_distribution(axes, counts):
    for values, color, name in (
        (counts.clean, charts.BLUE, "clean"),
        (counts.robust, charts.VERMILION, "robust"),
    ):
        axes.hist(
            100 * values[counts.order],
            BINS,
            histtype="step",
            color=color,
            lw=1.4,
            label=name,
        )
    axes.set_xlim(0, 100)
    axes.set_xlabel("accuracy (%)")
    axes.set_ylabel("classes")
    axes.yaxis.get_major_locator().set_params(integer=True)


def draw_confusions(
    counts: ClassCounts, used: Sequence[int], name: str
) -> bytes:
    """Draws the confusion matrices, clean and under attack.

    Args:
        counts: A `ClassCounts` with predictions.
        used: The classes to draw.
        name: String, the name of the picture.

    Returns:
        Bytes of an SVG file.
    """
    names = [labels.cut(counts.names[k], MATRIX_ROOM) for k in used]
    longest = max(map(labels.text_width, names))
    beside = len(names) <= MOST_NUMBERED
    side = (charts.WIDTH - longest) / 2 if beside else MATRIX
    rows, columns = (1, 2) if beside else (2, 1)
    figure, axes = charts.figure(
        rows,
        columns,
        height=rows * (side + longest + 0.5),
        sharey=beside,
    )
    for panel, matrix, title in zip(
        axes, counts.confusion, ("clean", "under attack"), strict=True
    ):
        total = counts.examples[used].clip(1)[:, None]
        shares = 100 * matrix[np.ix_(used, used)] / total
        panel.imshow(
            shares, cmap="Blues", vmin=0, vmax=100, interpolation="none"
        )
        panel.set_title(title, loc="left", fontsize=labels.TEXT_SIZE)
        panel.set_xticks(range(len(names)), names, rotation=90)
        panel.set_yticks(range(len(names)), names)
        panel.tick_params(length=0, labelsize=labels.TEXT_SIZE)
        panel.grid(visible=False)
        panel.spines[:].set_visible(False)
        panel.set_xlabel("predicted class")
        if beside:
            _number(panel, shares)
    for panel in axes[: 1 if beside else 2]:
        panel.set_ylabel("true class")
    return charts.svg(figure, name)


def _number(axes, shares):
    for (row, column), share in np.ndenumerate(shares):
        if round(share):
            axes.text(
                column,
                row,
                f"{share:.0f}",
                ha="center",
                va="center",
                color="white" if share > 50 else charts.BLACK,
                fontsize=9.5,  # Of 100, too: its row has no other number.
            )
