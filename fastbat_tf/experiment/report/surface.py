"""Is the loss smooth?"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from fastbat_tf.experiment.report import (
    measured,
    missing,
    suggestions,
    surface_chart,
)
from fastbat_tf.experiment.report.blocks import Picture, Table, Text, of_each
from fastbat_tf.experiment.report.numbers import class_name, norm_name, percent
from fastbat_tf.experiment.report.record import RunRecord, grouped
from fastbat_tf.runtime.formatting import radius

QUESTION = "Is the loss smooth?"
# Shares of the variance that a plane explains.
LINEAR, PARTLY = 0.95, 0.8
PAPER = (
    "In the style of Li et al., Visualizing the Loss Landscape of Neural Nets "
    "(NeurIPS 2018), but around an image and not around the weights."
)


class Surface(NamedTuple):
    """The content of `surface.npz`.

    Attributes:
        loss: float array `(steps, steps)`: rows along the adversarial
            direction, columns along a random one.
        predicted: int array like `loss`, the predicted classes.
        steps: float array `(steps,)`, multiples of epsilon.
        index: Integer, the place of the image in the test split.
        label: Integer, its class.
        epsilon: Float.
        norm: String.
    """

    loss: np.ndarray
    predicted: np.ndarray
    steps: np.ndarray
    index: int
    label: int
    epsilon: float
    norm: str

    @classmethod
    def read(cls, record: RunRecord) -> Self | None:
        """Returns the newest surface of a run, or None.

        Args:
            record: A `RunRecord`.
        """
        arrays = record.arrays("surface.npz")
        if arrays is None:
            return None
        return cls(
            arrays["loss"].astype(float),
            arrays["predicted"],
            arrays["steps"].astype(float),
            int(arrays["index"]),
            int(arrays["label"]),
            float(arrays["epsilon"]),
            str(arrays["norm"]),
        )

    @property
    def middle(self) -> int:
        """The place of the image itself in `steps`."""
        return int(np.abs(self.steps).argmin())

    @property
    def is_constant(self) -> bool:
        """Whether the loss is the same everywhere, as far as it is finite."""
        values = self.loss[np.isfinite(self.loss)]
        spread = np.ptp(values) if len(values) else 0.0
        return bool(spread <= 1e-6 * np.abs(values).max(initial=0.0))

    @property
    def linearity(self) -> float:
        """The share of the variance of the loss that a plane explains."""
        loss = self.loss
        finite = np.isfinite(loss)
        rows, columns = np.meshgrid(self.steps, self.steps, indexing="ij")
        plane = np.stack([np.ones_like(rows), rows, columns], axis=-1)[finite]
        values = loss[finite]
        if self.is_constant:
            return 1.0
        found, *_ = np.linalg.lstsq(plane, values, rcond=None)
        return float(1 - (values - plane @ found).var() / values.var())

    @property
    def right(self) -> float:
        """The share of the points that are classified correctly."""
        return float((self.predicted == self.label).mean())


def blocks(records: Sequence[RunRecord]) -> list:
    """Returns the blocks of this section.

    Args:
        records: `RunRecord`s.
    """
    return of_each(grouped(records), _unit)


def _unit(unit, name, number):
    """Returns the blocks of a run, or of the first seed that has a surface."""
    read = [(record, Surface.read(record)) for record in unit]
    read = [(record, surface) for record, surface in read if surface]
    if not read:
        return _missing(unit)
    record, surface = read[0]
    names = record.class_names or []
    found = [Text(_answer(surface))]
    if len(unit) > 1:
        found.append(
            Text(f"Of one of {len(unit)} seeds, {record.name}.", "note")
        )
    holes = int((~np.isfinite(surface.loss)).sum())
    if holes:
        found.append(
            Text(
                f"The loss is not finite at {holes} of {surface.loss.size} "
                "points, which are left out.",
                "note",
            )
        )
    if holes == surface.loss.size:
        return [*found, _table(surface, names)]
    label = class_name(names, surface.label)
    size = f"{radius(surface.epsilon, surface.norm)} {norm_name(surface.norm)}"
    file = f"surface-{number}"
    return [
        *found,
        Picture(
            file,
            surface_chart.draw(surface, names, file),
            "svg",
            f"The loss of {name} around test image {surface.index}.",
            f"Cross-entropy around test image {surface.index} "
            f"({label}), out to epsilon = {size} along "
            "the adversarial direction and a random one. White lines: "
            f"boundaries between predicted classes. {PAPER}",
        ),
        _table(surface, names),
    ]


def _answer(surface):
    finite = np.isfinite(surface.loss)
    if not finite.any():
        return (
            f"Not known: the loss around test image {surface.index} is not "
            "finite at any point."
        )
    share = surface.linearity
    if surface.is_constant:
        return (
            f"It is constant around test image {surface.index}, within "
            f"epsilon: {surface.loss[finite][0]:.3g}. An "
            "attack that follows the gradient finds nothing there."
        )
    words = "No, it is curved"
    if share >= LINEAR:
        words = "Yes, and close to linear"
    elif share >= PARTLY:
        words = "Partly"
    return (
        f"{words}: around test image {surface.index}, a plane explains "
        f"{percent(share)} of the variance of the loss within epsilon. "
        f"{percent(surface.right)} of the points are classified correctly."
    )


def _missing(unit):
    record = unit[0]
    if not record.results and not record.has_ended:
        return missing.results(record)
    one = measured.quoted(unit)
    attacks = one[0].attacks if one else ["pgd-10-1"]
    command = suggestions.evaluate(record, attacks)
    return [
        Text(
            "Not known: the loss around an image was not measured, as it costs "
            "passes of its own. This measures it:"
        ),
        Text(f"{command} --loss_surface", "code"),
    ]


def _table(surface, names):
    rows = [("point", "loss", "predicted class")]
    middle, last = surface.middle, len(surface.steps) - 1
    first, end = (f"{surface.steps[k]:+.3g} epsilon" for k in (0, last))
    places = {
        "the image": (middle, middle),
        f"adversarial, {end}": (last, middle),
        f"adversarial, {first}": (0, middle),
        f"random, {end}": (middle, last),
        f"random, {first}": (middle, 0),
    }
    finite = np.isfinite(surface.loss)
    if finite.any():
        loss = np.where(finite, surface.loss, -np.inf)
        places["highest loss"] = np.unravel_index(loss.argmax(), loss.shape)
    for name, place in places.items():
        rows.append(
            (
                name.replace("-", "\N{MINUS SIGN}"),
                f"{surface.loss[place]:.3f}" if finite[place] else "not finite",
                class_name(names, int(surface.predicted[place])),
            )
        )
    if finite.any():
        rows.append(("explained by a plane", percent(surface.linearity), ""))
    return Table(rows, "The loss at some points, and how linear it is.")
