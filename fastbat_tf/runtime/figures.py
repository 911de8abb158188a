"""Draws images, adversarial images, perturbations; imports matplotlib."""

import io
import math

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

# The sizes of the parts, in inches.
SIDE = 1.6  # The longer side of an image.
GAP = 0.12
GROUP_GAP = 0.5
MARGIN = 0.2
LINE = 0.17
KEY = 0.1

TEXT_SIZE = 9  # Points.
MOST_LINES = 3  # Of a caption.
HINTING = 1.06  # Widths on a screen, which moves letters to whole pixels.
ONE_COLUMN = 3  # The most examples that stand below each other.

# Blue and vermilion of Okabe and Ito, which all kinds of color vision tell
# apart, and which the signs repeat.
RIGHT, WRONG, PLAIN, MUTED = "#0072b2", "#d55e00", "#222222", "#666666"
FRAME = "#bbbbbb"
SIGNS = {
    True: "\N{CHECK MARK}\N{NO-BREAK SPACE}",
    False: "\N{BALLOT X}\N{NO-BREAK SPACE}",
    None: "",
}
COLORS = {True: RIGHT, False: WRONG, None: PLAIN}
HEADINGS = "image", "adversarial image", "perturbation"
# Of a perturbation of gray images: blue for darker, red for brighter.
DIVERGING = "RdBu_r"


class NotebookFigure(Figure):
    """A figure that a notebook shows, also if pyplot was never imported."""

    def _repr_png_(self):
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=100)
        return file.getvalue()


