"""The formulas and intervals of options: small languages in strings."""

import functools
import math

_PLAIN = r"[\[(][^,\[\]()]+,[^,\[\]()]+[\])]"
# Such as "[0, 1]", or "[0, 1] if norm == 'linf' else [0, inf)".
INTERVAL = f"{_PLAIN}( if .+ else {_PLAIN})?"


def interpolate(x, *points):
    """Interpolates linearly between points, and is constant outside them.

    Args:
        x: Float.
        *points: Pairs `(x, y)`, in increasing order of x.

    Example:

    >>> interpolate(3, (2, 10.0), (4, 20.0))
    15.0
    """
    if x <= points[0][0]:
        return points[0][1]
    for (low, at_low), (high, at_high) in zip(points, points[1:], strict=False):
        if x <= high:
            share = (x - low) / (high - low)
            return at_low + share * (at_high - at_low)
    return points[-1][1]


# What a formula may name beside options.
_NAMES = {"inf": math.inf, "interpolate": interpolate, "max": max, "min": min}


@functools.cache
def _compile(formula):
    return compile(formula, "<formula>", "eval")


def evaluate(formula, values):
    """Evaluates a formula, given the values of the options that it names."""
    names = {**_NAMES, **values}
    return eval(_compile(formula), {"__builtins__": {}}, names)


def choose_interval(interval, values):
    """Returns the interval that applies to the values of the choices."""
    inside, _, rest = interval.partition(" if ")
    condition, _, outside = rest.partition(" else ")
    if not rest or evaluate(condition, values):
        return inside
    return outside


def split_word(word):
    """Splits `"auto if norm == 'linf'"` into the word and its condition.

    Example:

    >>> split_word("auto if norm == 'linf'"), split_word("auto")
    (('auto', "norm == 'linf'"), ('auto', 'True'))
    """
    word, _, condition = word.partition(" if ")
    return word, condition or "True"


def is_inside(number, low, high, interval):
    """Whether a number is in an interval, given its bounds as numbers."""
    if not (low <= number <= high):  # NaN fails both comparisons.
        return False
    if number == low and interval[0] == "(":
        return False
    return number != high or interval[-1] == "]"


def find_bound(text, before):
    """Returns a bound of an interval, and the option that it names or None."""
    text = text.strip()
    if text in before:
        return before[text], text
    return float(text), None
