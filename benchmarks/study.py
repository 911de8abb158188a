"""Trains and measures the rows of a study, and compares them.

A study is a table of rows. Each row adds flags to a protocol that all share,
and is compared with a base row, for each seed and image. Rows run one after
another through `main.py`, which resumes what was interrupted and repeats
nothing that is done.
"""

import csv
import fnmatch
import json
import pathlib
import subprocess
import sys
from typing import NamedTuple

import numpy as np

from benchmarks import study_network, study_statistics
from benchmarks.shared import TOP, run_main

# Directories of a run with what became of each image.
WEAK, STRONG = "evaluations/training", "strong"
# Columns of history.csv, under the names of the JSON file.
CURVES = {
    "implicit_ratio": "robust_implicit_ratio",
    "implicit_ratio_unclipped": "robust_implicit_ratio_unclipped",
    "implicit_cosine": "robust_implicit_cosine",
    "interior_fraction": "robust_interior_fraction",
    "step_size": "robust_step_size",
    "perturbed_accuracy": "perturbed_accuracy",
    "val_clean_accuracy": "val_clean_accuracy",
    "val_robust_accuracy": "val_robust_accuracy",
}


class Row(NamedTuple):
    """A training of a study.

    Attributes:
        name: The name, unique in the study.
        flags: Tuple of flags of `main.py`.
        base: Name of the row with which it is compared.
    """

    name: str
    flags: tuple[str, ...]
    base: str


def choose(rows, patterns):
    """Returns the rows whose names match one of the patterns.

    Exits with a line if a pattern matches none.

    Args:
        rows: List of `Row`s.
        patterns: List of strings; `*` stands for any text.
    """
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(row.name, pattern) for row in rows):
            sys.exit(
                "error: `rows` are expected to match names that --list prints. "
                f"Received: rows={pattern}"
            )
    return [
        row
        for row in rows
        if any(fnmatch.fnmatchcase(row.name, pattern) for pattern in patterns)
    ]


def run_directory(row, seed, settings):
    """Returns the path of the run of a row and a seed."""
    return settings.runs / f"{row.name}-seed-{seed}"


def make(row, seed, settings):
    """Trains and measures a row, or goes on with it."""
    run_dir = run_directory(row, seed, settings)
    data_dir = [f"--data_dir={settings.data_dir}"] if settings.data_dir else []
    run_main(
        "--method=fastbat",
        *settings.protocol,
        *row.flags,
        f"--seed={seed}",
        *data_dir,
        f"--run_dir={run_dir}",
    )
    _remember_commit(run_dir / "commit.txt")
    study_network.measure(run_dir)
    if settings.strong_attack:
        run_main(
            "--mode=evaluate",
            f"--run_dir={run_dir}",
            *data_dir,
            f"--attacks={settings.strong_attack}",
            f"--max_examples={settings.strong_examples}",
            f"--results_dir={run_dir / STRONG}",
        )


def _remember_commit(file):
    """Writes which version of the program trained, unless it is known."""
    if file.exists():
        return
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=TOP,
        capture_output=True,
        text=True,
    )
    file.write_text(found.stdout.strip() or "unknown")


def _outcomes(directory):
    """Returns the arrays of the `outcomes.npz` of an evaluation."""
    with np.load(directory / "outcomes.npz") as arrays:
        return dict(arrays)


def is_measured(run_dir):
    """Whether a run has all that a row shows."""
    files = ("results.json", study_network.ALIGNMENT, f"{WEAK}/outcomes.npz")
    return all((run_dir / file).exists() for file in files)


def read(run_dir):
    """Reads what a run has measured.

    Args:
        run_dir: Path of a run that `is_measured`.

    Returns:
        Dict of what the JSON file has for each seed, and dict from `"clean"`
        and the names of the attacks to bool arrays `(images,)`.
    """
    results = json.loads((run_dir / "results.json").read_text())
    right = {}
    last = _outcomes(run_dir / study_network.DIRECTORY)
    right["last: clean"] = last["clean_correct"]
    right["last: " + str(last["attack"][0])] = last["robust"][0]
    for directory in (run_dir / WEAK, run_dir / STRONG):
        if (directory / "outcomes.npz").exists():
            outcomes = _outcomes(directory)
            names = outcomes["attack"].tolist()
            right.setdefault("clean", outcomes["clean_correct"])
            right |= dict(zip(names, outcomes["robust"], strict=True))
    config = json.loads((run_dir / "config.json").read_text())
    with (run_dir / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    alignment = json.loads((run_dir / study_network.ALIGNMENT).read_text())
    return {
        "seed": config["training"]["seed"],
        "commit": (run_dir / "commit.txt").read_text().strip(),
        "device": config["environment"]["device"],
        "training_seconds": results["training_seconds"],
        "best_epoch": results["best_epoch"],
        "accuracy": {name: float(each.mean()) for name, each in right.items()},
        "alignment": alignment["alignment"],
        "history": {
            name: [float(epoch[column]) for epoch in history]
            for name, column in CURVES.items()
            if column in history[0]
        },
    }, right


def collect(rows, settings):
    """Reads all rows that have been measured, and compares them.

    Args:
        rows: List of `Row`s.
        settings: The `benchmarks.study_settings.Settings`.

    Returns:
        List of dicts, one a row, as in the JSON file.
    """
    found = {}
    for row in rows:
        measured = {
            seed: read(run_directory(row, seed, settings))
            for seed in settings.seeds
            if is_measured(run_directory(row, seed, settings))
        }
        if measured:
            found[row.name] = measured
    return [_collected(row, found) for row in rows if row.name in found]


def _collected(row, found):
    mine, base = found[row.name], found.get(row.base, {})
    common = [seed for seed in mine if seed in base]
    accuracy, differences = {}, {}
    for name in _measures(mine.values()):
        right = np.stack([each[name] for _, each in mine.values()])
        value, interval = study_statistics.accuracy_interval(right)
        accuracy[name] = {
            "value": value,
            "interval": interval,
            "images": right.shape[1],
        }
        shared = [base[seed] for seed in common]
        if row.name == row.base or name not in _measures(shared):
            continue
        differences[name] = study_statistics.difference(
            np.stack([mine[seed][1][name] for seed in common]),
            np.stack([base[seed][1][name] for seed in common]),
        )._asdict()
    return {
        "row": row.name,
        "flags": list(row.flags),
        "base": row.base,
        "accuracy": accuracy,
        "difference": differences,
        "seeds": [numbers for numbers, _ in mine.values()],
    }


def _measures(measured):
    """Returns the names of what all runs of a row have measured."""
    arrays = [right for _, right in measured]
    first = arrays[0] if arrays else {}
    return [name for name in first if all(name in each for each in arrays)]


def write(rows, command, settings):
    """Writes the JSON file and the copies of results.json, if asked to.

    Args:
        rows: What `collect` returns.
        command: The command that repeats the study.
        settings: The `benchmarks.study_settings.Settings`.
    """
    if settings.json:
        whole = {"command": command, "rows": rows}
        text = json.dumps(whole, indent=1) + "\n"
        pathlib.Path(settings.json).write_text(text)
    if settings.keep_results:
        kept = pathlib.Path(settings.keep_results)
        kept.mkdir(parents=True, exist_ok=True)
        for row in rows:
            for numbers in row["seeds"]:
                name = f"{row['row']}-seed-{numbers['seed']}"
                source = settings.runs / name / "results.json"
                (kept / f"{name}.json").write_text(source.read_text())
