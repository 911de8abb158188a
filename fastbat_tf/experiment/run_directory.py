"""The files of a run, and the check of which run a directory holds."""

import dataclasses
import json
import os
import pathlib
import platform
import time
from importlib import metadata

from fastbat_tf import files
from fastbat_tf.errors import InputError
from fastbat_tf.experiment import differences
from fastbat_tf.experiment.config import Config
from fastbat_tf.saving.pytorch import files as torch_files

VERSIONED = ("tensorflow", "keras", "numpy", "tensorflow-datasets")
# Another process may hold the lock for a moment, to test whether it is free.
SECONDS_TO_LOOK = 0.5


class RunDirectory:
    """The directory that holds everything about a run.

    Args:
        path: The directory; it need not exist.

    Attributes:
        config: `config.json`: all settings, versions and the seed, and the
            command, the time and the devices that the run began with.
        history: `history.csv`: a row per epoch.
        backup: Directory of the checkpoints from which a killed run resumes.
        timing: `timing.csv`: seconds per epoch, which differ from run to run.
        best: Weights of the epoch with the best validation.
        last: Weights of the last epoch.
        good: The state after a good epoch, which a rollback restores.
        tensorboard: TensorBoard's directory.
        evaluations: Directory of the state from which an interrupted
            evaluation resumes.
        saved_model: The exported SavedModel.
        exports: Directory of the other formats, one directory each.
        results: `results.json`: accuracy per attack and epsilon.
        ended: `ended.json`: written last, when nothing is left to do.
        report: `report.html`: the report, which is made of the other files.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.config = self.path / "config.json"
        self.history = self.path / "history.csv"
        self.timing = self.path / "timing.csv"
        self.backup = self.path / "backup"
        self.best = self.path / "checkpoints" / "best.weights.h5"
        self.last = self.path / "checkpoints" / "last.weights.h5"
        self.good = self.path / "checkpoints" / "good.npz"
        self.tensorboard = self.path / "tensorboard"
        self.evaluations = self.path / "evaluations"
        self.saved_model = self.path / "saved_model"
        self.exports = self.path / "exports"
        self.results = self.path / "results.json"
        self.ended = self.path / "ended.json"
        self.report = self.path / "report.html"
        self._lock_file = self.path / ".lock"
        self._held = None

    @property
    def growing(self):
        """The files that a checkpoint copies, relative to the directory."""
        paths = (
            self.history,
            self.timing,
            self.tensorboard,
            self.best.parent,
        )
        return [str(path.relative_to(self.path)) for path in paths]

    def check(self, config, resume="auto"):
        """Rejects a directory that this run cannot use.

        Args:
            config: The `Config` of the run.
            resume: `"auto"`; `"never"`, which rejects a directory that holds
                this run; or `"must"`, which rejects one that does not.
                Defaults to `"auto"`.

        Returns:
            Whether the directory holds this run.

        Raises:
            InputError: If the directory cannot be written, or holds a
                different run, or another process is working on it.
        """
        holds_run = self._exists(self.config)
        if next(self.path.glob("seed-*"), None):
            raise InputError(
                "`run_dir` holds runs of several seeds; expected a new "
                f"directory for one. Received: run_dir={self.path}"
            )
        if holds_run:
            self._check_same(config, resume)
            files.refuse_links_out(self.path, f"run_dir={self.path}")
            self.lock()
        elif resume == "must":
            raise InputError(
                "`resume` is must, but there is no such run; expected the "
                f"directory of one. Received: run_dir={self.path}"
            )
        parents = (self.path, *self.path.absolute().parents)
        existing = next(path for path in parents if self._exists(path))
        if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
            self._refuse()
        return holds_run

    def _check_same(self, config, resume):
        before = self.load_config()
        if before == config and resume != "never":
            return
        which, changes = "this", ""
        if before != config:
            which = "a different"
            changes = f" ({', '.join(_changes(before, config))})"
        raise InputError(
            f"`run_dir` holds {which} run already{changes}; expected a new "
            f"directory. Received: run_dir={self.path}"
        )

    def lock(self):
        """Locks the run until `unlock`, or until this process ends.

        Raises:
            InputError: If another process holds the lock.
        """
        self._lock(SECONDS_TO_LOOK)

    def _lock(self, seconds):
        if self._held is not None:
            return
        try:
            self._held = files.lock(self._lock_file, seconds)
        except TimeoutError:
            raise InputError(
                "Another process is working on this run; expected one at a "
                "time. "
                f"Received: run_dir={self.path}"
            ) from None
        except OSError as error:
            self._refuse(error)

    def unlock(self):
        """Releases the lock, for another process or another call."""
        if self._held is not None:
            self._held.release()
            self._held = None

    def _exists(self, path):
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:  # No permission, or the name is too long.
            self._refuse(error)
        return True

    def _refuse(self, error=None):
        raise InputError(
            "`run_dir` is expected to be a writable directory. "
            f"Received: run_dir={self.path}"
        ) from error

    def create(self, config, command=None, environment=None):
        """Creates the directory and `config.json`, unless they are there.

        Args:
            config: The `Config` of the run.
            command: String, the command line that began the run. Defaults to
                `None`: it was begun from Python.
            environment: Dict of what it runs on; see
                `fastbat_tf.runtime.hardware.describe`. Defaults to `None`.
        """
        try:
            files.make_directory(self.best.parent)
        except OSError as error:
            self._refuse(error)
        self.lock()
        if self._exists(self.config):  # Perhaps since `check`.
            self._check_same(config, "auto")
            self.ended.unlink(missing_ok=True)
            return
        versions = {name: metadata.version(name) for name in VERSIONED}
        versions["python"] = platform.python_version()
        files.write_json(
            self.config,
            {
                **config.to_dict(),
                "versions": versions,
                "command": command,
                "started": _now(),
                "environment": environment,
            },
        )

    @property
    def has_ended(self):
        """Whether the run has nothing left to do.

        `ended.json` decides, because an evaluation also writes the results,
        and an export the SavedModel. But if one of these is missing, there is
        something left to do.
        """
        parts = (self.ended, self.results, self.saved_model)
        return all(path.exists() for path in parts)

    @property
    def has_report(self):
        """Whether there is a report of the whole run, which has ended."""
        if not self.report.exists():
            return False
        return self.report.stat().st_mtime >= self.ended.stat().st_mtime

    def end(self):
        """Flushes the run to the disk, then marks it as ended."""
        for path in (*self.growing, self.saved_model):
            files.flush_tree(self.path / path)
        files.write_json(self.ended, {"ended": _now()})

    def holds(self, config):
        """Whether the directory holds this run."""
        try:
            return self.load_config() == config
        except InputError:
            return False

    def is_left_alone(self):
        """Whether no process is working on the run; writes nothing."""
        if self._held is not None:
            return False
        if not self._lock_file.exists():
            return True
        try:
            self._lock(0)
        except InputError:
            return False
        self.unlock()
        return True

    def is_unfinished(self, config):
        """Whether the directory holds this run, unfinished and not in use."""
        # In this order, because only other users may be able to read the run.
        begun = self.holds(config) and not self.has_ended
        return begun and self.is_left_alone()

    def expect_weights(self):
        """Rejects a run that has no weights yet.

        Raises:
            InputError: If there are none.
        """
        if not self.best.exists():
            raise InputError(
                "The run has no weights yet; expected at least one finished "
                f"epoch. Received: run_dir={self.path}"
            )

    def load_config(self):
        """Reads the `Config` from `config.json`.

        Raises:
            InputError: If there is no run, or its config cannot be read.
        """
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
    """Returns the weights file of a path: for a run, its best weights.

    Args:
        path: A `.keras` or `.weights.h5` file, a file of PyTorch, or a run
            directory.

    Returns:
        The `pathlib.Path` of the file.

    Raises:
        InputError: If there is no such file, it has another extension, or
            PyTorch is not installed, which reads `.pt` files.
    """
    file = pathlib.Path(path)
    if file.is_dir():
        file = RunDirectory(file).best
    extensions = (".keras", ".weights.h5", *torch_files.SUFFIXES)
    if not file.is_file() or not file.name.endswith(extensions):
        missing = "" if file.exists() else ", but there is none"
        raise InputError(
            "`init_weights` is expected to be a .keras file, a .weights.h5 "
            "file, a file of PyTorch (.safetensors, .pt, .pth), or a run "
            f"directory with its best weights{missing}. "
            f"Received: init_weights={path}"
        )
    torch_files.expect_reader(file, f"init_weights={path}")
    return file


def choose_run_dir(config, resume, parent="runs", seeds=()):
    """Chooses a directory for a run if the user has not given one.

    Args:
        config: The `Config` of the run.
        resume: `"auto"`, `"never"` or `"must"`.
        parent: Path of the directory of all runs. Defaults to `"runs"`.
        seeds: The seeds, if the directory is to hold a run for each. Defaults
            to `()`.

    Returns:
        String, the path of the newest unfinished run of this `Config`. If
        there is none, or `resume` is `"never"`, the path of a new directory,
        named after method, data set, model and time.
    """
    name = "-".join(
        (
            config.method.method,
            config.data.dataset,
            config.model.model.replace(":", "-"),
            *(("seeds",) if seeds else ()),
        )
    )
    begun = sorted(pathlib.Path(parent).glob(f"{name}-*"), reverse=True)
    if resume != "never":
        for path in begun:
            if _is_unfinished(path, config, seeds):
                return str(path)
    return f"{parent}/{name}-{time.strftime('%Y%m%d-%H%M%S')}"


def seed_directory(path, seed):
    """Returns the directory of the run with one of several seeds."""
    return pathlib.Path(path) / f"seed-{seed}"


def seeds_summary(path):
    """Returns the path of the file that summarizes runs with several seeds."""
    return pathlib.Path(path) / "seeds.json"


def _is_unfinished(path, config, seeds):
    if not seeds:
        return RunDirectory(path).is_unfinished(config)
    first = RunDirectory(seed_directory(path, seeds[0]))
    return (
        first.holds(config.with_seed(seeds[0]))
        and not seeds_summary(path).exists()
        and all(
            RunDirectory(seed_directory(path, seed)).is_left_alone()
            for seed in seeds
            if seed_directory(path, seed).exists()
        )
    )


def _now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _changes(before, now):
    """Lists the previous values of the settings that differ, for a message."""
    # A run may continue with another interval of checkpoints, for example.
    before = dataclasses.replace(before, runtime=_same(before, now))
    found = differences.differences([before, now])
    # The options of another method do not apply to this one.
    changes = [
        f"{name}={old}" for name, (old, new) in found.items() if old and new
    ]
    prints = [each.data.extra_fingerprint for each in (before, now)]
    if None not in prints and prints[0] != prints[1]:
        changes.append("extra_data with other contents")
    return changes


def _same(before, now):
    """The devices of a run, with what may change as it is now."""
    fields = dataclasses.fields(now.runtime)
    free = {
        f.name: getattr(now.runtime, f.name) for f in fields if not f.compare
    }
    return dataclasses.replace(before.runtime, **free)
