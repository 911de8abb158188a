"""Flags whose values are fractions of the pixel range, such as `8/255`."""

import fractions
import math
import operator

from absl import flags as absl_flags

from fastbat_tf.errors import InputError
from fastbat_tf.experiment.config import parse_fraction

# The flags belong to the modules that call `define`, not to this one.
absl_flags.disclaim_key_flags()

MOST = 100  # Each radius is an evaluation of its own.


class FractionParser(absl_flags.ArgumentParser):
    """Parses `8/255` or `0.0314` as a float.

    Args:
        words: Strings that are taken as they are, such as `"auto"`. Defaults
            to `()`.
    """

    syntactic_help = "a number or a quotient, such as 8/255"

    def __init__(self, words=()):
        super().__init__()
        self.words = tuple(words)

    def parse(self, argument):
        if argument in self.words:
            return argument
        if isinstance(argument, str):
            return parse_fraction(argument)
        return float(argument)

    def flag_type(self):
        return "fraction"


class FractionListParser(FractionParser):
    """Parses `8/255,16/255` or `2/255:16/255:2/255` as a tuple of floats."""

    syntactic_help = "numbers, quotients and ranges START:STOP:STEP"

    def parse(self, argument):
        if not isinstance(argument, str):
            return tuple(argument)
        values = []
        for part in argument.split(","):
            if ":" in part:
                values += parse_range(part)
            else:
                values.append(parse_fraction(part))
        if len(values) > MOST:
            raise _refuse_long(len(values), argument)
        return tuple(values)


def parse_range(text):
    """Parses `START:STOP:STEP`, whose numbers are like those of a list.

    Args:
        text: String.

    Returns:
        A list of floats, from START to STOP at most; each is the float that is
        nearest to the exact sum.

    Raises:
        InputError: If `text` is no such range, or it is too long.

    Example:

    >>> parse_range("2/255:6/255:2/255") == [2 / 255, 4 / 255, 6 / 255]
    True
    """
    try:
        start, stop, step = map(_exact, text.split(":"))
        fits = 0 < start <= stop and step > 0
    except (ValueError, ZeroDivisionError):
        fits = False
    if not fits:
        raise InputError(
            "A range is expected as START:STOP:STEP with 0 < START <= STOP "
            f"and STEP > 0, such as 2/255:16/255:2/255. Received: {text!r}"
        ) from None
    count = (stop - start) // step + 1
    if count > MOST:
        raise _refuse_long(count, text)
    return [float(start + number * step) for number in range(count)]


def _exact(text):
    numerator, slash, denominator = text.partition("/")
    numbers = numerator, denominator if slash else "1"
    # A Fraction of 1e400000000 would take all memory.
    if not all(0 < float(number) < math.inf for number in numbers):
        raise ValueError(f"not above 0 and finite: {text}")
    return operator.truediv(*map(fractions.Fraction, numbers))


def _refuse_long(count, text):
    return InputError(
        f"At most {MOST} values are expected. Received: {text!r} with {count}"
    )


def define(name, default, help_text, parser=None):
    """Defines a flag whose value is a fraction.

    Args:
        name: String, the name of the flag.
        default: Float, or None.
        help_text: String.
        parser: An `absl.flags.ArgumentParser`. Defaults to a `FractionParser`.
    """
    return absl_flags.DEFINE(
        parser or FractionParser(),
        name,
        default,
        help_text,
        serializer=absl_flags.ArgumentSerializer(),
    )
