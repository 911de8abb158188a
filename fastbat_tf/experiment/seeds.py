"""The same training with several seeds, and what comes of them."""

import pathlib
import statistics

import keras

from fastbat_tf.errors import InputError
from fastbat_tf.evaluation.table import radius
from fastbat_tf.experiment import train
from fastbat_tf.experiment.preemption import Preemption
from fastbat_tf.experiment.run_directory import (
    RunDirectory,
    of_seed,
    summary_of_seeds,
)
from fastbat_tf.files import write_json
from fastbat_tf.runtime import display

HEADINGS = ("attack", "epsilon", "mean", "sd", "each")


def train_each(config, seeds, run_dir, build_model, resume="auto", verbosity=0):
    """Trains once for each seed, and prints mean and standard deviation.

    The runs are `<run_dir>/seed-<seed>`; `<run_dir>/seeds.json` sums them up.
    The same command goes on where one was killed.

    Args:
        config: A `Config`; its seed does not count.
        seeds: Integers, two or more.
        run_dir: Path of a directory.
        build_model: As for `train.train`.
        resume: As for `train.train`.
        verbosity: As for `train.train`.

    Returns:
        The dict of `seeds.json`.

    Raises:
        InputError: As `train.train` does, or if the directory holds other runs.
        NonFiniteError: If a training diverges.
    """
    with display.shown(verbosity), Preemption(tells=True):
        _check(config, seeds, pathlib.Path(run_dir), resume)
        results = [
            _train_one(config, seed, number, len(seeds), run_dir, build_model)
            for number, seed in enumerate(seeds)
        ]
        summary = summarize(config, seeds, results)
        with train.refuse_unwritable(run_dir):
            write_json(summary_of_seeds(run_dir), summary)
        show(config, summary)
    return summary


def _train_one(config, seed, number, count, run_dir, build_model):
    # Names of layers count up in a process; each run begins with the same.
    keras.utils.clear_session()
    display.say(f"\nSeed {seed} ({number + 1} of {count})")
    return train.train(
        config.with_seed(seed),
        of_seed(run_dir, seed),
        build_model,
    )


def _check(config, seeds, parent, resume):
    """Refuses directories that cannot be used, before any training."""
    if RunDirectory(parent).config.exists():
        raise InputError(
            "`run_dir` holds a run of one seed; expected a new directory for "
            f"several. Received: run_dir={parent}"
        )
    names = (path.name.removeprefix("seed-") for path in parent.glob("seed-*"))
    others = {int(name) for name in names if name.isdigit()}
    begun = False
    for seed in sorted(others.union(seeds)):
        directory = RunDirectory(of_seed(parent, seed))
        holds_run = directory.config.exists()
        # Those behind a seed that was killed need not have begun.
        how = resume if holds_run else "auto"
        directory.check(config.with_seed(seed), how)
        directory.unlock()
        begun = begun or holds_run
    if resume == "must" and not begun:
        raise InputError(
            "`resume` is must, but there is no such run; expected the "
            f"directory of one. Received: run_dir={parent}"
        )


def summarize(config, seeds, results):
    """Mean and sample standard deviation of several evaluations.

    Args:
        config: The `Config` of the runs.
        seeds: Integers.
        results: Dicts of `results.json`, one for each seed.

    Returns:
        A dict of JSON's types: `seeds`, `examples`, and `rows`, one for the
        clean images and one for each attack and radius of the config.
    """
    rows = [_row("none (clean)", "", results, "clean_accuracy")]
    settings = config.evaluation
    for epsilon in settings.epsilons:
        for attack in settings.attacks:
            measured = [_find(each, attack, epsilon) for each in results]
            named = radius({"epsilon": epsilon, "norm": settings.norm})
            rows.append(_row(attack, named, measured, "robust_accuracy"))
    return {
        "method": config.method.method,
        "seeds": list(seeds),
        "examples": results[0]["examples"],
        "rows": rows,
    }


def _find(results, attack, epsilon):
    """What the training has measured; evaluations may have added others."""
    return next(
        row
        for row in results["attacks"]
        if (row["attack"], row["epsilon"]) == (attack, epsilon)
        and all(
            row[name] == results[name]
            for name in ("examples", "norm", "seed")
            if name in results
        )
    )


def _row(attack, epsilon, results, name):
    accuracies = [each[name] for each in results]
    return {
        "attack": attack,
        "epsilon": epsilon,
        "mean": statistics.mean(accuracies),
        "standard_deviation": statistics.stdev(accuracies),
        "accuracies": accuracies,
    }


def show(config, summary):
    """Prints the dict of `summarize` as a table."""
    display.result(f"\nmethod: {config.method.method}")
    display.table(_table(summary))
    seeds = ", ".join(map(str, summary["seeds"]))
    display.result(f"{summary['examples']} examples, seeds {seeds}.")


def _table(summary):
    rows = [HEADINGS]
    for row in summary["rows"]:
        rows.append(
            (
                row["attack"],
                row["epsilon"],
                f"{row['mean']:.2%}",
                f"{100 * row['standard_deviation']:.2f}",
                " ".join(f"{100 * value:.2f}" for value in row["accuracies"]),
            )
        )
    return rows
