"""Errors that a user can act on: one line, no traceback on the command line."""

import math


class InputError(ValueError):
    """A setting, file or image is not what was expected.

    The message says what, what was expected, and `Received: name=value`.
    """


class NonFiniteError(ArithmeticError):
    """A loss or gradient became infinite or NaN in training."""


def at_least(group, name, low):
    """Refuses a setting, an attribute of `group`, below `low` or infinite."""
    value = getattr(group, name)
    if not low <= value < math.inf:
        raise InputError(
            f"`{name}` is expected to be at least {low}. "
            f"Received: {name}={value}"
        )


def one_of(group, name, known):
    """Refuses a setting, an attribute of `group`, that is not in `known`."""
    value = getattr(group, name)
    if value not in known:
        raise InputError(
            f"`{name}` is expected to be one of {', '.join(known)}. "
            f"Received: {name}={value}"
        )


def refuse_inapplicable(kind, name, applicable, given):
    """Refuses options that what was chosen does not have.

    Args:
        kind: What was chosen, in words, such as `"method"`.
        name: Its name.
        applicable: Names of the options that it has.
        given: Dict of options; None stands for one that was not given.
    """
    for option, value in given.items():
        if option not in applicable and value is not None:
            raise InputError(
                f"`{option}` does not apply to the {kind} {name}, which has "
                f"{', '.join(applicable) or 'no options'}. "
                f"Received: {option}={value}"
            )


def look_up(table, kind, **name):
    """An entry of a registry; an unknown name is refused with the known ones.

    Args:
        table: Dict, the registry.
        kind: What it holds, in words.
        **name: The setting and its value, such as `method="fastbat"`.

    Example:

    >>> look_up({"l2": 2}, "norm", norm="l2")
    2
    """
    ((setting, value),) = name.items()
    if value not in table:
        raise InputError(
            f"Unknown {kind}. Expected one of {', '.join(table)}. "
            f"Received: {setting}={value}"
        )
    return table[value]
