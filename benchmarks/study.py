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
from absl import flags

from benchmarks import study_statistics
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

# Flags of main.py that all rows share, and their defaults.
PROTOCOL = {
    "dataset": "cifar10",
    "training_examples": "10000",
    "validation_examples": "1000",
    "model": "preact_resnet18",
    "width": "16",
    "epochs": "10",
    "batch_size": "128",
    "learning_rate": "0.2",
    "attacks": "pgd-50-10",
}


class Settings(NamedTuple):
    """What the flags of a study say.

    Attributes:
        protocol: Tuple of flags of `main.py` that all rows share.
        data_dir: The flag of `main.py`, or None.
        runs: Path of the directory of the runs.
        rows: List of patterns of names of rows.
        seeds: List of integers.
        strong_attack: The attack that is measured last, or an empty string.
        strong_examples: Integer, the images that it attacks.
        json: Path of the file of the numbers, or None.
        plot: Path of the plot, or None.
        keep_results: Directory to which each results.json is copied, or None.
        collect: Whether nothing is run.
        list: Whether only the names of the rows are printed.
    """

    protocol: tuple[str, ...]
    data_dir: str | None
    runs: pathlib.Path
    rows: list[str]
    seeds: list[int]
    strong_attack: str
    strong_examples: int
    json: str | None
    plot: str | None
    keep_results: str | None
    collect: bool
    list: bool


def define_flags(runs, values=flags.FLAGS):
    """Defines the flags of a study.

    Args:
        runs: The default of `--runs`.
        values: The `FlagValues`. Defaults to those of the program.
    """

    def string(name, default, text):
        flags.DEFINE_string(name, default, text, flag_values=values)

    def boolean(name, default, text):
        flags.DEFINE_bool(name, default, text, flag_values=values)

    for name, default in PROTOCOL.items():
        string(name, default, "The flag of main.py.")
    string("data_dir", None, "The flag of main.py.")
    boolean("deterministic", True, "The flag of main.py.")
    string("examples", "1000", "Size of the subset for --attacks.")
    string("strong_attack", "autoattack", "Measured last; may be empty.")
    string("strong_examples", "1000", "Size of the subset for it.")
    string("runs", runs, "Directory of the runs.")
    string("rows", "*", "Names of rows, by commas; * stands for any text.")
    string("seeds", "37", "Seeds, by commas; each trains all rows.")
    string("json", None, "File of the numbers.")
    string("plot", None, "File of the plot; needs matplotlib.")
    string("keep_results", None, "Directory of copies of each results.json.")
    boolean("collect", False, "Run nothing; show what has been measured.")
    boolean("list", False, "Only print the names of the rows.")


def read_flags(values=flags.FLAGS):
    """Returns the `Settings`; exits with a line if a flag is no integer.

    Args:
        values: The `FlagValues`. Defaults to those of the program.
    """
    protocol = [f"--{name}={values[name].value}" for name in PROTOCOL]
    protocol.append(f"--max_examples={values['examples'].value}")
    if values["deterministic"].value:
        protocol.append("--deterministic")
    names = set(Settings._fields) - {"protocol"}
    given = {name: values[name].value for name in names}
    return Settings(
        **given
        | {
            "protocol": tuple(protocol),
            "runs": pathlib.Path(given["runs"]).absolute(),
            "rows": given["rows"].split(","),
            "seeds": _integers("seeds", given["seeds"]),
            "strong_examples": _integers(
                "strong_examples", given["strong_examples"]
            )[0],
        }
    )


def _integers(name, text):
    try:
        return [int(each) for each in text.split(",")]
    except ValueError:
        sys.exit(
            f"error: `{name}` is expected to be of integers. "
            f"Received: {name}={text}"
        )


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
    _measure_alignment(run_dir)
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


def _measure_alignment(run_dir):
    """Measures the gradient alignment of the best weights, unless it is known.

    It is that of the class-balanced subset of the attacks, at the radius of the
    training.
    """
    file = run_dir / "alignment.json"
    if file.exists():
        return
    from fastbat_tf import models
    from fastbat_tf.data import loading
    from fastbat_tf.evaluation.alignment import GradientAlignment
    from fastbat_tf.experiment.building import load_best
    from fastbat_tf.experiment.config import Config
    from fastbat_tf.experiment.run_directory import RunDirectory

    directory = RunDirectory(run_dir)
    config = Config.from_dict(json.loads((run_dir / "config.json").read_text()))
    network = load_best(directory, config, models.get).network
    test = loading.load_test(config.data)
    index = _outcomes(run_dir / WEAK)["index"]
    score = GradientAlignment(network)(
        test.images[index],
        test.labels[index],
        config.method.options["epsilon"],
    )
    file.write_text(json.dumps({"alignment": score, "images": len(index)}))


def _outcomes(directory):
    """Returns the arrays of the `outcomes.npz` of an evaluation."""
    with np.load(directory / "outcomes.npz") as arrays:
        return dict(arrays)


def is_measured(run_dir):
    """Whether a run has all that a row shows."""
    files = ("results.json", "alignment.json", f"{WEAK}/outcomes.npz")
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
    for directory in (run_dir / WEAK, run_dir / STRONG):
        if (directory / "outcomes.npz").exists():
            outcomes = _outcomes(directory)
            names = outcomes["attack"].tolist()
            right.setdefault("clean", outcomes["clean_correct"])
            right |= dict(zip(names, outcomes["robust"], strict=True))
    config = json.loads((run_dir / "config.json").read_text())
    with (run_dir / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    alignment = json.loads((run_dir / "alignment.json").read_text())
    return {
        "seed": config["training"]["seed"],
        "commit": (run_dir / "commit.txt").read_text(),
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
        settings: The `Settings`.

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
        settings: The `Settings`.
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
