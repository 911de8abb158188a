"""Shows the settings of a run, above all those that are not the defaults."""

import dataclasses
import shlex
from typing import Any, NamedTuple

from fastbat_tf import methods
from fastbat_tf.errors import InputError
from fastbat_tf.experiment.config import Config, MethodConfig, Target
from fastbat_tf.methods import options
from fastbat_tf.runtime import display, formatting

# What a run is, in a few words; always shown.
ALWAYS = ("dataset", "model", "method", "epsilon")
# Fields whose flags have another name, or that have none.
FLAGS = {
    ("evaluation", "seed"): "evaluation_seed",
    ("evaluation", "batch_size"): "evaluation_batch_size",
    ("evaluation", "validation_norm"): None,
    ("data", "classes"): None,
}
RADII = ("epsilons", "validation_epsilon")
# What an evaluation measures.
MEASURED = ("dataset", "attacks", "epsilons")
WIDEST = 44  # A longer flag does not move the defaults of the others.
REST = "All other settings are the defaults; --verbosity=1 shows them."


class Setting(NamedTuple):
    """A setting of a run.

    Attributes:
        group: String, a group of `Config`, such as `"training"`.
        name: String, the name of the flag, such as `"epochs"`.
        value: String, as one types it, such as `"10"`.
        default: String, the default; None if there is none.
        is_default: Boolean, whether the value is the default.
    """

    group: str
    name: str
    value: str
    default: str | None = None
    is_default: bool = False

    @property
    def flag(self) -> str:
        """The flag as one types it in a shell."""
        return f"--{self.name}={shlex.quote(self.value)}"


def of_training(
    config: Config,
    model_defaults: dict[str, Any] | None = None,
    seeds: tuple[int, ...] = (),
) -> list[Setting]:
    """Lists the settings of a training.

    Args:
        config: A `Config`.
        model_defaults: Dict of the network's own defaults. Defaults to `None`:
            they are unknown.
        seeds: Integers, if there is a training for each. Defaults to `()`.

    Returns:
        List of `Setting`s.
    """
    groups = [field.name for field in dataclasses.fields(config)]
    found = _find(config, groups, model_defaults or {})
    if seeds:
        several = Setting("training", "seeds", ",".join(map(str, seeds)))
        found = [several if s.name == "seed" else s for s in found]
    return found


def of_evaluation(
    config: Config, target: Target, run_dir: str | None
) -> list[Setting]:
    """Lists the settings of an evaluation of a run or of a model file.

    Args:
        config: A `Config`.
        target: A `Target`.
        run_dir: Path of the run, or None.

    Returns:
        List of `Setting`s.
    """
    measured = {"run_dir": run_dir, **vars(target)}
    found = [
        Setting("target", name, _as_typed(config, name, value))
        for name, value in measured.items()
        if value not in (None, False)
    ]
    groups = ["evaluation", "runtime"]
    if target.model_path is not None:  # A run knows its data.
        groups.insert(0, "data")
    found += _find(config, groups, {})
    return [
        setting
        for setting in found
        if not setting.name.startswith("validation_")
    ]


def show(
    found: list[Setting],
    classes: tuple[str, ...] = (),
    always: tuple[str, ...] = ALWAYS,
) -> None:
    """Prints the settings that are not the defaults; if verbose, all of them.

    Args:
        found: List of `Setting`s.
        classes: Names of the classes of a folder. Defaults to `()`.
        always: Names of settings that are printed in any case. Defaults to
            `ALWAYS`.
    """
    chosen = [s for s in found if not s.is_default or s.name in always]
    is_verbose = display.current().verbosity > 0
    shown = lines(found if is_verbose else chosen)
    if classes:
        shown.append(f"{len(classes)} classes: {', '.join(classes)}")
    if not is_verbose:
        shown.append(REST)
    display.say("\n".join(shown))


def differences(before: Config, now: Config) -> list[str]:
    """Lists the settings of a run that another one does not share.

    Args:
        before: The `Config` whose values are listed.
        now: A `Config`.

    Returns:
        List of strings such as `"epochs=10"`.
    """
    found = {}
    for group in (field.name for field in dataclasses.fields(now)):
        fields = dataclasses.fields(getattr(now, group))
        ignored = {field.name for field in fields if not field.compare}
        ours, theirs = _values(before, group), _values(now, group)
        if ours.get("method") != theirs.get("method"):
            ours = {"method": ours["method"]}  # Its options are others, too.
        for field, value in ours.items():
            if field not in ignored and value != theirs.get(field):
                name = FLAGS.get((group, field)) or field
                found[f"{name}={_as_typed(before, field, value)}"] = None
    return list(found)


