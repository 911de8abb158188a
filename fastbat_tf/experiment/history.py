"""Reads what a run has recorded for each epoch, without TensorFlow."""

import json
import pathlib
from typing import Any

from fastbat_tf.methods import METHODS
from fastbat_tf.training import records


def read(
    path: str | pathlib.Path, has_attack: bool | None = None
) -> list[dict[str, Any]]:
    """Reads a `history.csv` of any version.

    Args:
        path: Path of the file. If there is none, it has no rows.
        has_attack: Boolean, whether the method of the run perturbs the images.
            Defaults to `None`: that of the `config.json` beside the file, if
            there is one, else `True`.

    Returns:
        List of a dict for each epoch, with today's names of the columns.
        `epoch` is an integer, from 1; all other values are floats, or None
        where the file has none.

    Example:

    ```python
    from fastbat_tf.experiment import history

    rows = history.read("runs/demo/history.csv")
    rates = [row.get("learning_rate") for row in rows]
    ```
    """
    path = pathlib.Path(path)
    if has_attack is None:
        has_attack = _has_attack(path.with_name("config.json"))
    return records.read(path, has_attack)


def read_timing(path: str | pathlib.Path) -> list[dict[str, Any]]:
    """Reads a `timing.csv` of any version; see `read`."""
    return records.read(path)


def best_epoch(
    rows: list[dict[str, Any]], results: dict[str, Any]
) -> int | None:
    """Returns the epoch of the best weights, counted from 1.

    Args:
        rows: What `read` returns.
        results: What `results.json` holds. Those of an earlier version do not
            have `best_epoch`, but name the column that decided.

    Returns:
        Integer, or None if it is not known.
    """
    if results.get("best_epoch") is not None:
        return results["best_epoch"]
    best, _, column = results.get("weights", "").partition(" ")
    if best != "best":
        return None
    return records.best_epoch(rows, records.current(column))


def _has_attack(path):
    """Whether the method of a `config.json` has an attack; True if unknown.

    The settings are not checked, because the data may be somewhere else now.
    """
    try:
        method = json.loads(path.read_text())["method"]
        name, options = method["method"], method["options"]
    except (LookupError, OSError, TypeError, ValueError):
        return True
    return METHODS[name].has_attack if name in METHODS else bool(options)
