"""What TensorBoard shows about a run as a whole, beside its curves.

The run `results` holds the settings as text, the layout of the page "Custom
Scalars", and the settings and the results for the page "HParams". That page
takes each scalar of the run with the settings, and of the runs below it, for a
metric: so it is a run of its own, beside `train` and `validation`.
"""

# The classes of protocol buffers are made when they are imported.
# pyright: reportAttributeAccessIssue=false

import dataclasses
import json
import shlex
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import summary as custom_scalar
from tensorboard.plugins.hparams import api as hparams
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import summary as hparams_summary

from fastbat_tf.experiment import differences, earlier_curves
from fastbat_tf.experiment.config import Config
from fastbat_tf.experiment.report.numbers import is_same_radius
from fastbat_tf.experiment.run_directory import RunDirectory
from fastbat_tf.training.callbacks import BestWeights
from fastbat_tf.training.callbacks.validation import AVERAGED, KINDS, RAW
from fastbat_tf.training.options import OFF

# What the page "HParams" shows of each run; it also shows the options of the
# method, and what else of these groups is not the default.
HYPERPARAMETERS = (
    "method",
    "dataset",
    "model",
    "width",
    "epochs",
    "batch_size",
    "optimizer",
    "learning_rate",
    "schedule",
    "weight_decay",
    "seed",
)
GROUPS = "data", "model", "training", "overfitting"
# Where the data lie on this machine changes nothing.
LEFT_OUT = ("data_dir",)

CHARTS = {
    "Clean, FGSM and PGD accuracy (validation)": (
        r"^epoch_(averaged_)?(clean|fgsm|robust)_accuracy$",
    ),
    "FGSM-PGD gap, gradient alignment": (
        r"^epoch_overfitting_gap$",
        r"^epoch_gradient_alignment$",
    ),
    "Loss (train), by epoch": (r"^epoch_loss$",),
    "Loss (train), by step": (r"^batch_loss$",),
    "Accuracy (train), by step": (r"^batch_(perturbed_)?accuracy$",),
    "Learning rate": (r"^epoch_learning_rate$",),
}
OF_GUARD = "FGSM-PGD gap, gradient alignment"
RUN = "results"  # The name of the run.
# The ends of the names of two of its files.
SETTINGS, TEST = ".settings", ".test"


class RunSummary(keras.callbacks.Callback):
    """Writes what TensorBoard shows about the run as a whole.

    List this callback after `best`.

    Args:
        config: The `Config` of the run.
        directory: The `RunDirectory`, with its `config.json`.
        best: The `BestWeights`.
    """

    def __init__(
        self, config: Config, directory: RunDirectory, best: BestWeights
    ) -> None:
        super().__init__()
        self._config, self._directory, self._best = config, directory, best
        self._best_before = None

    def on_train_begin(self, logs=None):
        # What a checkpoint has put back may be of an earlier version.
        earlier_curves.update(
            self._directory.tensorboard, self._config.method.has_attack
        )
        write_settings(self._config, self._directory)
        path = str(self._directory.tensorboard / RUN)
        self._writer = tf.summary.create_file_writer(path)
        self._best_before = self._best.best

    def on_epoch_end(self, epoch, logs=None):
        if self._best.best == self._best_before:
            return
        self._best_before = self._best.best
        # Of the best epoch, both accuracies of the weights that were saved.
        is_averaged = self._best.column.startswith(AVERAGED)
        prefix = AVERAGED if is_averaged else RAW
        with self._writer.as_default():
            for kind in KINDS:
                value = logs[f"{prefix}{kind}"]
                tf.summary.scalar(f"validation_best/{kind}", value, epoch + 1)
        self._writer.flush()

    def on_train_end(self, logs=None):
        self._writer.close()


def write_settings(config: Config, directory: RunDirectory) -> None:
    """Writes settings and layout, unless the run has them.

    Args:
        config: The `Config` of the run.
        directory: The `RunDirectory`, with its `config.json`.
    """
    path = directory.tensorboard / RUN
    # A checkpoint restores the file, so that a run is one session.
    if any(path.glob(f"events.*{SETTINGS}")):
        return
    recorded = json.loads(directory.config.read_text())
    layout = custom_scalar.pb(layout_of(config)).SerializeToString()
    writer = tf.summary.create_file_writer(str(path), filename_suffix=SETTINGS)
    with writer.as_default():
        hparams.hparams(hyperparameters(config), trial_id=_trial(directory))
        tf.summary.experimental.write_raw_pb(layout, step=0)
        for name, text in texts(config, recorded).items():
            tf.summary.text(name, text, step=0)
    writer.close()


def _trial(directory):
    """A name of the row: what tells most comes first, as it may be cut off."""
    path = directory.path.absolute()
    parent, name = path.parent, path.name
    if name.startswith("seed-"):  # Of several seeds.
        parent, name = parent.parent, f"{parent.name}/{name}"
    return f"{name} ({parent})"


