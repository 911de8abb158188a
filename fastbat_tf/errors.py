"""Errors that a user can act on: one line, no traceback on the command line."""


class InputError(ValueError):
    """A setting, file or image is not what was expected.

    The message says what, what was expected, and `Received: name=value`.
    """


class NonFiniteError(ArithmeticError):
    """A loss or gradient became infinite or NaN in training."""


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
