"""Accuracy against epsilon: which results belong to one curve."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from fastbat_tf.experiment.report.measured import (
    DIGITS,
    at_each_radius,
    examples_of,
)
from fastbat_tf.experiment.report.numbers import (
    interval,
    mean_percent,
    percent,
)
from fastbat_tf.experiment.report.record import RunRecord
from fastbat_tf.runtime.formatting import radius

# Half of what turns every image gray, at which nothing can be told apart.
LARGE = 64 / 255
NEARLY_ZERO = 0.01
# Values of a CIFAR-10 image, if nothing says how many there are.
USUAL_VALUES = 32 * 32 * 3


class Curve(NamedTuple):
    """The results of one attack on the same examples, by radius.

    Attributes:
        norm: String.
        attack: String.
        label: String, the name of the attack, and what tells its curves apart.
        epsilons: List of floats, rising.
        accuracies: List of floats, robust accuracies.
        bounds: List of pairs of floats: 95% intervals; or of several seeds,
            mean ± standard deviation.
        texts: List of strings, accuracies with their bounds.
    """

    norm: str
    attack: str
    label: str
    epsilons: list
    accuracies: list
    bounds: list
    texts: list

    @property
    def reaches_zero(self) -> bool:
        """Whether nearly nothing is left at the largest radius."""
        return self.accuracies[-1] <= NEARLY_ZERO


def of(unit: list[RunRecord]) -> list[Curve]:
    """Returns the curves of a run, or of the same run with several seeds.

    Results of different norms, examples or seeds of the attack are never
    joined.

    Args:
        unit: List of one `RunRecord`, or of those of several seeds, whose
            curves are averaged.
    """
    each = [_rows_of_curves(record) for record in unit]
    if len(each) == 1:
        return _labelled([(key, _curve(rows)) for key, rows in each[0].items()])
    # The examples of different seeds need not be the same.
    each = [
        {
            (*k[:2], rows[0]["examples"], k[3]): rows
            for k, rows in curves.items()
        }
        for curves in each
    ]
    common = [key for key in each[0] if all(key in curves for curves in each)]
    made = [(key, _mean([curves[key] for curves in each])) for key in common]
    return _labelled([(key, curve) for key, curve in made if curve])


def _rows_of_curves(record):
    curves = {}
    for row in record.results.get("attacks", []):
        examples = examples_of(record, row)
        key = row["norm"], row["attack"], examples, row["seed"]
        curves.setdefault(key, []).append(row)
    return {
        key: sorted(rows, key=lambda row: row["epsilon"])
        for key, rows in curves.items()
    }


def _curve(rows):
    first = rows[0]
    bounds = [row["confidence_interval"] for row in rows]
    accuracies = [row["robust_accuracy"] for row in rows]
    return Curve(
        norm=first["norm"],
        attack=first["attack"],
        label=first["attack"],
        epsilons=[row["epsilon"] for row in rows],
        accuracies=accuracies,
        bounds=bounds,
        texts=[
            f"{percent(accuracy)} ({interval(pair)})"
            for accuracy, pair in zip(accuracies, bounds, strict=True)
        ],
    )


def _mean(each):
    """The mean over seeds at the radii that all of them have."""
    by_radius = [
        {round(row["epsilon"], DIGITS): row for row in rows} for rows in each
    ]
    radii = [e for e in by_radius[0] if all(e in rows for rows in by_radius)]
    if not radii:
        return None
    shares = [[rows[e]["robust_accuracy"] for rows in by_radius] for e in radii]
    means = [statistics.mean(values) for values in shares]
    spreads = [statistics.stdev(values) for values in shares]
    pairs = list(zip(means, spreads, strict=True))
    first = each[0][0]
    return Curve(
        norm=first["norm"],
        attack=first["attack"],
        label=first["attack"],
        epsilons=[by_radius[0][e]["epsilon"] for e in radii],
        accuracies=means,
        bounds=[(max(0.0, m - s), min(1.0, m + s)) for m, s in pairs],
        texts=[mean_percent(values) for values in shares],
    )


def _labelled(found):
    """Tells curves of the same attack apart by what differs."""
    made = []
    for key, curve in found:
        same = [k for k, c in found if c[:2] == curve[:2] and k != key]
        details = []
        if any(k[2] != key[2] for k in same):
            number = [k[2] for k, c in found if c[:2] == curve[:2]]
            place = list(dict.fromkeys(number)).index(key[2]) + 1
            details.append(f"images {place}")
        if any(k[3] != key[3] for k in same):
            details.append(f"seed {key[3]}")
        if details:
            label = f"{curve.attack} ({', '.join(details)})"
            curve = curve._replace(label=label)
        made.append(curve)
    return made


def clean_accuracies(unit: list[RunRecord], norm: str) -> list[float]:
    """Returns the clean accuracies of the examples of the curves of a norm.

    Args:
        unit: List of one `RunRecord`, or of those of several seeds, of which it
            is the mean.
        norm: String.
    """
    each = []
    for record in unit:
        found = [m for m in at_each_radius(record) if m.norm == norm]
        known = [
            m.clean_accuracy for m in found if m.clean_accuracy is not None
        ]
        each.append(list(dict.fromkeys(known)))
    if len(each) == 1:
        return each[0]
    firsts = [known[0] for known in each if known]
    return [statistics.mean(firsts)] if len(firsts) == len(each) else []


def large_radius(record: RunRecord, norm: str) -> float:
    """Returns a radius at which an attack that works leaves nothing.

    Args:
        record: A `RunRecord`.
        norm: String.

    Returns:
        Float: for L-infinity 64/255; for L2 the length of such a change of all
        values of an image.
    """
    return LARGE if norm == "linf" else LARGE * math.sqrt(_values(record))


def _values(record):
    shapes = [(record.config or {}).get("data", {}).get("reading") or {}]
    sizes = [shapes[0].get(name) for name in ("height", "width", "channels")]
    if all(sizes):
        return math.prod(sizes)
    gallery = record.arrays("gallery.npz")
    return USUAL_VALUES if gallery is None else gallery["image"][0].size


def signs_of_masking(
    unit: list[RunRecord], curves: Sequence[Curve]
) -> list[str]:
    """Returns a warning for each curve that a large radius leaves above zero.

    Args:
        unit: List of `RunRecord`s.
        curves: Their `Curve`s.
    """
    return [
        f"{curve.label} leaves {percent(curve.accuracies[-1])} at "
        f"{radius(curve.epsilons[-1], curve.norm)}, where an attack that works "
        "leaves nothing: a sign of masked gradients, or of a model that gives "
        "every image the same class."
        for curve in _unbroken(unit, curves)
    ]


def _unbroken(unit, curves):
    # The one step of FGSM is too long at large radii, and misses what is near.
    return [
        curve
        for curve in curves
        if curve.epsilons[-1] > large_radius(unit[0], curve.norm) * (1 - 1e-6)
        and not curve.reaches_zero
        and curve.attack != "fgsm"
    ]
