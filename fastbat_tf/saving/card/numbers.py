"""The numbers of a model card: all of them are those of the results."""

import math
from typing import Any, NamedTuple

from fastbat_tf.attacks.registry import parse
from fastbat_tf.errors import InputError
from fastbat_tf.runtime import formatting
from fastbat_tf.saving.model_info import ModelInfo

HEADINGS = (
    *("attack", "kind", "epsilon", "accuracy", "95 % interval"),
    *("examples", "seed"),
)
UNKNOWN = "unknown"
CLEAN = "none (clean images)"
# Of attacks that do not use the gradients of the model itself.
BLACK_BOX = {
    "square": "black box: asks for logits",
    "transfer": "black box: transferred from another model",
}
WHITE_BOX = "white box: uses gradients"


class Score(NamedTuple):
    """An accuracy for the metadata of the card.

    Attributes:
        name: String that says what it is, with attack, radius and examples.
        value: Float, a fraction.
    """

    name: str
    value: float


def percent(share: float) -> str:
    """Writes a share, such as `45.12%`."""
    return f"{100 * share:.2f}%" if math.isfinite(share) else UNKNOWN


def radius(row: dict[str, Any]) -> str:
    """Writes the radius of a row, such as `8/255 (L∞)`."""
    return radius_with_norm(row["epsilon"], row["norm"])


def radius_with_norm(epsilon: float, norm: str) -> str:
    """Writes a radius and its norm, such as `8/255 (L∞)`."""
    name = {"linf": "L\N{INFINITY}", "l2": "L2"}.get(norm, norm)
    return f"{formatting.radius(epsilon, norm)} ({name})"


def table(info: ModelInfo) -> list[tuple[str, ...]]:
    """Returns the rows of the table below `HEADINGS`; `[]` without results.

    Args:
        info: The `ModelInfo`.
    """
    results = info.results
    if results is None:
        return []
    first = (
        CLEAN,
        "",
        "",
        percent(results["clean_accuracy"]),
        _interval(results.get("clean_confidence_interval")),
        f"{results['examples']:,}",
        _known(results.get("seed")),
    )
    return [first, *map(_line, info.rows)]


def scores(info: ModelInfo) -> list[Score]:
    """Returns the accuracies for the metadata; `[]` without results.

    Args:
        info: The `ModelInfo`.
    """
    results = info.results
    if results is None:
        return []
    name = f"Clean accuracy ({results['examples']} examples)"
    found = [Score(name, results["clean_accuracy"])]
    for row in info.rows:
        name = (
            f"Robust accuracy ({attack(row)}, epsilon {radius(row)}, "
            f"{row['examples']} examples, seed {_known(row.get('seed'))})"
        )
        found.append(Score(name, row["robust_accuracy"]))
    return [score for score in found if math.isfinite(score.value)]


def attack(row: dict[str, Any]) -> str:
    """Writes the attack of a row; of a worst case, all of its attacks."""
    if "attacks" in row:
        return f"{row['attack']} of {', '.join(row['attacks'])}"
    return row["attack"]


def is_white_box(name: str) -> bool:
    """Whether an attack uses the gradients of the model itself."""
    return kind(name) == WHITE_BOX


def kind(name: str) -> str:
    """Says what an attack knows about the model.

    Args:
        name: The name of an attack.

    Example:

    >>> kind("square-1000")
    'black box: asks for logits'
    """
    kinds = [_kind(part) for part in name.split("+")]
    return WHITE_BOX if WHITE_BOX in kinds else kinds[0]


def _kind(name):
    try:
        return BLACK_BOX.get(parse(name).key, WHITE_BOX)
    except InputError:  # Of another version, or of the user.
        return UNKNOWN


def _line(row):
    names = row.get("attacks", [row["attack"]])
    kinds = [kind(name) for name in names]
    return (
        attack(row),
        WHITE_BOX if WHITE_BOX in kinds else kinds[0],
        radius(row),
        percent(row["robust_accuracy"]),
        _interval(row.get("confidence_interval")),
        f"{row['examples']:,}",
        _known(row.get("seed")),
    )


def _interval(bounds):
    if bounds is None or not all(map(math.isfinite, bounds)):
        return UNKNOWN
    return " to ".join(f"{100 * bound:.1f}" for bound in bounds)


def _known(value):
    return UNKNOWN if value is None else str(value)
