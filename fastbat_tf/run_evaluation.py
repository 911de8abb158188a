"""The story of an evaluation: which model, which data, what came of it."""

import dataclasses
import json
import pathlib
import zlib

from fastbat_tf import display, evaluation_table
from fastbat_tf.data import loading
from fastbat_tf.errors import InputError
from fastbat_tf.evaluation import evaluate_robustness
from fastbat_tf.preemption import Preemption
from fastbat_tf.run import load_best
from fastbat_tf.run_directory import RunDirectory, write_json


def evaluate(config, target, run_dir, build_model, verbosity=0):
    """Measures a run or a model on the test split, and prints a table.

    Everything goes to a directory of its own; the rows of a run go to its
    `results.json` too. The same call continues what was interrupted.

    Args:
        config: A `Config`, with the evaluation that is wanted.
        target: A `Target`.
        run_dir: Path of a run directory; None with `target.model_path`.
        build_model: As for `run.train`.
        verbosity: As for `run.train`.

    Returns:
        The dict of `results.json`.

    Raises:
        InputError: If something cannot be used.
    """
    with display.shown(verbosity), Preemption(tells=True) as preemption:
        with preemption.interruptible():
            results = _evaluate(config, target, run_dir, build_model)
        evaluation_table.show(results)
    return results


def _evaluate(config, target, run_dir, build_model):
    settings = config.evaluation
    directory = results_directory(config, target, run_dir)
    model = target.model_path
    if model is None:
        run = RunDirectory(run_dir)
        _read_story(run.results)  # Now, not after hours.
        with display.task("reading the weights"):
            model = load_best(run, config, build_model).classifier
    with display.task("reading the data"):
        test = loading.load_test(config.data)
    results = evaluate_robustness(
        model,
        test,
        settings.attacks,
        settings.epsilons,
        settings.norm,
        settings.max_examples,
        target.surrogate,
        settings.batch_size,
        settings.seed,
        config.runtime.compiles,
        directory,
        target.save_images,
        verbose=True,
    )
    if target.model_path is None:
        _add_rows(run.results, results)
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
    }
    digest = zlib.crc32(json.dumps(everything, sort_keys=True).encode())
    names = "_".join(settings.attacks)[:60]
    return parent / f"{names}-{digest:08x}"


def _read_story(path):
    """The run's `results.json`; a run that was cut short has none."""
    if not path.exists():
        return {}
    try:
        story = json.loads(path.read_text())
        if not isinstance(story, dict):
            raise ValueError("no object")
    except (OSError, ValueError) as error:
        raise InputError(
            "The run's results are expected as JSON; mend or remove the file. "
            f"Received: path={path} ({error})"
        ) from error
    return story


def _add_rows(path, results):
    """Adds to the run's results, in the place of older rows like the new."""
    story = _read_story(path)  # Again: another evaluation may have ended.

    def key(row):
        names = ("attack", "norm", "epsilon", "examples", "seed", "attacks")
        return [row.get(name) for name in names]

    merged = {}
    for group in ("attacks", "worst_case"):
        known = [key(row) for row in results[group]]
        older = [r for r in story.get(group, []) if key(r) not in known]
        merged[group] = older + results[group]
    for group in ("warnings", "notes"):
        before = story.get(group, [])
        new = [text for text in results[group] if text not in before]
        merged[group] = before + new
    write_json(path, {**results, **story, **merged})
