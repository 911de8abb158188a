"""The story of an evaluation: which model, which data, what came of it."""

import dataclasses
import json
import pathlib
import zlib

from fastbat_tf import files
from fastbat_tf.data import loading
from fastbat_tf.errors import InputError
from fastbat_tf.evaluation import table
from fastbat_tf.evaluation.robustness import evaluate_robustness
from fastbat_tf.experiment import results_file
from fastbat_tf.experiment.preemption import Preemption
from fastbat_tf.experiment.run_directory import RunDirectory
from fastbat_tf.experiment.train import load_best
from fastbat_tf.runtime import display, hints


def evaluate(config, target, run_dir, build_model, verbosity=0):
    """Measures a run or a model on the test split, and prints a table.

    Everything goes to a directory of its own; the rows of a run go to its
    `results.json` too. The same call continues what was interrupted. A run
    that is in training may be measured: the weights are the best so far.

    Args:
        config: A `Config`, with the evaluation that is wanted.
        target: A `Target`.
        run_dir: Path of a run directory; None with `target.model_path`.
        build_model: As for `train.train`.
        verbosity: As for `train.train`.

    Returns:
        The dict of `results.json`.

    Raises:
        InputError: If something cannot be used.
    """
    with display.shown(verbosity), Preemption(tells=True) as preemption:
        with preemption.interruptible():
            results = _evaluate(config, target, run_dir, build_model)
        table.show(results)
    return results


def _evaluate(config, target, run_dir, build_model):
    settings = config.evaluation
    directory = results_directory(config, target, run_dir)
    model = target.model_path
    if model is None:
        run = RunDirectory(run_dir)
        results_file.read(run.results)  # Now, not after hours.
        weights = _weights_of(run_dir)
        with display.task("reading the weights"):
            model = load_best(run, config, build_model).classifier
    with display.task("reading the data"):
        test = loading.load_test(config.data)
    for note in hints.new_hints():
        display.say(note)
    results = evaluate_robustness(
        model,
        test,
        settings.attacks,
        settings.epsilons,
        norm=settings.norm,
        max_examples=settings.max_examples,
        surrogate=target.surrogate,
        batch_size=settings.batch_size,
        seed=settings.seed,
        jit_compile=config.runtime.compiles,
        directory=directory,
        save_images=target.save_images,
        verbose=True,
    )
    if target.model_path is None:
        _add(run, {**results, "weights_sha256": weights})
    return results


def results_directory(config, target, run_dir):
    """Where the results go: one place for each combination of settings."""
    settings = config.evaluation
    if target.results_dir is not None:
        return pathlib.Path(target.results_dir)
    parent = pathlib.Path("." if run_dir is None else run_dir) / "evaluations"
    everything = {
        **dataclasses.asdict(settings),
        **dataclasses.asdict(target),
        "dataset": config.data.dataset,
        "data_dir": config.data.dataset == "folder" and config.data.data_dir,
        "image_size": config.data.image_size,
        "batch_size": None,  # Changes no outcome.
        "weights": None if target.model_path else _weights_of(run_dir),
    }
    digest = zlib.crc32(json.dumps(everything, sort_keys=True).encode())
    names = "_".join(settings.attacks)[:60]
    return parent / f"{names}-{digest:08x}"


def _weights_of(run_dir):
    """The checksum of the run's best weights, which a training exchanges."""
    try:
        return files.sha256(RunDirectory(run_dir).best)
    except OSError:  # `load_best` says what is wrong.
        return None


def _add(run, results):
    """Adds rows to the results of a run, unless it has better weights now."""
    if _weights_of(run.path) != results["weights_sha256"]:
        display.say(
            "The run has other weights by now: its results.json stays as it is."
        )
        return
    try:
        results_file.add(run.results, results)
    except OSError as error:
        raise InputError(
            "The run's results cannot be written; expected room on the disk, "
            f"and the right to write. Received: path={run.results} ({error})"
        ) from error
