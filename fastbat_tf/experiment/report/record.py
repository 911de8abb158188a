"""Reads what a run, or an evaluation alone, has left in its directory.

This module reads files alone: no TensorFlow, and no model.
"""

import functools
import json
import pathlib
from typing import NamedTuple

import numpy as np

from fastbat_tf.errors import InputError


class Outcomes(NamedTuple):
    """The content of `outcomes.npz`.

    Attributes:
        index: int array `(examples,)`, the places in the test split.
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


class RunRecord:
    """What a directory holds about one run, or about one evaluation alone.

    Attributes:
        path: `pathlib.Path` of the directory.
        name: String, short and unique in the report.
        group: String, the name of the directory of several seeds that holds
            the run; None of a run by itself.
        config: Dict of `config.json`; None of an evaluation alone.
        results: Dict of `results.json`; `{}` if there is none yet.
        history: List of dicts, a row of `history.csv` per epoch with today's
            names: `epoch` from 1, floats, None where a value is missing.
        timing: List of dicts, a row of `timing.csv` per epoch.
    """

    def __init__(self, path, name, group=None):
        self.path = pathlib.Path(path)
        self.name = name
        self.group = group
        self.config = _read_json(self.path / "config.json")
        self.results = _read_json(self.path / "results.json") or {}
        self.history = []  # TODO(E): experiment.history's reader.
        self.timing = []

    @property
    def method(self):
        """The name of the method; None of an evaluation alone."""
        return self.config and self.config["method"]["method"]

    @property
    def class_names(self):
        """The names of the classes, or their numbers; None if unknown."""
        return self.results.get("class_names")

    def outcomes(self, row):
        """Returns the `Outcomes` that a row of the results is from, or None.

        Args:
            row: Dict, an entry of `attacks` or `worst_case` in the results.
        """
        file = row.get("outcomes", "outcomes.npz")
        return _read_outcomes(self.path / file)

    def arrays(self, name):
        """Returns the arrays of the newest `gallery.npz` or `surface.npz`.

        Args:
            name: String, the name of the file.

        Returns:
            A dict of arrays; None if there is no such file.
        """
        raise NotImplementedError


def _read_json(path):
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            "A file of the run is expected as JSON; repair or remove it. "
            f"Received: path={path} ({error})"
        ) from error


@functools.lru_cache(maxsize=32)
def _read_outcomes(path):
    if not path.exists():
        return None
    with np.load(path) as file:
        known = {k: file[k] for k in Outcomes._fields if k in file}
    return Outcomes(**known)
