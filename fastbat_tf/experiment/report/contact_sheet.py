"""Draws images, adversarial images and their differences, four beside another.

The images are PNGs inside an SVG: their pixels stay as they are, and the text
stays sharp.
"""

import base64
import io
import re
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
import PIL.Image
from matplotlib.patches import Rectangle

from fastbat_tf.experiment.report import charts, labels
from fastbat_tf.runtime.figures import COLORS, SIGNS

COLUMNS = 4
BOLD = 1.15  # The width of bold text, in widths of the same text.
ROWS = "clean", "adversarial", "difference"
GAP, FRAME = 0.1, 0.02  # Inches.
# Bytes of all PNGs of a run, and the images up to which colors are kept.
BUDGET, FEW_PIXELS = 200_000, 32 * 32
LEAST_SIDE = 16
SMALL = 64  # Pixels of a side; larger images are smoothed when they are scaled.
PNG = re.compile(rb"(data:image/png;base64,)([^\"]+)")


class Caption(NamedTuple):
    """What a network says of an image.

    Attributes:
        text: String, the predicted class.
        confidence: String, its probability.
        is_right: Whether it is the true class.
    """

    text: str
    confidence: str
    is_right: bool


class Example(NamedTuple):
    """An example of the gallery.

    Attributes:
        label: String, the true class.
        image: float32 array `(height, width, channels)` in [0, 1].
        adversarial: Array like `image`.
        before: The `Caption` of the image.
        after: The `Caption` of the adversarial image.
    """

    label: str
    image: np.ndarray
    adversarial: np.ndarray
    before: Caption
    after: Caption


def scale_of(images: np.ndarray, adversarial: np.ndarray) -> float:
    """Returns by what differences are multiplied to be seen.

    Args:
        images: float array `(examples, height, width, channels)` in [0, 1].
        adversarial: Array like `images`.

    Returns:
        The factor, of 3 digits, that takes the largest difference to black or
        white; 1 if there is none.
    """
    largest = float(np.abs(adversarial - images).max())
    return float(f"{0.5 / largest:.3g}") if largest else 1.0


def side_for(examples: Sequence[Example], scale: float) -> int:
    """Returns the longer side of the images as they are shown, in pixels.

    It is that of the images, unless their PNGs would be large.

    Args:
        examples: All `Example`s of a run.
        scale: Float, the factor of the differences.
    """
    side = max(examples[0].image.shape[:2])
    for sample in (examples[:1], examples):  # The first is a fast guess.
        while side > LEAST_SIDE:
            size = _bytes(sample, scale, side) * len(examples) / len(sample)
            if size <= BUDGET:
                break
            side = min(side - 1, int(0.98 * side * (BUDGET / size) ** 0.5))
    return side


def _bytes(examples, scale, side):
    """Returns how many bytes the PNGs of examples have."""
    return sum(
        len(_png(_levels(_reduced(picture, side, is_difference=row == 2))))
        for example in examples
        for row, picture in enumerate(_pictures(example, scale))
    )


def draw(
    examples: Sequence[Example], scale: float, side: int, name: str
) -> bytes:
    """Draws examples.

    Args:
        examples: `Example`s of one shape.
        scale: Float, the factor of the differences.
        side: Integer, the longer side of the images, in pixels.
        name: String, the name of the picture.

    Returns:
        Bytes of an SVG file.
    """
    sheet = _Sheet(examples[0].image.shape, len(examples))
    for place, example in enumerate(examples):
        sheet.add(place, example, scale, side)
    with matplotlib.rc_context({"image.composite_image": False}):
        content = PNG.sub(_smaller, charts.svg(sheet.figure, name))
    if side > SMALL:
        content = content.replace(b"image-rendering:crisp-edges;", b"").replace(
            b"image-rendering:pixelated", b"image-rendering:auto"
        )
    return content


