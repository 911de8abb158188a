"""Reads and extends the `results.json` of a run."""

import contextlib
import json
import os
import pathlib

from fastbat_tf import files
from fastbat_tf.errors import InputError

GROUPS = ("attacks", "worst_case", "distances")  # The last one need not be.
TEXTS = ("warnings", "notes")
LATEST = ("corruptions",)  # The newest ones replace what was there.
SECONDS_TO_ADD = 60.0  # Another process holds the lock for milliseconds.


def read(path):
    """Reads a run's `results.json`; returns `{}` if there is none yet.

    Raises:
        InputError: If the file cannot be read.
    """
    if not path.exists():
        return {}
    try:
        story = json.loads(path.read_text())
        if not isinstance(story, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise InputError(
            "The run's results are expected as JSON; repair or remove the "
            "file. "
            f"Received: path={path} ({error})"
        ) from error
    return story


def write(directory, results):
    """Writes the `results.json` of an evaluation alone.

    Raises:
        InputError: If the file cannot be written.
    """
    path = pathlib.Path(directory, "results.json")
    try:
        files.write_json(path, results)
    except OSError as error:
        raise InputError(
            "The results cannot be written; check free space and permissions. "
            f"Received: path={path} ({error})"
        ) from error


def with_outcomes(results, run_dir, directory):
    """Adds to each row where its outcomes are, relative to the run.

    Args:
        results: The dict that `evaluate_robustness` returns.
        run_dir: Path of the run directory.
        directory: Path of the directory of the evaluation.

    Returns:
        A dict like `results`, whose rows have an entry `outcomes`.
    """
    file = pathlib.Path(directory, "outcomes.npz")
    with contextlib.suppress(ValueError):  # On another drive of Windows.
        file = pathlib.Path(os.path.relpath(file, run_dir))
    path = file.as_posix()
    rows = {
        group: [{**row, "outcomes": path} for row in results[group]]
        for group in GROUPS
        if group in results
    }
    return {**results, **rows}


def add(path, results, of_training=False):
    """Adds to a run's results; new rows replace old ones of the same kind.

    Rows that were measured on other weights, as `weights_sha256` says, are
    removed. Several processes may add at the same time: they take turns.

    Args:
        path: Path of the file.
        results: The dict that `evaluate_robustness` returns, with
            `weights_sha256`, the checksum of the weights file.
        of_training: Boolean, whether this is the measurement at the end of the
            training, whose rows come before the others. Defaults to `False`.

    Returns:
        The dict that was written.

    Raises:
        InputError: If the file cannot be read.
        OSError: If it cannot be written.
    """
    with files.locked(path.with_name(f".{path.name}.lock"), SECONDS_TO_ADD):
        story = read(path)
        weights = story.get("weights_sha256")
        if weights is None and not of_training:
            weights = results.get("weights_sha256")  # An older file.
        if weights != results.get("weights_sha256"):
            story = {}
        story = _merge(story, results, of_training)
        files.write_json(path, story)
    return story


def _merge(story, results, of_training):
    merged = {**results, **story}
    if of_training:
        merged = {**story, **results}
    for group in GROUPS:
        if group not in merged:
            continue
        new = results.get(group, [])
        known = [_key(row) for row in new]
        older = [r for r in story.get(group, []) if _key(r) not in known]
        merged[group] = new + older if of_training else older + new
    for group in TEXTS:
        texts = [story.get(group, []), results[group]]
        if of_training:
            texts.reverse()
        merged[group] = list(dict.fromkeys(sum(texts, [])))
    merged |= {name: results[name] for name in LATEST if name in results}
    return merged


def _key(row):
    names = ("attack", "norm", "epsilon", "examples", "seed", "attacks")
    return [row.get(name) for name in names]