def write_results(
    config: Config,
    directory: RunDirectory,
    results: Mapping[str, Any],
    has_ended: bool = False,
) -> None:
    """Writes clean and robust accuracy on the test images, or replaces them.

    No process must be training this run.

    Args:
        config: The `Config` of the run.
        directory: The `RunDirectory`.
        results: What `results.json` holds.
        has_ended: Boolean, whether the training has ended. Defaults to False.
    """
    write_settings(config, directory)  # A run of an earlier version has none.
    path = directory.tensorboard / RUN
    for old in path.glob(f"events.*{TEST}"):
        old.unlink()
    values = {"clean_accuracy": results.get("clean_accuracy")}
    values["robust_accuracy"] = _robust_accuracy(config, results)
    step = results.get("best_epoch") or 0
    writer = tf.summary.create_file_writer(str(path), filename_suffix=TEST)
    with writer.as_default():
        for name, value in values.items():
            if value is not None:
                tf.summary.scalar(f"test/{name}", value, step)
        if has_ended:
            end = hparams_summary.session_end_pb(api_pb2.STATUS_SUCCESS)
            tf.summary.experimental.write_raw_pb(end.SerializeToString(), 0)
    writer.close()


def _robust_accuracy(config, results):
    """The lowest robust accuracy in the radius of the validation, or None.

    If there is none in that radius, it is that in the first one.
    """
    rows = [*results.get("attacks", ()), *results.get("worst_case", ())]
    settings = config.evaluation
    wanted = settings.validation_norm, settings.validation_epsilon
    near = [
        row
        for row in rows
        if is_same_radius(row["norm"], row["epsilon"], *wanted)
    ]
    if not near and rows:
        first = rows[0]["norm"], rows[0]["epsilon"]
        near = [row for row in rows if (row["norm"], row["epsilon"]) == first]
    most = max((row["examples"] for row in near), default=0)
    return min(
        (row["robust_accuracy"] for row in near if row["examples"] == most),
        default=None,
    )


def hyperparameters(config: Config) -> dict[str, Any]:
    """Returns the settings by which the page "HParams" compares runs.

    Args:
        config: A `Config`.

    Returns:
        Dict from names of flags to numbers or strings, such as `"8/255"`.
    """
    settings = differences.resolved(config)
    of_training = {
        field.name
        for group in GROUPS
        for field in dataclasses.fields(getattr(config, group))
    }
    changed = of_training.intersection(differences.differing(config))
    names = dict.fromkeys(
        (*HYPERPARAMETERS, *config.method.options, *sorted(changed))
    )
    return {
        name: _as_number(settings[name])
        for name in names
        if name in settings and name not in LEFT_OUT
    }


def _as_number(text):
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def layout_of(config: Config) -> layout_pb2.Layout:
    """Returns the layout of the page "Custom Scalars".

    TensorBoard joins the charts of several runs by their titles.

    Args:
        config: A `Config`.
    """
    has_guard = config.overfitting.on_overfitting != OFF
    charts = [
        layout_pb2.Chart(
            title=title,
            multiline=layout_pb2.MultilineChartContent(tag=tags),
        )
        for title, tags in CHARTS.items()
        if has_guard or title != OF_GUARD
    ]
    return layout_pb2.Layout(
        category=[layout_pb2.Category(title="Training", chart=charts)]
    )


def texts(config: Config, recorded: Mapping[str, Any]) -> dict[str, str]:
    """Returns what the page "Text" shows, in Markdown.

    Args:
        config: A `Config`.
        recorded: What `config.json` holds.

    Returns:
        Dict from titles to texts.
    """
    title = "Begun with"
    command = recorded.get("command")
    if command is None:
        title = "Not begun by a command; one with the same settings is"
        command = differences.command(config) or "not known"
    settings = differences.resolved(config)
    changed = differences.differing(config)
    others = {k: v for k, v in settings.items() if k not in changed}
    versions = {
        "started": recorded.get("started"),
        **(recorded.get("environment") or {}),
        **recorded.get("versions", {}),
    }
    return {
        "command": f"{title}\n\n```\n{_in_lines(command)}\n```",
        "settings": (
            f"{_table('not the default', changed)}\n\n"
            f"{_table('default', others)}"
        ),
        "versions": _table("", versions),
    }


def _in_lines(command):
    """Breaks a command before each flag, as a shell reads it."""
    return " ".join(
        f"\\\n    {shlex.quote(word)}" if word[:1] == "-" else shlex.quote(word)
        for word in shlex.split(command)
    )


def _table(title, values):
    rows = [
        f"| {name} | {_escape(value)} |"
        for name, value in values.items()
        if value is not None
    ]
    return "\n".join([f"| {title} | value |", "|---|---|", *rows])


def _escape(value):
    return str(value).replace("|", "\\|").replace("*", "\\*")
