"""Writes labels beside what they name, so that none covers another."""

import functools
from collections.abc import Sequence

from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import MaxNLocator

TEXT_SIZE = 11  # Points.
END = 2.2  # Of the name of a line beside its axes, in inches.
SPACING = 1.2  # Of lines, in sizes of the text.
OFFSET = 5  # Of a label from the axes, in points.


def spread(
    places: Sequence[float], distance: float, low: float, high: float
) -> list[float]:
    """Moves places apart, each as little as the others allow.

    Args:
        places: Floats, in any order.
        distance: Float, the least distance between two.
        low: Float, the lowest place.
        high: Float, the highest place.

    Returns:
        List of floats, in the order of `places`.

    Example:

    >>> spread([1.0, 5.0, 1.0], 1.0, low=0.0, high=9.0)
    [0.5, 5.0, 1.5]
    """
    # Places that push each other form a heap around their mean.
    heaps = []
    order = sorted(range(len(places)), key=lambda k: places[k])
    for k in order:
        heaps.append([k])
        while len(heaps) > 1:
            lower, upper = heaps[-2:]
            gap = _starts(upper, places, distance)[0]
            gap -= _starts(lower, places, distance)[-1]
            if gap >= distance:
                break
            heaps[-2:] = [lower + upper]
    found = [
        place for heap in heaps for place in _starts(heap, places, distance)
    ]
    for k in range(len(found)):  # From the top, then from the bottom.
        found[-1 - k] = min(found[-1 - k], high - distance * k)
    found = [max(place, low + distance * k) for k, place in enumerate(found)]
    moved = dict(zip(order, found, strict=True))
    return [moved[k] for k in range(len(places))]


def _starts(heap, places, distance):
    mean = sum(places[k] for k in heap) / len(heap)
    first = mean - distance * (len(heap) - 1) / 2
    return [first + distance * k for k in range(len(heap))]


def label_ends(
    figure: Figure,
    axes: Axes,
    ends: Sequence[tuple[float, str, str]],
    makes_room: bool = True,
) -> None:
    """Names lines at the right edge of their axes.

    Args:
        figure: The `Figure`, with all that it will show.
        axes: The `Axes` of the lines, with its final limits.
        ends: Tuples of the value at which a line ends, its name, its color.
        makes_room: Whether the axes become narrower for it. Defaults to True.
    """
    ends = [(value, cut(name, END), color) for value, name, color in ends]
    if makes_room:
        room = max([text_width(name) for _, name, _ in ends], default=0.0)
        share = (room + OFFSET / 72) / figure.get_figwidth()
        figure.set_layout_engine("constrained", rect=(0, 0, 1 - share, 1))
    texts = [beside(axes, *end) for end in ends]
    figure.draw_without_rendering()  # Now the axes have their size.
    height = 72 * axes.get_window_extent().height / figure.dpi
    low, high = axes.get_ylim()
    points = [(value - low) / (high - low) * height for value, _, _ in ends]
    # Half of a line stays free at the edges, where a label would be cut.
    free = SPACING * TEXT_SIZE / 2
    moved = spread(points, 2 * free, low=free, high=height - free)
    for text, before, after in zip(texts, points, moved, strict=True):
        text.set_position((OFFSET, after - before))


def beside(axes: Axes, value: float, name: str, color: str) -> Annotation:
    """Writes a name at the right edge of axes, which makes no room for it.

    Args:
        axes: The `Axes`.
        value: Float, the height in data coordinates.
        name: String.
        color: String.

    Returns:
        The text, an `Annotation`.
    """
    text = axes.annotate(
        name,
        (1.0, value),
        xytext=(OFFSET, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="center",
        color=color,
        fontsize=TEXT_SIZE,
        annotation_clip=False,
    )
    text.set_in_layout(False)
    return text


@functools.lru_cache(maxsize=4096)
def text_width(text: str) -> float:
    """Returns the width of a line of text, in inches.

    Args:
        text: String.
    """
    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    font.set_size(TEXT_SIZE, 72)
    font.set_text(text)
    width, _ = font.get_width_height()  # In 64ths of a point.
    return width / 64 / 72


def label_epochs(axes: Axes, first: int, last: int) -> None:
    """Sets the limits and ticks of an axis of epochs, which are integers.

    Args:
        axes: The lowest of the `Axes` that share it.
        first: Integer, the first epoch.
        last: Integer, the last epoch.
    """
    margin = max(0.02 * (last - first), 0.1) if last > first else 0.5
    axes.set_xlim(first - margin, last + margin)
    ticks = MaxNLocator(nbins=10, integer=True, min_n_ticks=1)
    axes.set_xticks(
        [
            tick
            for tick in ticks.tick_values(first, last)
            if first <= tick <= last
        ]
    )
    axes.set_xlabel("epoch")


def wrap(text: str, room: float) -> str:
    """Breaks a text into lines.

    Args:
        text: String.
        room: Float, the width of the lines, in inches.
    """
    lines = []
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(joined) <= room:
            lines[-1] = joined
        else:
            lines.append(word)
    return "\n".join(lines)


def cut(text: str, room: float) -> str:
    """Cuts what does not fit from the middle of a line.

    Args:
        text: String.
        room: Float, its width, in inches.
    """
    width = text_width(text)
    if width <= room:
        return text
    most = min(len(text) - 1, int(1.5 * len(text) * room / width) + 1)
    for count in range(most, 1, -1):
        head = (count + 1) // 2
        tail = text[len(text) - (count - head) :]
        kept = f"{text[:head].rstrip()}\N{HORIZONTAL ELLIPSIS}{tail.lstrip()}"
        if text_width(kept) <= room:
            return kept
    return text[:1]
