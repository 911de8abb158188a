"""Trains with several seeds, and summarizes the results."""

import pathlib
import statistics

import keras

from fastbat_tf import workers
from fastbat_tf.errors import InputError
from fastbat_tf.evaluation.table import radius
from fastbat_tf.experiment import launch, settings_table, train
from fastbat_tf.experiment.preemption import Preemption
from fastbat_tf.experiment.report.request import write_at_end
from fastbat_tf.experiment.run_directory import (
    RunDirectory,
    seed_directory,
    seeds_summary,
)
from fastbat_tf.files import write_json
from fastbat_tf.runtime import display

HEADINGS = ("attack", "epsilon", "mean", "sd", "each")


def train_each(
    config,
    seeds,
    run_dir,
    build_model,
    *,
    resume="auto",
    verbosity=0,
    command=None,
):
    """Trains once with each seed, and prints mean and standard deviation.

    The runs are `<run_dir>/seed-<seed>`; `<run_dir>/seeds.json` summarizes
    them. After an interruption, the same call resumes.

    Args:
        config: A `Config`; its seed is ignored.
        seeds: Integers, two or more.
        run_dir: Path of a directory.
        build_model: Function that builds the network; see
            `fastbat_tf.experiment.building.build_robust`.
        resume: `"auto"`, `"never"` or `"must"`; see `train.train`. Defaults to
            `"auto"`.
        verbosity: Integer; see `train.train`. Defaults to `0`.
        command: Function from a seed to the command line that trains with it
            alone, which a new run records. Defaults to `None`.

    Returns:
        The dict of `seeds.json`.

    Raises:
        InputError: If something cannot be used, or the directory holds other
            runs.
        NonFiniteError: If a training diverges.
    """
    everyone = workers.of(launch.start(config))
    if not everyone.is_chief:
        verbosity = -1
    with (
        display.shown(verbosity),
        Preemption(tells=True),
        launch.refuse_lost(everyone),
    ):
        everyone.on_chief(
            lambda: _check(config, seeds, pathlib.Path(run_dir), resume)
        )
        told = settings_table.of_training(config, seeds)
        settings_table.show(told, config.data.classes)
        results = []
        for number, seed in enumerate(seeds, start=1):
            # Keras numbers layer names per process; each run starts anew.
            keras.utils.clear_session()
            display.say(f"\nSeed {seed} ({number} of {len(seeds)})")
            path = seed_directory(run_dir, seed)
            seed_config = config.with_seed(seed)
            recorded = command(seed) if command else None
            results.append(
                train.train(
                    seed_config,
                    path,
                    build_model,
                    tells_settings=False,
                    command=recorded,
                )
            )
        summary = summarize(config, seeds, results)
        if everyone.is_chief:
            with train.refuse_unwritable(run_dir):
                write_json(seeds_summary(run_dir), summary)
            show(config, summary)
            write_at_end(run_dir)
    return summary


def _check(config, seeds, parent, resume):
    """Rejects directories that cannot be used, before any training."""
    if RunDirectory(parent).config.exists():
        raise InputError(
            "`run_dir` holds a run of one seed; expected a new directory for "
            f"several. Received: run_dir={parent}"
        )
    names = (path.name.removeprefix("seed-") for path in parent.glob("seed-*"))
    others = {int(name) for name in names if name.isdigit()}
    begun = False
    for seed in sorted(others.union(seeds)):
        directory = RunDirectory(seed_directory(parent, seed))
        holds_run = directory.config.exists()
        # If a run was killed, the runs of later seeds do not exist yet.
        directory.check(config.with_seed(seed), resume if holds_run else "auto")
        directory.unlock()
        begun = begun or holds_run
    if resume == "must" and not begun:
        raise InputError(
            "`resume` is must, but there is no such run; expected the "
            f"directory of one. Received: run_dir={parent}"
        )


def summarize(config, seeds, results):
    """Computes mean and sample standard deviation over the seeds.

    Args:
        config: The `Config` of the runs.
        seeds: Integers.
        results: List of the dicts of `results.json`, one for each seed.

    Returns:
        A dict of JSON's types: `method`, `seeds`, `examples`, and `rows`: one
        for the clean images, and one for each attack and radius of the config.
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
    """Finds the row of the training; evaluations may have added others."""
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
