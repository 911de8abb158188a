"""The files of a run."""

import json
import os
import pathlib
import platform
from importlib import metadata

from fastbat_tf.config import Config
from fastbat_tf.errors import InputError

VERSIONED = ("tensorflow", "keras", "numpy", "tensorflow-datasets")


class RunDirectory:
    """The directory that tells the whole story of a run.

    Args:
        path: The directory; it need not exist.

    Attributes:
        config: `config.json`, all settings, versions and the seed.
        history: `history.csv`, a row per epoch.
        best: Weights of the epoch with the best validation.
        last: Weights of the last epoch.
        tensorboard: TensorBoard's directory.
        saved_model: The exported SavedModel.
        results: `results.json`, accuracy per attack and epsilon.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.config = self.path / "config.json"
        self.history = self.path / "history.csv"
        self.best = self.path / "checkpoints" / "best.weights.h5"
        self.last = self.path / "checkpoints" / "last.weights.h5"
        self.tensorboard = self.path / "tensorboard"
        self.saved_model = self.path / "saved_model"
        self.results = self.path / "results.json"

    def check_free(self, config):
        """Refuses a directory that holds a run, or cannot be written."""
        if self._exists(self.config):
            same = self.load_config() == config
            raise InputError(
                f"`run_dir` holds {'this' if same else 'a different'} run "
                "already; expected a new directory. "
                f"Received: run_dir={self.path}"
            )
        parents = (self.path, *self.path.absolute().parents)
        existing = next(path for path in parents if self._exists(path))
        if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
            self._refuse()

    def _exists(self, path):
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:  # Not allowed to look, or too long a name.
            self._refuse(error)
        return True

    def _refuse(self, error=None):
        raise InputError(
            "`run_dir` is expected to be a directory that can be written. "
            f"Received: run_dir={self.path}"
        ) from error

    def create(self, config):
        """Makes the directory and writes `config.json`."""
        try:
            self.best.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._refuse(error)
        versions = {name: metadata.version(name) for name in VERSIONED}
        versions["python"] = platform.python_version()
        write_json(self.config, {**config.to_dict(), "versions": versions})

    def load_config(self):
        """Reads `config.json`; raises `InputError` if there is no run."""
        try:
            return Config.from_dict(json.loads(self.config.read_text()))
        except InputError:
            raise
        except (
            AttributeError,
            LookupError,
            OSError,
            TypeError,
            ValueError,
        ) as error:
            raise InputError(
                "`run_dir` is expected to hold a run, with its config.json. "
                f"Received: run_dir={self.path}"
            ) from error


def weights_file(path):
    """The file of weights that a path stands for; a run has its best ones.

    Args:
        path: A `.keras` or `.weights.h5` file, or a run directory.

    Returns:
        The `pathlib.Path` of the file.

    Raises:
        InputError: If there is no such file, or it is named otherwise.
    """
    file = pathlib.Path(path)
    if file.is_dir():
        file = RunDirectory(file).best
    if not file.is_file() or not file.name.endswith((".keras", ".weights.h5")):
        raise InputError(
            "`init_weights` is expected to be a .keras file, a .weights.h5 "
            "file, or a run directory with its best weights. "
            f"Received: init_weights={path}"
        )
    return file


def write_json(path, content):
    """Writes JSON to the side and renames it, so that it is whole or old."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(path)
