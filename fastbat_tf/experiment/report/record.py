"""Reads what a run, or an evaluation alone, has left in its directory.

This module reads files alone: no TensorFlow, and no model.
"""

import csv
import functools
import json
import os
import pathlib
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastbat_tf import files, npz
from fastbat_tf.errors import InputError
from fastbat_tf.experiment import history
from fastbat_tf.experiment.report.numbers import TOLERANCE
from fastbat_tf.experiment.run_directory import RunDirectory

# What NumPy raises for a file that is cut or damaged, or is none of its own.
UNREADABLE = (
    *(OSError, ValueError, KeyError, EOFError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)
CONFIG = ("data", "model", "method", "training", "evaluation")


class Outcomes(NamedTuple):
    """The content of `outcomes.npz`, in the order of the test split.

    Attributes:
        index: int array `(examples,)`, the places in the test split, rising.
        label: int array `(examples,)`.
        clean_correct: bool array `(examples,)`.
        attack: string array `(rows,)`.
        epsilon: float array `(rows,)`.
        robust: bool array `(rows, examples)`.
        clean_class: int array `(examples,)`; this and what follows is None
            in files of earlier versions.
        clean_confidence: float array `(examples,)`, the probability of
            `clean_class`.
        adversarial_class: int array `(rows, examples)`.
        adversarial_confidence: float array `(rows, examples)`.
    """

    index: np.ndarray
    label: np.ndarray
    clean_correct: np.ndarray
    attack: np.ndarray
    epsilon: np.ndarray
    robust: np.ndarray
    clean_class: np.ndarray | None = None
    clean_confidence: np.ndarray | None = None
    adversarial_class: np.ndarray | None = None
    adversarial_confidence: np.ndarray | None = None

    def place(self, row: dict[str, Any]) -> int | None:
        """Returns the place of a row of the results in these arrays, or None.

        Args:
            row: Dict, an entry of `attacks` in the results.
        """
        radii = np.abs(self.epsilon - row["epsilon"]) < TOLERANCE
        (found,) = np.nonzero((self.attack == row["attack"]) & radii)
        for place in found:
            share = float(self.robust[place].mean())
            if abs(share - row["robust_accuracy"]) < TOLERANCE:
                return int(place)
        return None

    def robust_under(self, row: dict[str, Any]) -> np.ndarray | None:
        """Returns which examples are robust, a bool array, or None.

        Args:
            row: Dict, an entry of `attacks` or `worst_case` in the results.
        """
        if "attacks" not in row:
            place = self.place(row)
            return None if place is None else self.robust[place]
        radii = np.abs(self.epsilon - row["epsilon"]) < TOLERANCE
        chosen = self.robust[radii & np.isin(self.attack, row["attacks"])]
        return np.logical_and.reduce(chosen) if len(chosen) else None


class RunRecord:
    """What a directory holds about one run, or about one evaluation alone.

    Args:
        path: Path of the directory.
        name: String, short and unique in the report.
        group: String, the name of the directory of several seeds that holds
            the run. Defaults to None: a run by itself.

    Attributes:
        path: `pathlib.Path` of the directory.
        name: The name.
        group: The group.
        config: Dict of `config.json`; None of an evaluation alone.
        results: Dict of `results.json`; `{}` if there is none yet.
        history: List of dicts, a row of `history.csv` per epoch with today's
            names: `epoch` from 1, floats, None where a value is missing.
        timing: List of dicts, a row of `timing.csv` per epoch, like `history`.

    Raises:
        InputError: If a file cannot be read.
    """

    def __init__(
        self, path: str | os.PathLike, name: str, group: str | None = None
    ):
        self.path = pathlib.Path(path)
        self.name = name
        self.group = group
        self.config = _read_json(self.path / "config.json")
        if self.config is not None:
            path = self.path / "config.json"
            _expect(path, self.config, *CONFIG)
            _expect(path, self.config["method"], "method", "options")
        self.results = _read_json(self.path / "results.json") or {}
        if self.results:
            _expect(
                self.path / "results.json",
                self.results,
                *("clean_accuracy", "examples", "attacks", "worst_case"),
            )
        self.history = _read_epochs(history.read, self.path / "history.csv")
        self.timing = _read_epochs(
            history.read_timing, self.path / "timing.csv"
        )
        self._read = functools.cache(_read_arrays)

    @property
    def method(self) -> str | None:
        """The name of the method; None of an evaluation alone."""
        return self.config["method"]["method"] if self.config else None

    @property
    def data(self) -> dict[str, str]:
        """Flags of the data of an evaluation alone; `{}` if unknown."""
        return self.results.get("data") or {}

    @property
    def class_names(self) -> list[str] | None:
        """The names of the classes; None if unknown."""
        return self.results.get("class_names")

    @property
    def run(self) -> pathlib.Path | None:
        """The directory of the run that an evaluation alone has measured.

        None if it is not known, and of a run.
        """
        run = self.path.parent.parent
        if self.config is not None or "model" in self.results:
            return None
        return run if (run / "config.json").exists() else None

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left to do; an evaluation alone has ended."""
        return self.config is None or RunDirectory(self.path).has_ended

    @functools.cached_property
    def weights_have_changed(self) -> bool:
        """Whether the results are of other weights than the best ones now."""
        measured = self.results.get("weights_sha256")
        best = RunDirectory(self.path).best
        if measured is None or not best.exists():
            return False
        return files.sha256(best) != measured

    def directory(self, row: dict[str, Any]) -> pathlib.Path | None:
        """Returns the directory of the evaluation that a row is from, or None.

        Args:
            row: Dict, an entry of `attacks` or `worst_case` in the results.
        """
        if "outcomes" in row:
            directory = (self.path / str(row["outcomes"])).parent
            # The run of someone else must not show what is elsewhere.
            return directory if files.is_inside(directory, self.path) else None
        if self.config is None:
            return self.path
        # Earlier versions did not say which evaluation a row is from.
        for path in sorted(self.path.glob("evaluations/*/results.json")):
            known = _read_json(path)
            if row in known.get("attacks", []) + known.get("worst_case", []):
                return path.parent
        return None

    def outcomes(self, row: dict[str, Any]) -> Outcomes | None:
        """Returns the `Outcomes` that a row of the results is from, or None.

        Args:
            row: Dict, an entry of `attacks` or `worst_case` in the results.
        """
        directory = self.directory(row)
        path = directory and directory / "outcomes.npz"
        if not path or not path.exists():
            return None
        arrays = self._read(path)
        known = {k: v for k, v in arrays.items() if k in Outcomes._fields}
        _expect(path, known, *Outcomes._fields[:6])
        order = np.argsort(known["index"], kind="stable")
        of_rows = {name: known.pop(name) for name in ("attack", "epsilon")}
        # The last axis of all others is that of the examples.
        return Outcomes(
            **of_rows, **{k: v[..., order] for k, v in known.items()}
        )

    def settings(self, row: dict[str, Any]) -> dict[str, Any]:
        """Returns the `settings.json` of the evaluation that a row is from.

        Args:
            row: Dict, an entry of `attacks` or `worst_case` in the results.

        Returns:
            A dict; `{}` if there is no such file.
        """
        directory = self.directory(row)
        return (directory and _read_json(directory / "settings.json")) or {}

    def arrays(self, name: str) -> dict[str, np.ndarray] | None:
        """Returns the arrays of the newest `gallery.npz` or `surface.npz`.

        Args:
            name: String, the name of the file.

        Returns:
            A dict of arrays; None if there is no such file.
        """
        # Not of every directory: some may have measured earlier weights.
        found = {self.path / name}
        for row in self.results.get("attacks", []):
            directory = self.directory(row)
            found |= {directory / name} if directory else set()
        paths = sorted(path for path in found if path.exists())
        if not paths:
            return None
        return self._read(max(paths, key=lambda path: path.stat().st_mtime))


def read(paths: Sequence[str | os.PathLike]) -> list[RunRecord]:
    """Reads runs and evaluations.

    Args:
        paths: Paths of directories: of runs, of several seeds, and of
            evaluations.

    Returns:
        A list of `RunRecord`s, in the order of the paths; a directory of
        several seeds gives one for each.

    Raises:
        InputError: If a directory holds none of these, or a file in it cannot
            be read.

    Example:

    ```python
    from fastbat_tf.experiment.report import record

    runs = record.read(["runs/fastbat", "runs/standard"])
    runs[0].results["clean_accuracy"]
    ```
    """
    found = {}  # From directories to what stands together, each once.
    for path in map(pathlib.Path, paths):
        for directory, together in _runs_in(path):
            unit = (together or directory).absolute()
            found.setdefault(directory.absolute(), (directory, unit))
    units = list(dict.fromkeys(unit for _, unit in found.values()))
    names = dict(zip(units, _names(units), strict=True))
    return [
        RunRecord(directory, f"{names[unit]}/{directory.name}", names[unit])
        if unit != directory.absolute()
        else RunRecord(directory, names[unit])
        for directory, unit in found.values()
    ]


def grouped(records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Returns a dict from names to lists of the runs that belong together.

    Args:
        records: `RunRecord`s.

    Returns:
        For several seeds, the name of the group and all of its runs; for any
        other run, its name and itself.
    """
    units = {}
    for each in records:
        units.setdefault(each.group or each.name, []).append(each)
    return units


def _runs_in(path):
    """Returns pairs of a run's directory and that of its group, or None."""
    if not path.is_dir():
        raise InputError(
            "There is no such directory; expected that of a run, of several "
            f"seeds, or of an evaluation. Received: runs={path}"
        )
    if (path / "config.json").exists() or (path / "results.json").exists():
        return [(path, None)]
    seeds = sorted(
        (p.parent for p in path.glob("seed-*/config.json")),
        key=lambda p: (len(p.name), p.name),  # 2 comes before 10.
    )
    if seeds:
        return [(seed, path) for seed in seeds]
    raise InputError(
        "The directory holds no run: neither config.json, nor seed-* with it, "
        f"nor results.json of an evaluation. Received: runs={path}{_near(path)}"
    )


def _near(path):
    """Names the runs below a directory, for a message."""
    names = sorted(p.parent.name for p in path.glob("*/config.json"))
    return f" (it has runs in: {', '.join(names[:5])})" if names else ""


def _names(paths):
    """Returns the shortest ends of paths that tell them apart."""
    # What every run has in common tells nothing.
    parts = [[p for p in path.parts if p != "evaluations"] for path in paths]
    lengths = [_least(path) for path in paths]
    while True:
        names = [
            "/".join(part[-length:])
            for part, length in zip(parts, lengths, strict=True)
        ]
        same = [k for k, name in enumerate(names) if names.count(name) > 1]
        if not any(lengths[k] < len(parts[k]) for k in same):
            return names
        for k in same:
            lengths[k] += 1


def _least(path):
    is_part = path.name.startswith("seed-") or path.parent.name == "evaluations"
    return 2 if is_part else 1


def _read_json(path):
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict):
            raise ValueError("not an object")
        return content
    except (OSError, ValueError) as error:
        raise InputError(
            "A file of the run is expected as JSON; repair or remove it. "
            f"Received: path={path} ({error})"
        ) from error


def _expect(path, content, *names):
    missing = [name for name in names if name not in content]
    if missing:
        raise InputError(
            "A file of the run lacks something that this program writes. "
            f"Received: path={path}, missing={', '.join(missing)}"
        )


def _read_epochs(read, path):
    """Reads a row per epoch; a line that a kill has cut is left out."""
    try:
        rows = read(path)
        return [{k: _known(v) for k, v in row.items()} for row in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(
            "A file of the run is expected as CSV with a row per epoch; repair "
            f"or remove it. Received: path={path} ({error})"
        ) from error


def _known(value):
    return None if value != value else value  # NaN


def _read_arrays(path):
    try:
        return npz.read(path)
    except UNREADABLE as error:
        raise InputError(
            "A file of the run is expected as arrays of NumPy; remove it, and "
            f"measure again. Received: path={path} ({error})"
        ) from error