def lines(settings: list[Setting]) -> list[str]:
    """Formats settings as a table, with the groups on the left.

    Args:
        settings: List of `Setting`s.

    Returns:
        List of lines.

    Example:

    >>> lines([Setting("training", "epochs", "10", "20")])
    ['training  --epochs=10  default 20']
    """
    left = max(len(setting.group) for setting in settings)
    lengths = [len(setting.flag) for setting in settings]
    width = max((length for length in lengths if length <= WIDEST), default=0)
    found, before = [], None
    for setting in settings:
        group = "" if setting.group == before else setting.group
        line = f"{group:{left}}  {setting.flag}"
        if setting.default is not None and not setting.is_default:
            line = f"{group:{left}}  {setting.flag:{width}}  default "
            line += setting.default
        found.append(line)
        before = setting.group
    return found


def _find(config, groups, of_model):
    """Lists the settings of some groups that have a value.

    The default of a setting is the value that it has if it alone is not given.
    It may depend on others, as that of a step size depends on the radius.
    """
    defaults = _find_defaults(config, of_model)
    found = []
    for group in groups:
        for field, value in _values(config, group).items():
            name = FLAGS.get((group, field), field)
            default = defaults.get((group, field))
            is_default = value == default
            if value in (None, ()) or name is None:
                continue
            if (group, name) == ("evaluation", "norm") and is_default:
                continue  # It is a setting of the method.
            text = None
            if default not in (None, ()):
                text = _as_typed(config, field, default)
            typed = _as_typed(config, field, value)
            found.append(Setting(group, name, typed, text, is_default))
    return found


def _values(config, group):
    """The settings of a group by name, those of the method side by side."""
    values = dict(vars(getattr(config, group)))
    of_method = values.pop("options", {})
    return {**values, **of_method}


def _find_defaults(config, of_model):
    """Returns a dict of the defaults by group and name."""
    found = {
        (field.name, each.name): each.default
        for field in dataclasses.fields(config)
        for each in dataclasses.fields(getattr(config, field.name))
    }
    found["method", "method"] = MethodConfig().method
    found["data", "augment"] = bool(config.data.spec.augmentation)
    found |= {("model", name): value for name, value in of_model.items()}
    found |= _of_method(config.method)
    found |= _of_choices("training", config.training)
    plain = Config(method=config.method).overfitting
    found |= _of_choices("overfitting", config.overfitting)
    found["overfitting", "on_overfitting"] = plain.on_overfitting
    for name in ("norm", *RADII):
        found["evaluation", name] = _of_evaluation(config, name)
    return found


def _of_method(config):
    declared = methods.get_spec(config.method).options
    found = {}
    for name in declared:
        others = {k: v for k, v in config.options.items() if k != name}
        try:
            default = options.resolve(declared, others)[name]
        except InputError:  # The other options ask for another value.
            default = None
        found["method", name] = default
    return found


def _of_choices(group, config):
    """The defaults that the chosen optimizer, schedule and the like decide."""
    fields = dataclasses.fields(config)
    derived = [f.name for f in fields if f.default is None]
    given = {name: value for name, value in vars(config).items()}
    choices = {k: v for k, v in given.items() if k not in derived}
    if group == "overfitting":
        choices = {"on_overfitting": config.on_overfitting}
    resolved = type(config)(**choices)
    return {(group, name): getattr(resolved, name) for name in derived}


def _of_evaluation(config, name):
    """The default of a setting of the measurement; None if it is required."""
    unset = () if name == "epsilons" else None
    evaluation = dataclasses.replace(config.evaluation, **{name: unset})
    try:
        resolved = dataclasses.replace(config, evaluation=evaluation)
    except InputError:
        return None
    return getattr(resolved.evaluation, name)


def _as_typed(config, name, value):
    """A value as one types it on the command line."""
    declared = methods.get_spec(config.method.method).options.get(name)
    if name in RADII or (declared and declared.kind == "fraction"):
        norms = {
            "epsilons": config.evaluation.norm,
            "validation_epsilon": config.evaluation.validation_norm,
        }
        norm = norms.get(name, config.training_norm)
        return formatting.radius(value, norm)
    if isinstance(value, tuple):
        return ",".join(_as_typed(config, "", each) for each in value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return formatting.number(value)
    return str(value)
