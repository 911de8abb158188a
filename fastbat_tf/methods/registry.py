"""The training methods, by the value of `--method`."""

import functools
import importlib

from fastbat_tf.errors import look_up, refuse_inapplicable
from fastbat_tf.methods import options
from fastbat_tf.methods.table import METHODS


def resolve_options(name, given):
    """Checks the options of a method, and fills in the defaults of the others.

    Args:
        name: A key of `METHODS`.
        given: Dict of options; None stands for the default.

    Returns:
        Dict of all options of the method.

    Raises:
        InputError: If an option does not apply to the method or is not
            allowed.

    Example:

    >>> resolve_options("fgsm", {"epsilon": 0.5})
    {'epsilon': 0.5, 'step_size': 0.5}
    """
    declared = get_spec(name).options
    every = {other: spec.options for other, spec in METHODS.items()}
    refuse_inapplicable("method", name, declared, given, every)
    return options.resolve(declared, given)


def refusing(init):
    """Makes a constructor of a method say which methods have a wrong option.

    Python itself refuses what is no option of any method.
    """

    @functools.wraps(init)
    def __init__(self, *args, **kwargs):
        if self.name in METHODS:
            _refuse_options_of_others(self, kwargs)
        init(self, *args, **kwargs)

    return __init__


def _refuse_options_of_others(method, given):
    every = {name: spec.options for name, spec in METHODS.items()}
    others = set().union(*every.values()) - set(method.options)
    given = {key: value for key, value in given.items() if key in others}
    refuse_inapplicable("method", method.name, method.options, given, every)


def get_spec(name):
    """Returns the `MethodSpec` of a method.

    Args:
        name: A key of `METHODS`.

    Raises:
        InputError: If there is no such method; lists the known ones.
    """
    return look_up(METHODS, "method", method=name)


def get_class(name):
    """Returns the class of a method, which imports TensorFlow.

    Args:
        name: A key of `METHODS`.

    Raises:
        InputError: If there is no such method; lists the known ones.
    """
    spec = get_spec(name)
    module = importlib.import_module(f"fastbat_tf.methods.{spec.module}")
    return getattr(module, spec.class_name)


def get(name, **kwargs):
    """Builds a method.

    Args:
        name: A key of `METHODS`.
        **kwargs: Options of the method.

    Returns:
        The `Method`.

    Raises:
        InputError: If there is no such method, or an option is not allowed.

    Example:

    >>> get("fastbat", epsilon=8 / 255).linearization
    'ns-pgd'
    """
    return get_class(name)(**kwargs)
