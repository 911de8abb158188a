"""Errors that a user can act on; the command line prints them in one line."""

import math


class InputError(ValueError):
    """A setting, a file or an image is not as expected.

    The message says what is wrong, what was expected, and `Received:
    name=value`. It is one line, whatever the names in a file of others hold.
    """

    def __str__(self):
        # Line feeds, and what a terminal obeys.
        return "".join(
            character if character.isprintable() else repr(character)[1:-1]
            for character in super().__str__()
        )


class WorkerLostError(RuntimeError):
    """Another worker of the training has ended, or does not answer."""


class NonFiniteError(ArithmeticError):
    """A loss or a gradient became infinite or NaN in training."""


def at_least(group, name, low):
    """Rejects a setting that is below `low`, infinite or NaN.

    Args:
        group: Object that has the setting as an attribute.
        name: Name of the setting.
        low: Number, the smallest allowed value.

    Raises:
        InputError: If the setting is rejected.
    """
    value = getattr(group, name)
    if not low <= value < math.inf:
        raise InputError(
            f"`{name}` is expected to be at least {low}. "
            f"Received: {name}={value}"
        )


def one_of(group, name, known):
    """Rejects a setting that is not one of the known values.

    Args:
        group: Object that has the setting as an attribute.
        name: Name of the setting.
        known: The known values, strings.

    Raises:
        InputError: If the setting is rejected.
    """
    value = getattr(group, name)
    if value not in known:
        raise InputError(
            f"`{name}` is expected to be one of {', '.join(known)}. "
            f"Received: {name}={value}"
        )


def refuse_inapplicable(kind, name, applicable, given, elsewhere=None):
    """Rejects options that do not apply to a choice.

    Args:
        kind: String, the kind of the choice, such as `"method"`.
        name: String, the choice, such as `"fastbat"`.
        applicable: Names of the options that apply to it.
        given: Dict of options; None means not given.
        elsewhere: Dict of the options of all choices, by their names, so that
            the error can list those that have the option. Defaults to None.

    Raises:
        InputError: If an option was given that does not apply.
    """
    for option, value in given.items():
        if option not in applicable and value is not None:
            others = [
                o for o, has in (elsewhere or {}).items() if option in has
            ]
            hint = f"; it applies to {', '.join(others)}" if others else ""
            raise InputError(
                f"`{option}` does not apply to the {kind} {name}, which has "
                f"{', '.join(applicable) or 'no options'}{hint}. "
                f"Received: {option}={value}"
            )


def look_up(table, kind, **name):
    """Looks up a name in a registry.

    Args:
        table: Dict, the registry.
        kind: String, the kind of its entries, such as `"method"`.
        **name: The setting and its value, such as `method="fastbat"`.

    Returns:
        The entry.

    Raises:
        InputError: If the name is unknown; the message lists the known ones.

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
