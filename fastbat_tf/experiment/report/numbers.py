"""Writes numbers and names as the page shows them, and computes intervals.

This module imports neither SciPy nor TensorFlow, which take seconds.
"""

import math
import statistics
from collections.abc import Sequence

from fastbat_tf.runtime import formatting

CONFIDENCE = 0.95
TOLERANCE = 1e-9  # Of two radii, or accuracies, that are the same.
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


def mean_percent(shares: Sequence[float]) -> str:
    """Writes the mean of shares, with their sample standard deviation.

    Example:

    >>> mean_percent([0.4, 0.5]), mean_percent([0.4])
    ('45.00% ± 7.07', '40.00%')
    """
    mean = percent(statistics.mean(shares))
    if len(shares) == 1:
        return mean
    return f"{mean} \N{PLUS-MINUS SIGN} {100 * statistics.stdev(shares):.2f}"


def radius_with_norm(epsilon: float, norm: str) -> str:
    """Writes a radius as one types it, and its norm.

    Example:

    >>> radius_with_norm(8 / 255, "linf"), radius_with_norm(0.5, "l2")
    ('8/255 (L∞)', '0.5 (L2)')
    """
    return f"{formatting.radius(epsilon, norm)} ({norm_name(norm)})"


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


def is_same_radius(
    norm: str, epsilon: float, other_norm: str, other_epsilon: float
) -> bool:
    """Whether two radii, each with its norm, are the same."""
    return norm == other_norm and abs(epsilon - other_epsilon) < TOLERANCE
