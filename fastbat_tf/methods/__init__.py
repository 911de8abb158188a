"""The training methods, by the name of their flag value, file and row."""

import importlib
from typing import NamedTuple


class MethodSpec(NamedTuple):
    """Where a method is, and what can be set.

    Attributes:
        class_name: The class in `fastbat_tf/methods/<name>.py`.
        options: Names of the arguments of its constructor.
    """

    class_name: str
    options: tuple


# Names instead of classes: the flags read this table, and importing the
# classes would import TensorFlow. `tests/methods_test.py` holds it to them.
METHODS = {
    "standard": MethodSpec("Standard", ()),
    "fastat": MethodSpec("FastAT", ("epsilon", "step_size")),
    "pgd": MethodSpec("PGD", ("epsilon", "steps", "step_size")),
    "gradalign": MethodSpec("GradAlign", ("epsilon", "step_size", "coefficient")),
    "fastbat": MethodSpec(
        "FastBAT", ("epsilon", "step_size", "implicit_lambda", "linearization")
    ),
}


def get_spec(name):
    """Returns the `MethodSpec` of `name`, or lists the known names."""
    if name not in METHODS:
        raise ValueError(
            f"Unknown method. Expected one of {', '.join(METHODS)}. "
            f"Received: method={name}"
        )
    return METHODS[name]


def get_class(name):
    """Returns the class of a method."""
    spec = get_spec(name)
    module = importlib.import_module(f"fastbat_tf.methods.{name}")
    return getattr(module, spec.class_name)


def get(name, **kwargs):
    """Builds a method.

    Args:
        name: A key of `METHODS`.
        **kwargs: Arguments of its constructor.

    Returns:
        The `Method`.

    Example:

    >>> get("fastbat", epsilon=8 / 255).linearization
    'ns-pgd'
    """
    return get_class(name)(**kwargs)
