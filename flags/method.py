"""Flags of the method: one for each option that a method declares.

A flag that does not apply to the chosen method is rejected.
"""

from absl import flags as absl_flags

from fastbat_tf import methods
from fastbat_tf.experiment.config import MethodConfig
from fastbat_tf.methods import METHODS, options
from fastbat_tf.methods.expressions import split_word

from . import fractions

METHOD = absl_flags.DEFINE_string(
    "method", MethodConfig().method, f"Training method: {', '.join(METHODS)}."
)

_DEFINE = {
    "float": absl_flags.DEFINE_float,
    "integer": absl_flags.DEFINE_integer,
    "fraction": fractions.define,
    "choice": absl_flags.DEFINE_string,
}


def _get_declarations():
    """Returns a dict by option of dicts of `Option`s by method."""
    declarations = {}
    for method, spec in METHODS.items():
        for name, option in spec.options.items():
            declarations.setdefault(name, {})[method] = option
    return declarations


def _describe(by_method):
    """Returns the help text of an option.

    Args:
        by_method: Dict of `Option`s by method. Methods with the same text
            share a sentence, which begins with their names.
    """
    every = [name for name, spec in METHODS.items() if spec.options]
    alike = {}
    for method, option in by_method.items():
        key = option.help.removesuffix("."), option.choices
        alike.setdefault(key, {})[method] = option.shown_default
    sentences = []
    for (text, choices), defaults in alike.items():
        if list(defaults) != every:
            text = f"{', '.join(defaults)}: {text[:1].lower()}{text[1:]}"
        text += f" (default {_join_defaults(defaults)})"
        if choices:
            text += f": {', '.join(choices)}"
        sentences.append(f"{text}.")
    return " ".join(sentences)


def _join_defaults(defaults):
    methods = {}
    for method, default in defaults.items():
        methods.setdefault(default, []).append(method)
    if len(methods) == 1:
        return next(iter(methods))
    return "; ".join(
        f"{', '.join(names)}: {default}" for default, names in methods.items()
    )


def _define(name, by_method):
    kind = next(iter(by_method.values())).kind
    # The option of each method says whether the word is one of its values.
    words = {split_word(each.word)[0] for each in by_method.values()} - {""}
    parser = {"parser": fractions.FractionParser(words)} if words else {}
    return _DEFINE[kind](name, None, _describe(by_method), **parser)


# `flags.evaluation` defines it: the norm is also that of the measurement.
SHARED = "norm"
OPTIONS = {
    name: _define(name, by_method)
    for name, by_method in _get_declarations().items()
    if name != SHARED
}


def get_config(norm):
    """Returns the `MethodConfig` of the flags.

    Args:
        norm: String, the value of `--norm`, or None.
    """
    given = {name: flag.value for name, flag in OPTIONS.items()}
    if norm is not None and not _trains_so_anyway(norm):
        given["norm"] = norm
    return MethodConfig(METHOD.value, given)


def _trains_so_anyway(norm):
    """Whether a method without the option trains in the norm, or in none."""
    declared = methods.get_spec(METHOD.value).options
    if "norm" in declared:
        return False
    default = options.NORM.default
    return not declared or options.NORM.check("norm", norm) == default
