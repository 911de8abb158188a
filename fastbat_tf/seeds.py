"""The same training with several seeds, and what comes of them."""

import statistics

import keras

from fastbat_tf import run
from fastbat_tf.evaluation_table import align, radius
from fastbat_tf.run_directory import of_seed, summary_of_seeds, write_json

HEADINGS = ("attack", "epsilon", "mean", "sd", "each")


def train(config, seeds, run_dir, build_model, resume="auto", verbosity=0):
    """Trains once for each seed, and prints mean and standard deviation.

    The runs are `<run_dir>/seed-<seed>`; `<run_dir>/seeds.json` sums them up.
    The same command goes on where one was killed.

    Args:
        config: A `Config`; its seed does not count.
        seeds: Integers, two or more.
        run_dir: Path of a directory.
        build_model: As for `run.train`.
        resume: As for `run.train`.
        verbosity: As for `run.train`.

    Returns:
        The dict of `seeds.json`.

    Raises:
        InputError: As `run.train` does.
        NonFiniteError: If a training diverges.
    """
    results = []
    for seed in seeds:
        keras.utils.clear_session()
        if verbosity >= 0:
            print(f"\nSeed {seed}", flush=True)
        results.append(
            run.train(
                config.with_seed(seed),
                of_seed(run_dir, seed),
                build_model,
                resume,
                verbosity,
            )
        )
        if resume == "must":  # Those behind it need not have begun.
            resume = "auto"
    summary = summarize(seeds, results)
    write_json(summary_of_seeds(run_dir), summary)
    print(f"\nmethod: {config.method.method}\n{format_summary(summary)}")
    return summary


def summarize(seeds, results):
    """Mean and sample standard deviation of several evaluations.

    Args:
        seeds: Integers.
        results: Dicts of `results.json`, one for each seed.

    Returns:
        A dict of JSON's types: `seeds`, `examples`, and `rows`, one for the
        clean images and one for each attack and radius.
    """
    columns = [_column("none (clean)", "", results, "clean_accuracy")]
    for attacks in zip(*(each["attacks"] for each in results), strict=True):
        first = attacks[0]
        columns.append(
            _column(first["attack"], radius(first), attacks, "robust_accuracy")
        )
    return {
        "seeds": list(seeds),
        "examples": results[0]["examples"],
        "rows": columns,
    }


def _column(attack, epsilon, results, name):
    accuracies = [each[name] for each in results]
    return {
        "attack": attack,
        "epsilon": epsilon,
        "mean": statistics.mean(accuracies),
        "standard_deviation": statistics.stdev(accuracies),
        "accuracies": accuracies,
    }


def format_summary(summary):
    """The dict of `summarize` as a table."""
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
    seeds = ", ".join(map(str, summary["seeds"]))
    return "\n".join(
        [*align(rows), f"{summary['examples']} examples, seeds {seeds}."]
    )
