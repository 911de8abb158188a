"""The surrogates of a transfer attack, one or several.

The command line imports this module, so it does without TensorFlow.
"""

import os
from typing import Any

from fastbat_tf.errors import InputError


def as_surrogates(surrogate: Any) -> tuple:
    """Returns one or several surrogates as a tuple.

    Args:
        surrogate: A model in any form, or a list or tuple of models; None for
            none.

    Raises:
        InputError: If there is none in the list, or one of them twice.

    Example:

    >>> as_surrogates("a.keras"), as_surrogates(["a.keras", "b.keras"])
    (('a.keras',), ('a.keras', 'b.keras'))
    """
    if surrogate is None:
        return ()
    if not isinstance(surrogate, list | tuple):
        return (surrogate,)
    found = tuple(surrogate)
    names = {_identity(each) for each in found}
    if not found or len(names) < len(found) or None in names:
        raise InputError(
            "`surrogate` is expected to be a model or a list of models, none "
            "of them twice. "
            f"Received: surrogate=[{', '.join(map(describe, found))}]"
        )
    return found


def describe(surrogate: Any) -> str:
    """Names a surrogate in a message: by its path, its name or its type."""
    if isinstance(surrogate, str | os.PathLike):
        return os.fspath(surrogate)
    name = getattr(surrogate, "name", None) or getattr(
        surrogate, "__name__", None
    )
    return name if isinstance(name, str) else type(surrogate).__name__


def _identity(surrogate):
    if isinstance(surrogate, str | os.PathLike):
        return os.path.realpath(surrogate)
    return None if surrogate is None else id(surrogate)


def named(surrogates: tuple, number: int) -> str:
    """How a sentence begins that is about one of the surrogates.

    Args:
        surrogates: Tuple of surrogates.
        number: Integer, the place of one of them.

    Example:

    >>> named(("a.keras",), 0), named(("a.keras", "b.keras"), 1)
    ('The surrogate', 'The surrogate 2 (b.keras)')
    """
    if len(surrogates) == 1:
        return "The surrogate"
    return f"The surrogate {number + 1} ({describe(surrogates[number])})"
