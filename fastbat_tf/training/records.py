"""Files with a row for each epoch: `history.csv` and `timing.csv`.

Epochs count from 1. Files of earlier versions count from 0, and some of their
columns have other names; they are read as if they were of today. This module
does not import TensorFlow.
"""

import csv
import io
import math
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from fastbat_tf.files import replacing

PERTURBED_ACCURACY, ACCURACY = "perturbed_accuracy", "accuracy"
# What runs of earlier versions have recorded, and its names now.
RENAMED = {
    "val_accuracy": "val_clean_accuracy",
    "val_averaged_accuracy": "val_averaged_clean_accuracy",
    **{
        name: f"robust_{name}"
        for name in (
            "abnormal_share",
            "convergence_sign",
            "divergence",
            "epsilon_share",
            "gradient_alignment",
            "gradient_norm",
            "implicit_cosine",
            "implicit_ratio",
            "interior_fraction",
            "linearity_error",
            "step_fraction",
        )
    },
}


def training_accuracy(has_attack: bool) -> str:
    """Returns the name of the accuracy on the images of the training.

    Args:
        has_attack: Boolean, whether the method perturbs these images.
    """
    return PERTURBED_ACCURACY if has_attack else ACCURACY


def current(name: str, has_attack: bool = True) -> str:
    """Returns today's name of a column that an earlier version recorded.

    Args:
        name: String, the recorded name.
        has_attack: Boolean; see `read`. Defaults to `True`.

    Example:

    >>> current("val_accuracy")
    'val_clean_accuracy'
    """
    if name == PERTURBED_ACCURACY:
        return training_accuracy(has_attack)
    return RENAMED.get(name, name)


def read(
    path: str | pathlib.Path, has_attack: bool = True
) -> list[dict[str, Any]]:
    """Reads the rows of a file of any version.

    Args:
        path: Path of the file. If there is none, it has no rows.
        has_attack: Boolean, whether the method of the run perturbs the images.
            Earlier versions named its accuracy the same in any case. Defaults
            to `True`.

    Returns:
        List of a dict for each epoch, with today's names. `epoch` is an
        integer, from 1; all other values are floats, or None where the file
        has none.
    """
    _, rows, _ = _load(pathlib.Path(path), has_attack)
    return [
        {
            name: int(text) if name == "epoch" else _number(text)
            for name, text in row.items()
        }
        for row in rows
    ]


def append(
    path: str | pathlib.Path, row: Mapping[str, Any], has_attack: bool = True
) -> None:
    """Appends a row to a file, and creates the file if there is none.

    A file of an earlier version, or one that lacks a column, is first replaced
    by one with the names and columns of today; in the earlier rows a new column
    is empty. A killed process leaves either the old file or the new one.

    Args:
        path: Path of the file.
        row: Dict of the values by column, `epoch` first.
        has_attack: Boolean; see `read`. Defaults to `True`.
    """
    path = pathlib.Path(path)
    names, rows, is_current = _load(path, has_attack)
    if is_current and set(names) >= set(row):
        with path.open("a", newline="") as file:
            csv.DictWriter(file, names).writerow(row)
        return
    order = [*row, *(name for name in names if name not in row)]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, order)
    writer.writeheader()
    writer.writerows([*rows, row])
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def _load(path, has_attack):
    """Reads a file.

    Returns:
        The names of its columns and the rows of text, both as of today, and
        whether the file itself is as of today.
    """
    if not path.exists():
        return [], [], False
    with path.open(newline="", errors="replace") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if _is_epoch(row.get("epoch"))]
        names = list(reader.fieldnames or ())
    if "epoch" not in names:  # Empty, or damaged.
        return [], [], False
    for row in rows:
        row.pop(None, None)  # What a damaged line has beyond its columns.
    # Only the first epoch tells the version.
    if not rows or int(rows[0]["epoch"]) > 0:
        return names, rows, True
    now = {name: current(name, has_attack) for name in names}
    rows = [{now[name]: text for name, text in row.items()} for row in rows]
    for row in rows:
        row["epoch"] = str(int(row["epoch"]) + 1)
    return list(now.values()), rows, False


def _is_epoch(text: str | None) -> bool:
    """Whether a line is a row; the last one of a killed process may not be."""
    return text is not None and text.isdecimal()


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def best_epoch(rows: Iterable[Mapping[str, Any]], column: str) -> int | None:
    """Returns the epoch with the highest value of a column, or None.

    Args:
        rows: What `read` returns.
        column: String. Of equal values, the first counts.
    """
    values = [
        (row[column], -row["epoch"])
        for row in rows
        if row.get(column) is not None and not math.isnan(row[column])
    ]
    return -max(values)[1] if values else None
