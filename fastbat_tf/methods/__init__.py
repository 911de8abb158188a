"""The training methods, by the name of their flag value, file and row."""

import importlib
from typing import NamedTuple

from fastbat_tf.errors import look_up, refuse_inapplicable
from fastbat_tf.methods import options


class MethodSpec(NamedTuple):
    """Where a method is, and what can be set.

    Attributes:
        class_name: The class in `fastbat_tf/methods/<name>.py`.
        defaults: Dict of the arguments of its constructor: the default, or a
            function of the options before it.
    """

    class_name: str
    defaults: dict


_SIGNED_STEP = {
    "epsilon": options.EPSILON,
    "step_size": lambda o: options.fast_at_step_size(o["epsilon"]),
}

# Names instead of classes: the flags read this table, and importing the
# classes would import TensorFlow. `tests/methods_test.py` holds it to them.
METHODS = {
    "standard": MethodSpec("Standard", {}),
    "fastat": MethodSpec("FastAT", _SIGNED_STEP),
    "pgd": MethodSpec(
        "PGD",
        {
            "epsilon": options.EPSILON,
            "steps": options.STEPS,
            "step_size": lambda o: options.pgd_step_size(
                o["epsilon"], o["steps"]
            ),
        },
    ),
    "gradalign": MethodSpec(
        "GradAlign",
        {
            **_SIGNED_STEP,
            "coefficient": lambda o: options.gradalign_coefficient(
                o["epsilon"]
            ),
        },
    ),
    "fastbat": MethodSpec(
        "FastBAT",
        {
            "epsilon": options.EPSILON,
            "step_size": lambda o: options.fast_bat_step_size(o["epsilon"]),
            "implicit_lambda": options.IMPLICIT_LAMBDA,
            "linearization": options.LINEARIZATION,
            "implicit_gradient": options.IMPLICIT_GRADIENT,
        },
    ),
}


def resolve_options(name, given):
    """Checks the given options of a method and fills in the others.

    Args:
        name: A key of `METHODS`.
        given: Dict of options; None stands for the default.

    Returns:
        Dict of all options of the method.

    Raises:
        InputError: If an option does not apply to the method or is out of its
            range.
    """
    defaults = get_spec(name).defaults
    refuse_inapplicable("method", name, defaults, given)
    resolved = {}
    for option, default in defaults.items():
        value = given.get(option)
        if value is None:
            value = default(resolved) if callable(default) else default
        resolved[option] = options.CHECKS[option](value)
    return resolved


def get_spec(name):
    """Returns the `MethodSpec` of `name`, or lists the known names."""
    return look_up(METHODS, "method", method=name)


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
