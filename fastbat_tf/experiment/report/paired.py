"""Compares two runs on the same examples, and several seeds with each other.

SciPy is imported when it is needed, and only its functions: `scipy.stats` takes
a second and a half.
"""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fastbat_tf.experiment.report.numbers import CONFIDENCE

SIGNIFICANT = 1 - CONFIDENCE


class Difference(NamedTuple):
    """How two runs differ on the same examples.

    Attributes:
        value: Float in [-1, 1], the share of the first minus the second.
        interval: The lower and the upper bound of its 95 % interval.
        only_first: Integer, examples that only the first run gets right.
        only_second: Integer, examples that only the second one gets right.
        p: Float, the p-value of McNemar's exact test that they are as good.
    """

    value: float
    interval: tuple[float, float]
    only_first: int
    only_second: int
    p: float


def compare(first: np.ndarray, second: np.ndarray) -> Difference:
    """Compares two runs on the same examples.

    Args:
        first: bool array `(examples,)`, what the first run gets right.
        second: bool array `(examples,)`, the same of the second run.

    Returns:
        A `Difference`.

    Example:

    >>> import numpy as np
    >>> right = np.arange(10) < 8
    >>> compare(right, np.arange(10) < 2).value
    0.6
    """
    only_first = int((first & ~second).sum())
    only_second = int((second & ~first).sum())
    count = len(first)
    return Difference(
        (only_first - only_second) / count,
        difference_interval(only_first, only_second, count),
        only_first,
        only_second,
        mcnemar(only_first, only_second),
    )


def difference_interval(
    only_first: int, only_second: int, count: int
) -> tuple[float, float]:
    """Returns the 95 % interval of a difference of paired proportions.

    It is the adjusted Wald interval of Bonett and Price (2012): two examples
    are added, of which each run alone gets one right. Fagerland, Lydersen and
    Laake (2014) recommend it.

    Args:
        only_first: Integer, examples that only the first run gets right.
        only_second: Integer, examples that only the second one gets right.
        count: Integer, all examples.

    Returns:
        The lower and the upper bound.

    Example:

    >>> [round(bound, 4) for bound in difference_interval(26, 4, 48)]
    [0.2548, 0.6252]
    """
    z = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    total = count + 2
    first, second = (only_first + 1) / total, (only_second + 1) / total
    difference = first - second
    spread = z * math.sqrt((first + second - difference**2) / total)
    return max(-1.0, difference - spread), min(1.0, difference + spread)


def mcnemar(only_first: int, only_second: int) -> float:
    """Returns the p-value of McNemar's exact test.

    Args:
        only_first: Integer, examples that only the first run gets right.
        only_second: Integer, examples that only the second one gets right.

    Example:

    >>> round(mcnemar(1, 7), 4)
    0.0703
    """
    from scipy import special

    fewer = min(only_first, only_second)
    tail = special.bdtr(fewer, only_first + only_second, 0.5)
    return min(1.0, 2 * float(tail))


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p-values for their number (Holm, 1979).

    Args:
        p_values: Sequence of floats.

    Returns:
        The corrected p-values, in the same order.

    Example:

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected = [1.0] * len(p_values)
    largest = 0.0
    ranked = sorted(range(len(p_values)), key=lambda k: p_values[k])
    for rank, place in enumerate(ranked):
        factor = len(p_values) - rank
        largest = max(largest, min(1.0, factor * p_values[place]))
        corrected[place] = largest
    return corrected


class DifferenceOfSeeds(NamedTuple):
    """How two methods differ over seeds.

    Attributes:
        value: Float, the mean of the first minus that of the second.
        interval: The lower and the upper bound of its 95 % interval.
        p: Float, the p-value of the test that they are as good; None if no
            seed differs from another, so that nothing can be tested.
    """

    value: float
    interval: tuple[float, float]
    p: float | None


def compare_seeds(
    first: Sequence[float], second: Sequence[float]
) -> DifferenceOfSeeds:
    """Compares two methods over seeds.

    Two means are compared as Welch (1947) does, and a mean with a single run as
    Crawford and Howell (1998) do.

    Args:
        first: Shares, one per seed.
        second: The same of the second method. One of the two has two or more.

    Returns:
        A `DifferenceOfSeeds`.
    """
    from scipy import special

    value = statistics.mean(first) - statistics.mean(second)
    error, freedom = _error(first, second)
    if not error:
        return DifferenceOfSeeds(value, (value, value), None)
    quantile = float(special.stdtrit(freedom, (1 + CONFIDENCE) / 2))
    p = 2 * float(special.stdtr(freedom, -abs(value) / error))
    spread = quantile * error
    return DifferenceOfSeeds(value, (value - spread, value + spread), p)


def _error(first, second):
    """Returns the standard error of a difference, and degrees of freedom."""
    groups = [shares for shares in (first, second) if len(shares) > 1]
    variances = [statistics.variance(shares) / len(shares) for shares in groups]
    total = sum(variances)
    if len(groups) == 1:  # The single run varies as a seed of the group does.
        (shares,) = groups
        return math.sqrt(total * (1 + len(shares))), len(shares) - 1
    parts = [
        variance**2 / (len(shares) - 1)
        for variance, shares in zip(variances, groups, strict=True)
    ]
    return math.sqrt(total), total**2 / sum(parts) if total else 0
