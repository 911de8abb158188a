"""Settings as one types them, and how they differ from others.

This module does not import TensorFlow.
"""

import dataclasses
import shlex

from fastbat_tf import methods
from fastbat_tf.data.options import DataConfig
from fastbat_tf.errors import InputError
from fastbat_tf.experiment.config import (
    Config,
    EvaluationConfig,
    MethodConfig,
    ModelConfig,
    parse_fraction,
)
from fastbat_tf.runtime import formatting
from fastbat_tf.runtime.options import RuntimeConfig
from fastbat_tf.training.options import OverfittingConfig, TrainingConfig

# Flags that two groups would call alike.
_FLAGS = {
    ("evaluation", "seed"): "evaluation_seed",
    ("evaluation", "batch_size"): "evaluation_batch_size",
}
# `--norm` sets them all; others are read from the folder or file of a flag.
_WITHOUT_FLAG = (
    ("evaluation", "norm"),
    ("evaluation", "validation_norm"),
    ("data", "classes"),
    ("data", "extra_fingerprint"),
    ("model", "mean"),  # Those of the initial weights.
    ("model", "std"),
)
_RADII = ("epsilons", "validation_epsilon")
# What the flags make of an option of the network that is not given. They ask
# the zoo, which the library does not import.
_LARGEST_CIFAR_IMAGE = 64
_NETWORK = {"width": 64, "activation": "relu", "dropout": 0.0}


def differing(config: Config) -> dict[str, str]:
    """Returns the settings that differ from the defaults.

    A default may depend on another setting: with `--optimizer=adam`, a
    learning rate of 0.001 is one.

    Args:
        config: A `Config`.

    Returns:
        Dict from names of flags to values as one types them. The flags
        `--name=value` make a `Config` that is equal to this one.

    Example:

    >>> differing(Config(method=MethodConfig("pgd", {"epsilon": 4 / 255})))
    {'method': 'pgd', 'epsilon': '4/255'}
    """
    return {k: _text(k, value) for k, value in _differing(config).items()}


def default(config: Config, name: str) -> str | None:
    """Returns what a setting is if it alone is not given.

    Args:
        config: A `Config`.
        name: String, the name of a flag.

    Returns:
        String, as one types it; None if the setting is required.

    Example:

    >>> default(Config(training=TrainingConfig(epochs=5)), "epochs")
    '20'
    """
    fewer = {k: v for k, v in _differing(config).items() if k != name}
    try:
        return resolved(_make(fewer, config)).get(name)
    except InputError:  # Others do not apply without it.
        return None


def names(config: Config) -> dict[str, list[str]]:
    """Returns the names of the flags in each group of a `Config`."""
    found = {
        group.name: list(_fields(config, group.name))
        for group in dataclasses.fields(config)
    }
    found["method"] = ["method", *config.method.options]
    if "norm" not in config.method.options:
        found["evaluation"].append("norm")
    return found


def _differing(config):
    values = {k: v for k, v in _values(config).items() if v is not None}
    expected = _make(values, config)
    for name in tuple(values):
        fewer = {k: v for k, v in values.items() if k != name}
        try:
            is_default = _make(fewer, config).to_dict() == expected.to_dict()
        except InputError:  # It is required, or others do not apply without it.
            is_default = False
        if is_default:
            values = fewer
    return values


def differences(configs: list[Config]) -> dict[str, tuple]:
    """Returns the settings in which some of the configs differ.

    Args:
        configs: List of `Config`s.

    Returns:
        Dict from names of flags to tuples with a value per config, as one
        types it, with every default resolved; None where the setting does not
        apply.

    Example:

    >>> differences([Config(), Config(training=TrainingConfig(epochs=5))])
    {'epochs': ('20', '5')}
    """
    all_settings = [resolved(config) for config in configs]
    names = dict.fromkeys(name for one in all_settings for name in one)
    rows = {name: tuple(s.get(name) for s in all_settings) for name in names}
    return {name: row for name, row in rows.items() if len(set(row)) > 1}


def resolved(config: Config) -> dict[str, str]:
    """Returns every setting that applies, as one types it.

    Args:
        config: A `Config`.

    Returns:
        Dict from names of flags to strings.
    """
    return {
        name: _text(name, value)
        for name, value in _values(config).items()
        if value is not None
    }


