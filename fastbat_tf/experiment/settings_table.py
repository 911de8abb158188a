"""Shows the settings of a run, above all those that are not the defaults."""

import shlex
from typing import NamedTuple

from fastbat_tf.experiment import differences
from fastbat_tf.experiment.config import Config, Target
from fastbat_tf.runtime import display

# What a run is, in a few words; always shown.
ALWAYS = ("dataset", "model", "method", "epsilon")
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
        default: String, the default, if this is another value; else None.
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
        return f"--{self.name}={shlex.quote(str(self.value))}"


def of_training(config: Config, seeds: tuple[int, ...] = ()) -> list[Setting]:
    """Lists the settings of a training.

    Args:
        config: A `Config`.
        seeds: Integers, if there is a training for each. Defaults to `()`.

    Returns:
        List of `Setting`s.
    """
    found = _find(config, differences.names(config))
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
        Setting("target", name, _typed(value))
        for name, value in measured.items()
        if value not in (None, False)
    ]
    groups = ["evaluation", "runtime"]
    if target.model_path is not None:  # A run knows its data.
        groups.insert(0, "data")
    found += [
        setting
        for setting in _find(config, groups)
        if not setting.name.startswith(("validation_", "norm"))
    ]
    usual = config.training_norm
    is_usual = config.evaluation.norm == usual
    default = None if is_usual else usual
    norm = Setting(
        "evaluation", "norm", config.evaluation.norm, default, is_usual
    )
    before = max(n for n, s in enumerate(found) if s.group == "evaluation")
    return [*found[: before + 1], norm, *found[before + 1 :]]


def _typed(value):
    """The value of a target as one types it."""
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if value is True else value


def show(
    found: list[Setting],
    classes: tuple[str, ...] = (),
    always: tuple[str, ...] = ALWAYS,
) -> None:
    """Prints the settings that are not the defaults; if verbose, all of them.

    They stand above the next line: what is refused before it prints nothing.

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
    display.head("\n".join(shown))


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
        if setting.default is not None:
            line = f"{group:{left}}  {setting.flag:{width}}  default "
            line += setting.default
        found.append(line)
        before = setting.group
    return found


def _find(config, groups):
    """Lists the settings of some groups that have a value."""
    values = differences.resolved(config)
    changed = differences.differing(config)
    found = []
    for group in groups:
        for name in differences.names(config)[group]:
            if name not in values:
                continue
            default = None
            if name in changed:
                default = differences.default(config, name)
            found.append(
                Setting(group, name, values[name], default, name not in changed)
            )
    return found
