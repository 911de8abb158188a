"""What describes one option of a method, and checks its values.

This module imports no TensorFlow.
"""

import contextlib
import math
from typing import Any, Literal, NamedTuple, get_args

from fastbat_tf.attacks.registry import parse_norm
from fastbat_tf.errors import InputError
from fastbat_tf.methods import expressions
from fastbat_tf.runtime import formatting

Kind = Literal["float", "integer", "fraction", "choice", "norm"]
KINDS = get_args(Kind)
WORDS = ("choice", "norm")  # Their values are `choices`.


class Option(NamedTuple):
    """One option of a method.

    Attributes:
        default: The default. Not used if there is a `formula`.
        help: Short description, for the command line and `docs/methods.md`.
        kind: `"float"`, `"integer"`, `"fraction"` (a float that the command
            line takes as `8/255`, too), `"choice"`, or `"norm"`, a choice that
            is taken in any spelling, such as `"Linf"`.
        interval: The values that are allowed, such as `"[0, inf)"`. A bound
            may name an option that is declared before this one. An interval
            may depend on a choice: `"[0, 1] if norm == 'linf' else [0, inf)"`.
        choices: The values of a `"choice"` or a `"norm"`.
        formula: The default as a Python expression of the choices, and of the
            options that are declared before this one, such as `"1.25 *
            epsilon"`. It may call `interpolate`, `max` and `min`.
        shown: Text that replaces a default that is too long to read.
        hint: Text that errors add, such as the meaning of a special value.
        word: A string that is taken in place of a number, such as `"auto"`,
            perhaps only for a choice: `"auto if norm == 'linf'"`.
        applies: When the option applies, as an expression of those before, such
            as `"step_size == 'auto'"`. Elsewhere its value is None.
    """

    default: Any = None
    help: str = ""
    kind: str = "float"
    interval: str = "(-inf, inf)"
    choices: tuple = ()
    formula: str | None = None
    shown: str | None = None
    hint: str = ""
    word: str = ""
    applies: str | None = None

    @property
    def shown_default(self):
        """The default as text, such as `8/255` or `1.25 * epsilon`."""
        if self.shown or self.formula:
            return self.shown or self.formula
        if self.kind == "fraction":
            return formatting.radius(self.default)
        if isinstance(self.default, float):
            return f"{self.default:g}"
        return str(self.default)

    @property
    def type(self):
        """The Python type of the values."""
        return {"integer": int, "choice": str, "norm": str}.get(
            self.kind, float
        )

    def check(self, name, value, before=()):
        """Returns `value`, converted to the type of the option.

        Args:
            name: String, the name of the option.
            value: The given value: a number, a scalar tensor, or a string for
                a `"choice"` or a `"norm"`.
            before: Dict of the values of the options before this one. Defaults
                to none.

        Raises:
            InputError: If `value` is not allowed.
        """
        if self.kind in WORDS:
            return self._check_word(name, value)
        word, condition = expressions.split_word(self.word)
        if word and isinstance(value, str) and value == word:
            expect(condition, name, value, before)
            return word
        interval = expressions.choose_interval(self.interval, before)
        ends = interval[1:-1].split(",")
        (low, low_name), (high, high_name) = (
            expressions.find_bound(x, before) for x in ends
        )
        is_inside = expressions.is_inside(_as_float(value), low, high, interval)
        if not is_inside or (self.kind == "integer" and float(value) % 1):
            expected = f"in {interval}" + (f" or {word}" if word else "")
            if self.kind == "integer":
                expected = f"an integer {expected}"
            if isinstance(value, str | bytes):
                value = repr(value)  # Not a number, even if it looks like one.
            named = {low_name: low, high_name: high}
            named.pop(None, None)
            raise self._error(name, value, expected, named)
        return self.type(value)

    def _check_word(self, name, value):
        word = value
        if self.kind == "norm":
            with contextlib.suppress(InputError):
                word = parse_norm(value)
        if isinstance(word, str) and word in self.choices:
            return str(word)
        raise self._error(name, value, f"one of {', '.join(self.choices)}")

    def _error(self, name, value, expected, bounds=()):
        subject = f"`{name}` is expected to be {expected}"
        if self.kind == "fraction":
            subject = (
                f"`{name}` is a fraction of the pixel range, expected to be "
                f"{expected}, such as 8/255"
            )
        hint = f"; {self.hint}" if self.hint else ""
        received = ", ".join(
            f"{key}={formatting.as_given(given)}"
            for key, given in {name: value, **dict(bounds)}.items()
        )
        return InputError(f"{subject}{hint}. Received: {received}")


def _as_float(value):
    """Returns a number or scalar tensor as a float, and NaN for the rest."""
    if isinstance(value, str | bytes):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def expect(condition, name, value, before):
    """Rejects a value that does not apply to the options before it.

    Args:
        condition: String, the expression that has to hold.
        name: String, the name of the option.
        value: Its value.
        before: Dict of the values of the options before it.

    Raises:
        InputError: If the condition does not hold.
    """
    if expressions.evaluate(condition, before):
        return
    named = {key: v for key, v in before.items() if key in condition}
    received = ", ".join(
        f"{key}={formatting.as_given(given)}"
        for key, given in {name: value, **named}.items()
    )
    raise InputError(
        f"`{name}={formatting.as_given(value)}` does not apply unless "
        f"{condition}. Received: {received}"
    )