def command(
    config: Config, program: str = "python main.py", **others: str
) -> str | None:
    """Returns the command that trains with these settings.

    Args:
        config: A `Config`.
        program: String, how the program is called. Defaults to `"python
            main.py"`.
        **others: Flags that are no settings of the run, such as `run_dir`.

    Returns:
        String, quoted for a shell; None if no command makes this `Config`,
        because it measures in another norm than it trains in.

    Example:

    >>> command(Config(training=TrainingConfig(epochs=5)), seeds="0,1")
    'python main.py --method=fastbat --dataset=cifar10 --epochs=5 --seeds=0,1'
    """
    if _has_other_norms(config):
        return None
    always = {
        "method": config.method.method,
        "dataset": config.data.dataset,
    }
    flags = {**always, **differing(config), **others}
    values = _values(config)
    words = [_flag(k, values.get(k), text) for k, text in flags.items()]
    return f"{program} {shlex.join(words)}"


def _flag(name, value, text):
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    return f"--{name}={text}"


def _has_other_norms(config):
    norms = config.evaluation.norm, config.evaluation.validation_norm
    return set(norms) != {config.training_norm}


def _values(config):
    """Returns a dict from all flags of settings to values, None if unset."""
    values = {"method": config.method.method, "norm": config.training_norm}
    values.update(config.method.options)
    for group in ("data", "model", "training", "overfitting", "evaluation"):
        values.update(_fields(config, group))
    return {**values, **_fields(config, "runtime")}


def _fields(config, group):
    settings = getattr(config, group)
    return {
        _FLAGS.get((group, field.name), field.name): getattr(
            settings, field.name
        )
        for field in dataclasses.fields(settings)
        if (group, field.name) not in _WITHOUT_FLAG
    }


def _make(values, config):
    """Makes the `Config` of these flags, as the command line does.

    Args:
        values: Dict from names of flags to values.
        config: A `Config`, for what no flag says.
    """
    values = {k: v for k, v in values.items() if v is not None}

    def group(kind, name):
        flags = {
            field.name: _FLAGS.get((name, field.name), field.name)
            for field in dataclasses.fields(kind)
            if (name, field.name) not in _WITHOUT_FLAG
        }
        return {
            field: values[flag]
            for field, flag in flags.items()
            if flag in values
        }

    read = {"classes": config.data.classes}
    if "extra_data" in values:
        read["extra_fingerprint"] = config.data.extra_fingerprint
    data = DataConfig(**group(DataConfig, "data"), **read)
    has = {k for k, v in config.model.options.items() if v is not None}
    network = {**_NETWORK, "stem": _stem(data.spec.image_shape)}
    network = {k: v for k, v in network.items() if k in has}
    constants = {"mean": config.model.mean, "std": config.model.std}
    norms = {"norm": values.get("norm")}
    if _has_other_norms(config):
        norms = {
            "norm": config.evaluation.norm,
            "validation_norm": config.evaluation.validation_norm,
        }
    return Config(
        data=data,
        model=ModelConfig(
            **{**network, **group(ModelConfig, "model")}, **constants
        ),
        method=_make_method(values),
        training=TrainingConfig(**group(TrainingConfig, "training")),
        overfitting=OverfittingConfig(
            **group(OverfittingConfig, "overfitting")
        ),
        evaluation=EvaluationConfig(
            **group(EvaluationConfig, "evaluation"), **norms
        ),
        runtime=RuntimeConfig(**group(RuntimeConfig, "runtime")),
    )


def _make_method(values):
    name = values.get("method", MethodConfig().method)
    declared = methods.get_spec(name).options
    given = {k: v for k, v in values.items() if k in declared}
    return MethodConfig(name, given)


def _stem(image_shape):
    is_small = max(image_shape[:2]) <= _LARGEST_CIFAR_IMAGE
    return "cifar" if is_small else "imagenet"


def _text(name, value):
    """Returns the value of a flag as one types it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(_text(name, each) for each in value)
    if not isinstance(value, float):
        return str(value)
    return fraction(value) if _is_fraction(name) else formatting.number(value)


def _is_fraction(name):
    return name in _RADII or any(
        name in spec.options and spec.options[name].kind == "fraction"
        for spec in methods.METHODS.values()
    )


def fraction(value: float) -> str:
    """Returns a fraction of the pixel range as one types it.

    Args:
        value: Float.

    Returns:
        String that `parse_fraction` reads as the same float.

    Example:

    >>> fraction(8 / 255), fraction(0.3), fraction(0.0314)
    ('8/255', '0.3', '0.0314')
    """
    texts = (formatting.number(value), f"{255 * value:g}/255")
    return min((t for t in texts if parse_fraction(t) == value), key=len)
