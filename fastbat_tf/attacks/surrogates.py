"""Several surrogates, attacked as one network."""

import os
from typing import Any

import tensorflow as tf

from fastbat_tf.errors import InputError


class Ensemble:
    """The mean of the logits of several networks, with equal weights.

    ```
    l(x) = (l_1(x) + ... + l_K(x)) / K
    ```

    Reference: Dong et al., CVPR 2018 (arXiv 1710.06081), section 3.3: of their
    ensembles, in logits, in probabilities (as Liu et al., ICLR 2017, arXiv
    1611.02770) and in losses, this one transfers best.

    Args:
        members: Sequence of callables from images to logits `(batch,
            classes)`.

    Attributes:
        members: Tuple of these.

    Raises:
        InputError: When it is called, if the numbers of classes differ.
    """

    def __init__(self, members):
        self.members = tuple(members)

    def __call__(self, images):
        """Returns the mean of the logits, a float32 tensor."""
        logits = [
            tf.cast(member(images), tf.float32) for member in self.members
        ]
        classes = [each.shape[-1] for each in logits]
        if len({count for count in classes if count is not None}) > 1:
            raise InputError(
                "The surrogates are expected to have the same classes. "
                f"Received: classes={', '.join(map(str, classes))}"
            )
        return tf.add_n(logits) / len(logits)


def together(networks):
    """Returns the only network, or the `Ensemble` of several."""
    return networks[0] if len(networks) == 1 else Ensemble(networks)


def members(network):
    """Returns the networks of an `Ensemble`, or the network alone."""
    return network.members if isinstance(network, Ensemble) else (network,)


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