def draw(rows, summary=None, columns=None):
    """Draws examples.

    Args:
        rows: List of `captions.ExampleRow`s.
        summary: String, a sentence about all examples. Defaults to None.
        columns: Integer, how many examples stand beside each other. Defaults
            to None: 1 for few examples, else 2.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    page = _Page(rows, summary, columns)
    for place, row in enumerate(rows):
        page.add(place, row)
    page.add_key()
    return page.figure


def as_pixels(figure):
    """Renders a figure that `draw` returned.

    Returns:
        uint8 array `(height, width, 3)`.
    """
    canvas = figure.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


class _Page:
    """The figure, and where its parts stand.

    Args:
        rows: List of `ExampleRow`s.
        summary: String or None.
        columns: Integer or None.
    """

    def __init__(self, rows, summary, columns):
        height, width, self._channels = rows[0].image.shape
        unit = SIDE / max(height, width)
        self._height, self._width = unit * height, unit * width
        # Narrow images leave room for their captions.
        self._cell = max(self._width, 0.75 * SIDE)
        self._pitch = self._cell + GAP
        self._columns = columns or (1 if len(rows) <= ONE_COLUMN else 2)
        self._group = 3 * self._pitch - GAP
        self._count = len(rows)
        total = self._columns * (self._group + GROUP_GAP) - GROUP_GAP
        self._scale = max(
            np.abs(row.adversarial - row.image).max() for row in rows
        )
        self._captions = [self._wrap_captions(row) for row in rows]
        count = math.ceil(len(rows) / self._columns)
        self._lines = [  # Of the captions in each line of examples.
            max(
                text.count("\n") + 1
                for texts in self._captions[first : first + self._columns]
                for text in texts
            )
            for first in range(0, len(rows), self._columns)
        ]
        above = _wrap(summary or "", total)
        self._above = LINE * (above.count("\n") + 1.6) if above else 0.0
        self._tops = np.cumsum(
            [MARGIN + self._above + 1.3 * LINE]
            + [self._example_height(k) for k in range(count)]
        )
        self._size = (
            2 * MARGIN + total,
            self._tops[-1] + MARGIN + KEY + 1.5 * LINE,
        )
        self.figure = NotebookFigure(figsize=self._size, facecolor="white")
        FigureCanvasAgg(self.figure)
        if above:
            self._write(MARGIN, MARGIN, above, color=PLAIN)
        for column in range(min(self._columns, len(rows))):
            for k, heading in enumerate(HEADINGS):
                self._write(
                    self._left(column, k) + self._cell / 2,
                    MARGIN + self._above,
                    heading,
                    ha="center",
                    color=MUTED,
                )

    def add(self, place, row):
        """Draws an example: a line of text, and three images with captions."""
        line, column = divmod(place, self._columns)
        top = self._tops[line]
        left = self._left(column, 0)
        number = f"image {row.number}"
        if row.label is None:
            self._write(left, top, number, color=PLAIN, weight="bold")
        else:
            room = self._group - _width(number) - GAP
            label = _wrap(row.label, room, 1, "bold")
            self._write(left, top, label, color=PLAIN, weight="bold")
            self._write(
                left + self._group, top, number, ha="right", color=MUTED
            )
        delta = row.adversarial - row.image
        pictures = row.image, row.adversarial, self._magnified(delta)
        colors = [
            COLORS[row.before.is_right],
            COLORS[row.after.is_right],
            MUTED,
        ]
        texts = self._captions[place]
        for k, picture in enumerate(pictures):
            margin = (self._cell - self._width) / 2
            axes = self._axes(
                self._left(column, k) + margin,
                top + 1.3 * LINE,
                self._width,
                self._height,
            )
            # Named, so that readers of a figure find what is in it.
            axes.set_label(f"{HEADINGS[k]} {row.number}")
            self._show(axes, picture, colors[k], is_perturbation=k == 2)
            axes.set_xlabel(
                texts[k],
                color=colors[k],
                fontsize=TEXT_SIZE,
                labelpad=4,
            )

    def add_key(self):
        """Draws the key to the perturbations below their last column."""
        # Where the last line of examples ends.
        left = self._left((self._count - 1) % self._columns, 2)
        top = self._tops[-1]
        axes = self._axes(left, top, self._cell, KEY)
        axes.set_label("key")
        ramp = np.linspace(0, 1, 256)[np.newaxis, :, np.newaxis]
        if self._channels > 1:
            ramp = np.repeat(ramp, self._channels, axis=-1)
        self._show(axes, ramp, None, is_perturbation=True)
        axes.set_aspect("auto")
        bound = fraction(self._scale)
        for share, text in ((0, f"-{bound}"), (0.5, "0"), (1, f"+{bound}")):
            if self._scale > 0 or share == 0.5:
                self._write(
                    left + share * self._cell,
                    top + KEY + 0.3 * LINE,
                    text.replace("-", "\N{MINUS SIGN}"),
                    ha=("left", "center", "right")[round(2 * share)],
                    color=MUTED,
                )
        name = "change of a pixel"
        if self._channels > 1:
            name = "change of each channel"
        self._write(left - GAP, top - 0.2 * LINE, name, ha="right", color=MUTED)

    def _magnified(self, delta):
        """Maps the largest change of all examples to black and white."""
        return 0.5 + delta / (2 * self._scale) if self._scale else delta + 0.5

    def _show(self, axes, picture, color, is_perturbation):
        # The mean of several pixels would hide how much each is changed.
        interpolation = "nearest" if is_perturbation else "auto"
        if picture.shape[-1] == 1:
            axes.imshow(
                picture[..., 0],
                cmap=DIVERGING if is_perturbation else "gray",
                vmin=0,
                vmax=1,
                interpolation=interpolation,
            )
        else:
            axes.imshow(np.clip(picture, 0, 1), interpolation=interpolation)
        axes.set(xticks=[], yticks=[])
        tells = color in (RIGHT, WRONG)
        axes.spines[:].set(color=color if tells else FRAME, linewidth=1.5)

    def _wrap_captions(self, row):
        room = self._cell
        delta = row.adversarial - row.image
        largest, length = np.abs(delta).max(), np.linalg.norm(delta)
        decimals = f"{length:.2f}" if length > 0.1 else f"{length:.2g}"
        sizes = f"L\N{INFINITY} {fraction(largest)}\nL2 {decimals}"
        return [
            *(
                _wrap(SIGNS[caption.is_right] + caption.text, room)
                for caption in (row.before, row.after)
            ),
            sizes if largest else "none",
        ]

    def _example_height(self, line):
        return self._height + LINE * (1.3 + self._lines[line] + 1)

    def _left(self, column, k):
        start = MARGIN + column * (self._group + GROUP_GAP)
        return start + k * self._pitch

    def _axes(self, left, top, width, height):
        right, down = self._size
        bottom = down - top - height
        return self.figure.add_axes(
            (left / right, bottom / down, width / right, height / down)
        )

    def _write(self, left, top, text, *, color, ha="left", weight="normal"):
        right, down = self._size
        self.figure.text(
            left / right,
            1 - top / down,
            text,
            ha=ha,
            va="top",
            color=color,
            fontsize=TEXT_SIZE,
            weight=weight,
        )


def fraction(value):
    """A fraction of the pixel range, in 255ths if it is a number of them.

    Example:

    >>> fraction(8 / 255), fraction(0.1)
    ('8/255', '0.1')
    """
    levels = 255 * float(value)
    if levels > 0.5 and abs(levels - round(levels)) < 0.02:
        return f"{round(levels)}/255"
    return f"{value:.2g}"


def _width(text, weight="normal"):
    """The width of a line of text in inches, on a screen at most."""
    if not text.strip():
        return 0.0
    font = FontProperties(size=TEXT_SIZE, weight=weight)
    return HINTING * TextPath((0, 0), text, prop=font).get_extents().xmax / 72


def _wrap(text, room, most=MOST_LINES, weight="normal"):
    """Breaks a text into lines that fit into a width in inches."""
    lines = []
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and _width(joined, weight) <= room:
            lines[-1] = joined
        else:
            lines.append(word)
    if len(lines) > most:
        lines = [*lines[: most - 1], " ".join(lines[most - 1 :])]
    return "\n".join(_cut(line, room, weight) for line in lines)


def _cut(line, room, weight):
    """Cuts what does not fit from the middle of a line."""
    if _width(line, weight) <= room:
        return line
    # The end of a word, as of a number, or the last word, as a probability.
    last = line.rpartition(" ")[2]
    end = f" {last}" if last.endswith("%") else line[-4:]
    for kept in range(len(line) - len(end), 1, -1):
        short = f"{line[:kept].rstrip()}\N{HORIZONTAL ELLIPSIS}{end}"
        if _width(short, weight) <= room:
            return short
    return line[:1]
