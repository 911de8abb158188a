"""What a run says about its model, for the files of an export."""

import ntpath
import os
import pathlib
import posixpath
import shlex
from typing import Any

from fastbat_tf import files
from fastbat_tf.data.class_names import known_class_names
from fastbat_tf.experiment import history
from fastbat_tf.experiment.config import Config
from fastbat_tf.experiment.report import commands, measured
from fastbat_tf.experiment.report.doubts import doubts
from fastbat_tf.experiment.report.record import RunRecord
from fastbat_tf.experiment.run_directory import RunDirectory
from fastbat_tf.saving.model_info import ModelInfo

# What stands for a directory of this machine.
DATA_DIR = "DIR"


class _Record(RunRecord):
    """The files of a run that is exported, perhaps as its last step."""

    is_ending = False

    @property
    def has_ended(self) -> bool:
        # The SavedModel may be missing, which is exported now.
        return self.is_ending or RunDirectory(self.path).ended.exists()


def of_run(
    config: Config,
    directory: RunDirectory,
    *,
    license: str | None = None,
    is_ending: bool = False,
) -> ModelInfo:
    """Returns what a run says about its best weights.

    Args:
        config: The `Config` of the run.
        directory: Its `RunDirectory`.
        license: String, the licence of the model. Defaults to `None`.
        is_ending: Boolean, whether the run ends with this export. Defaults to
            `False`.

    Raises:
        InputError: If a file of the run cannot be read.
    """
    name = _name(directory.path)
    record = _Record(directory.path, name)
    record.is_ending = is_ending
    weights = files.sha256(directory.best) if directory.best.exists() else None
    if record.weights_have_changed:  # Nothing is known about the new ones.
        record.results = {}
    results = record.results or None
    trained = measured.training_radius(record) or (None, None)
    command, is_recorded = commands.of_training([record])
    return ModelInfo(
        name=name,
        network=_network(config),
        class_names=_class_names(config, record),
        dataset=config.data.dataset,
        method=config.method.method,
        norm=trained[0],
        epsilon=trained[1],
        results=results,
        doubts=_doubts(record),
        license=license,
        command=command and hide_paths(command),
        command_is_recorded=is_recorded,
        config=_settings(config),
        best_epoch=history.best_epoch(record.history, record.results),
        initial_weights=_initial(config),
        versions=_versions(record),
        device=_device(record),
        weights_sha256=weights,
    )


def of_weights(config: Config, license: str | None = None) -> ModelInfo:
    """Returns what is known about `init_weights` without a run.

    Args:
        config: A `Config`, whose data set says what the classes are.
        license: String, the licence of the model. Defaults to `None`.
    """
    path = config.model.init_weights
    names = known_class_names(config.data)
    return ModelInfo(
        name=pathlib.Path(path).stem.removesuffix(".weights"),
        network=_network(config),
        class_names=names and tuple(names),
        license=license,
        initial_weights=_initial(config),
    )


def hide_paths(command: str) -> str | None:
    """Returns a command without the directories of this machine.

    The value of `--data_dir` becomes `DIR`, and of any other absolute path the
    last name is left.

    Args:
        command: String, as `shlex.join` writes it, of one or several lines.

    Returns:
        String; None if it is not quoted for a shell.

    Example:

    >>> hide_paths("python /home/me/main.py --data_dir=/data --run_dir=runs/a")
    'python main.py --data_dir=DIR --run_dir=runs/a'
    """
    try:
        lines = [shlex.split(line) for line in command.splitlines()]
    except ValueError:
        return None
    return "\n".join(shlex.join(_hidden(words)) for words in lines)


def _hidden(words):
    found, is_data = [], False
    for word in words:
        name, equals, value = word.partition("=")
        is_flag = name.startswith("-")
        if is_data and not is_flag:
            found.append(DATA_DIR)
        elif is_flag and equals:
            is_data = name.lstrip("-") == "data_dir"
            shown = DATA_DIR if is_data else _shown(value)
            found.append(f"{name}={shown}")
        else:
            found.append(word if is_flag else _shown(word))
        is_data = not equals and name.lstrip("-") == "data_dir"
    return found


def _shown(path):
    """Leaves the last name of an absolute path."""
    is_home = path.startswith("~")
    is_windows = ntpath.isabs(path) and bool(ntpath.splitdrive(path)[0])
    if is_windows:
        return ntpath.basename(path.rstrip("\\/")) or DATA_DIR
    if is_home or posixpath.isabs(path):
        return posixpath.basename(path.rstrip("/")) or DATA_DIR
    return path


def _name(path):
    """The name of the directory, with its parent's for one of several seeds."""
    path = pathlib.Path(os.path.abspath(path))
    if path.name.startswith("seed-") and path.parent.name:
        return f"{path.parent.name}-{path.name}"
    return path.name


def _network(config):
    options = config.model.options.items()
    given = [f"{k}={v}" for k, v in options if v is not None]
    shown = f" ({', '.join(given)})" if given else ""
    return f"{config.model.model}{shown}"


def _class_names(config, record):
    names = record.class_names
    if names is None:  # The version before did not record them.
        names = known_class_names(config.data)
    return None if names is None else tuple(names)


def _doubts(record):
    if not record.results:
        found = []
    else:
        found = measured.quoted([record])
    known = record.results.get("warnings", [])
    return tuple(d for d in doubts([record], found) if d not in known)


def _settings(config) -> dict[str, Any]:
    """The settings, without the places of files."""
    groups = config.to_dict()
    groups["data"]["data_dir"] = None
    groups["model"]["init_weights"] = _initial(config)
    return groups


def _initial(config):
    path = config.model.init_weights
    return None if path is None else _shown(path)


def _versions(record):
    versions = dict(record.config.get("versions") or {})
    rows = record.results.get("attacks", [])
    if "fastbat_tf" not in versions and rows:
        version = record.settings(rows[0]).get("version")
        versions |= {"fastbat_tf": version} if version else {}
    return versions or None


def _device(record):
    environment = record.config.get("environment") or {}
    name = environment.get("device")
    replicas = environment.get("replicas", 1)
    if not name:
        return None
    return name if replicas == 1 else f"{replicas} replicas, {name}"
