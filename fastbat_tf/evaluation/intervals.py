"""Confidence intervals of accuracies."""

import numpy as np

CONFIDENCE = 0.95


def confidence_interval(outcomes):
    """Returns the 95 % confidence interval of a proportion (Wilson, 1927).

    Args:
        outcomes: bool array.

    Returns:
        List of two floats, the lower and the upper bound.

    Example:

    >>> [round(bound, 3) for bound in confidence_interval(np.arange(100) < 50)]
    [0.404, 0.596]
    """
    from scipy import stats  # Takes a second to import.

    test = stats.binomtest(int(np.sum(outcomes)), len(outcomes))
    interval = test.proportion_ci(CONFIDENCE, method="wilson")
    return [float(interval.low), float(interval.high)]
