"""Writes numbers as the page shows them, and computes intervals.

This module imports neither SciPy nor TensorFlow, which take seconds.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from fastbat_tf.runtime import formatting

CONFIDENCE = 0.95
RADIUS_TOLERANCE = 1e-9
NO_CLASS = "no class"


def percent(share: float) -> str:
    """Writes a share as the tables of the field do.

    Example:

    >>> percent(0.4512)
    '45.12%'
    """
    return f"{100 * share:.2f}%"


def interval(bounds: Sequence[float]) -> str:
    """Writes an interval of shares, in percent.

    Example:

    >>> interval([0.4416, 0.461])
    '44.2 to 46.1'
    """
    low, high = bounds
    return f"{100 * low:.1f} to {100 * high:.1f}"


def radius(epsilon: float, norm: str) -> str:
    """Writes a radius as one types it, as the terminal does, too.

    Example:

    >>> radius(8 / 255, "linf"), radius(0.5, "l2")
    ('8/255', '0.5')
    """
    return formatting.radius(epsilon, norm)


def norm_name(norm: str) -> str:
    """Writes the name of a norm.

    Example:

    >>> norm_name("linf"), norm_name("l2")
    ('L∞', 'L2')
    """
    return {"linf": "L\N{INFINITY}", "l2": "L2"}.get(norm, norm)


def class_name(names: Sequence[str], number: int) -> str:
    """Writes the name of a class, or else its number.

    Args:
        names: The names of the first classes; `[]` if they are unknown.
        number: Integer; negative where a network's answer is not a number, and
            so names no class.

    Example:

    >>> class_name(["cat"], 0), class_name([], 3), class_name(["cat"], -1)
    ('cat', 'class 3', 'no class')
    """
    if number < 0:
        return NO_CLASS
    known = number < len(names) and str(names[number]).strip()
    return str(names[number]) if known else f"class {number}"


def listed(names: Sequence[str]) -> str:
    """Writes names as a sentence lists them.

    Example:

    >>> listed(["fgsm"]), listed(["pgd-10-1", "fab-t", "square"])
    ('fgsm', 'pgd-10-1, fab-t and square')
    """
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def seconds(value: float) -> str:
    """Writes a duration: in seconds below two minutes, then in minutes.

    Example:

    >>> seconds(0.6), seconds(754), seconds(8000)
    ('0.6 s', '12.6 min', '2.2 h')
    """
    if value < 120:
        return f"{value:.1f} s"
    if value < 7200:
        return f"{value / 60:.1f} min"
    return f"{value / 3600:.1f} h"


def confidence_interval(successes: int, count: int) -> tuple[float, float]:
    """Returns the 95 % confidence interval of a proportion (Wilson, 1927).

    It equals that of `results.json`.

    Args:
        successes: Integer.
        count: Integer, at least 1.

    Returns:
        The lower and the upper bound.

    Example:

    >>> [round(bound, 3) for bound in confidence_interval(50, 100)]
    [0.404, 0.596]
    """
    z = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share, square = successes / count, z * z / count
    spread = z * math.sqrt(share * (1 - share) / count + square / (4 * count))
    low = (share + square / 2 - spread) / (1 + square)
    high = (share + square / 2 + spread) / (1 + square)
    # Rounding leaves 1e-17 where the bounds are exact.
    return (low if successes else 0.0, high if successes < count else 1.0)


def is_same_radius(row: dict[str, Any], norm: str, epsilon: float) -> bool:
    """Whether a row of the results is of this norm and radius."""
    is_near = abs(row["epsilon"] - epsilon) < RADIUS_TOLERANCE
    return row["norm"] == norm and is_near