class _Sheet:
    """The figure, and where its parts stand, in inches from its top left."""

    def __init__(self, shape, count):
        self.line = labels.SPACING * labels.TEXT_SIZE / 72
        self.left = self.line + 0.05  # Of the names of the rows.
        room = charts.WIDTH - self.left - FRAME
        cell = (room + GAP) / COLUMNS - GAP
        height, width = shape[:2]
        unit = cell / max(height, width)
        self.cell, self.size = cell, (unit * width, unit * height)
        # Above: the true class. Below the first two: class and probability.
        self.tops = [self.line + 0.06]
        for _ in ROWS[1:]:
            below = self.size[1] + 2 * self.line + 0.12
            self.tops.append(self.tops[-1] + below)
        self.band = self.tops[-1] + self.size[1] + 0.25
        bands = -(-count // COLUMNS)
        self.height = bands * self.band - 0.2
        self.figure, self.axes = charts.figure(height=self.height)
        self.figure.set_layout_engine("none")
        self.axes.set_position((0, 0, 1, 1))
        # Coordinates are inches.
        self.axes.set(xlim=(0, charts.WIDTH), ylim=(self.height, 0))
        self.axes.set_axis_off()
        for band in range(bands):
            for name, top in zip(ROWS, self.tops, strict=True):
                self.write(
                    0.5 * self.line,
                    band * self.band + top + self.size[1] / 2,
                    name,
                    rotation=90,
                    ha="center",
                    va="center",
                    color=charts.MUTED,
                )

    def add(self, place, example, scale, side):
        """Draws an example: the true class, and three images."""
        band, column = divmod(place, COLUMNS)
        left = self.left + column * (self.cell + GAP)
        top = band * self.band
        label = labels.cut(example.label, self.cell / BOLD)
        self.write(left, top, label, weight="bold", va="top")
        captions = example.before, example.after, None
        pictures = _pictures(example, scale)
        for row, caption in enumerate(captions):
            color = charts.MUTED
            below = top + self.tops[row]
            if caption is not None:
                color = COLORS[caption.is_right]
                self.caption(left, below + self.size[1] + 0.04, caption, color)
            picture = _reduced(pictures[row], side, is_difference=row == 2)
            self.show(left, below, picture, color)

    def caption(self, left, top, caption, color):
        """Writes the predicted class, and below it its probability."""
        sign = SIGNS[caption.is_right]
        room = self.cell - labels.text_width(sign)
        text = f"{sign}{labels.cut(caption.text, room)}"
        self.write(left, top, text, va="top", color=color)
        self.write(left, top + self.line, caption.confidence, va="top")

    def show(self, left, top, picture, color):
        width, height = self.size
        levels = np.atleast_3d(_levels(picture))
        self.axes.imshow(
            np.broadcast_to(levels, (*levels.shape[:2], 3)),
            extent=(left, left + width, top + height, top),
            aspect="auto",
            interpolation="none",
        )
        self.axes.add_patch(
            Rectangle(
                (left, top),
                width,
                height,
                fill=False,
                color=color,
                linewidth=1.5,
                clip_on=False,
            )
        )

    def write(self, left, top, text, *, color=charts.BLACK, **options):
        options["fontsize"] = labels.TEXT_SIZE
        self.axes.text(left, top, text, color=color, **options)


def _pictures(example, scale):
    """Returns the image, the adversarial image and the difference."""
    difference = 0.5 + scale * (example.adversarial - example.image)
    return example.image, example.adversarial, difference


def _levels(picture):
    """Returns gray levels, uint8, without the axis of a single channel.

    Of channels that are no colors, the mean is shown.
    """
    if picture.shape[-1] not in (1, 3):
        picture = picture.mean(axis=-1, keepdims=True)
    levels = np.round(255 * np.clip(picture, 0, 1)).astype(np.uint8)
    return levels[..., 0] if levels.shape[-1] == 1 else levels


def _reduced(picture, side, *, is_difference):
    """Returns a picture with at most this many pixels in a side."""
    height, width = picture.shape[:2]
    longer = max(height, width)
    if side >= longer:
        return picture
    size = tuple(max(1, round(n * side / longer)) for n in (width, height))
    # The mean of several pixels would hide how much each is changed.
    kind = PIL.Image.Resampling
    filter_ = kind.NEAREST if is_difference else kind.BOX
    channels = [
        np.asarray(
            PIL.Image.fromarray(picture[..., k].astype(np.float32)).resize(
                size, filter_
            )
        )
        for k in range(picture.shape[-1])
    ]
    return np.stack(channels, axis=-1)


def _smaller(match):
    """Writes an image again, with fewer bytes."""
    encoded = io.BytesIO(base64.b64decode(match[2]))
    levels = np.asarray(PIL.Image.open(encoded).convert("RGB"))
    return match[1] + base64.b64encode(_png(levels))


def _png(levels):
    """Returns levels as a PNG, with 256 colors if there are many pixels."""
    image = PIL.Image.fromarray(levels)
    if levels.ndim == 3 and (levels == levels[..., :1]).all():
        image = image.convert("L")
    elif levels.shape[0] * levels.shape[1] > FEW_PIXELS and levels.ndim == 3:
        image = image.quantize(256, dither=PIL.Image.Dither.NONE)
    file = io.BytesIO()
    image.save(file, format="png", optimize=True)
    return file.getvalue()
