"""Draws charts as SVG, in one style."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogFormatter

# The colors of Okabe and Ito, which all kinds of color vision tell apart.
BLUE, VERMILION, GREEN = "#0072b2", "#d55e00", "#009e73"
ORANGE, SKY, PURPLE, BLACK = "#e69f00", "#56b4e9", "#cc79a7", "#222222"
COLORS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK)
MUTED = "#666666"
MOST_MARKERS = 12  # Epochs up to which each is a point of its line.
# Inches. The page scales charts to its own width, on a telephone to two thirds.
WIDTH = 6
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "font.size": 11,
    "legend.frameon": False,
    # Text stays text: small, sharp, and found by a search.
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    # A dollar sign in the name of a run or of a class is no formula.
    "text.parse_math": False,
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Returns a context in which Matplotlib has the style of the report."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # Its font lacks letters of a name; the page has other fonts.
        warnings.filterwarnings("ignore", "Glyph ", UserWarning)
        yield


def figure(
    rows: int = 1, columns: int = 1, height: float = 3.2, **options: Any
) -> tuple[Figure, Any]:
    """Creates a figure and its axes, in the style of the report.

    Args:
        rows: Integer. Defaults to `1`.
        columns: Integer. Defaults to `1`.
        height: Float, in inches. Defaults to `3.2`.
        **options: Arguments of `Figure.subplots`.

    Returns:
        The `matplotlib.figure.Figure`, and what its `subplots` returns.
    """
    with style():
        made = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasAgg(made)
        return made, made.subplots(rows, columns, **options)


def svg(made: Figure, name: str) -> bytes:
    """Returns a figure as the bytes of an SVG file.

    Args:
        made: A `Figure`, whose texts were made within `style`.
        name: String, unique in the report, from which its element ids are
            made, so that two charts of one page share none.
    """
    for axes in made.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if isinstance(axis.get_major_formatter(), LogFormatter):
                # Matplotlib's own writes powers of ten as formulas.
                axis.set_major_formatter(FuncFormatter("{:g}".format))
    file = io.BytesIO()
    with style(), matplotlib.rc_context({"svg.hashsalt": name}):
        made.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
