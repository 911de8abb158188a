"""Measures the robustness of a run, or of a model file."""

import dataclasses
import json
import pathlib
import zlib

from fastbat_tf import files, workers
from fastbat_tf.attacks.surrogates import as_surrogates
from fastbat_tf.data import loading
from fastbat_tf.data.class_names import class_names
from fastbat_tf.errors import InputError
from fastbat_tf.evaluation import corruptions, table
from fastbat_tf.evaluation.robustness import evaluate_robustness
from fastbat_tf.experiment import (
    differences,
    export,
    launch,
    results_file,
    settings_table,
    tensorboard,
)
from fastbat_tf.experiment.building import load_best
from fastbat_tf.experiment.preemption import Preemption
from fastbat_tf.experiment.report.request import write_at_end
from fastbat_tf.experiment.run_directory import RunDirectory
from fastbat_tf.runtime import display, hints
from fastbat_tf.saving import model_files


def evaluate(config, target, run_dir, build_model, verbosity=0):
    """Measures a run or a model on the test split, and prints a table.

    Everything is written to a directory of its own; the rows of a run are also
    added to its `results.json`. The same call resumes an interrupted
    measurement. A run may be measured while it trains: its weights are the
    best so far. All workers of `--strategy=multiworker` call this, and share
    the examples; the chief alone reads the weights of a run, writes and prints.

    Args:
        config: A `Config`, whose `evaluation` says what is measured.
        target: A `Target`.
        run_dir: Path of a run directory, or None with `target.model_path`.
        build_model: Function that builds the network; see
            `fastbat_tf.experiment.building.build_robust`.
        verbosity: Integer. Below 0: only the results; 0: also bars and lines
            of progress; above 0: more lines. Defaults to `0`.

    Returns:
        The dict of `results.json`.

    Raises:
        InputError: If something cannot be used.
        WorkerLostError: If another worker does not come up, or ends.
    """
    # Before all else: TensorFlow's own handler of SIGTERM would replace ours.
    strategy = launch.start(config)
    everyone = workers.of(strategy)
    if not everyone.is_chief:
        verbosity = -1
    with display.shown(verbosity), Preemption(tells=True) as preemption:
        with (
            launch.refuse_lost(everyone),
            preemption.interruptible(),
            strategy.scope(),
        ):
            launch.agree_on_program(everyone, config)
            told = settings_table.of_evaluation(config, target, run_dir)
            settings_table.show(told, always=settings_table.MEASURED)
            results = _evaluate(config, target, run_dir, build_model, everyone)
        if everyone.is_chief:
            table.show(results)
            write_at_end(run_dir or results_directory(config, target, run_dir))
    return results


def _evaluate(config, target, run_dir, build_model, everyone):
    settings = config.evaluation
    directory = everyone.on_chief(
        lambda: str(results_directory(config, target, run_dir))
    )
    model, surrogate = target.model_path, target.surrogate
    for path in filter(None, (model, *as_surrogates(surrogate))):
        # Before the data are read.
        model_files.check(path, allow_code=target.allow_code)
    if target.corruptions_dir is not None:
        corruptions.open_files(target.corruptions_dir)
    if model is None:
        run = RunDirectory(run_dir)
        # Fails now, not after hours.
        everyone.on_chief(lambda: results_file.read(run.results))
        weights = everyone.on_chief(lambda: _weights_checksum(run_dir))
        with display.task("reading the weights"):
            model = load_best(run, config, build_model, everyone).classifier
    loading.import_libraries(config.data)
    with display.task("reading the data"):
        test = loading.load_test(config.data)
        names = class_names(config.data)
    for hint in hints.new_hints():
        display.note(hint)
    corrupted = _measure_corruptions(config, target, model)
    results = evaluate_robustness(
        model,
        test,
        attacks=settings.attacks,
        epsilons=settings.epsilons,
        norm=settings.norm,
        max_examples=settings.max_examples,
        surrogate=surrogate,
        batch_size=settings.batch_size,
        seed=settings.seed,
        jit_compile=config.runtime.compiles,
        directory=directory,
        save_images=target.save_images,
        verbose=True,
        class_names=names,
        loss_surface=settings.loss_surface,
        distances=settings.distances,
        allow_code=target.allow_code,
    )
    results |= corrupted
    if target.model_path is not None:
        # No run says which images these are.
        results["data"] = flags_of_data(config)
    if target.model_path is not None or corrupted:
        everyone.on_chief(lambda: results_file.write(directory, results))
    if target.model_path is None:
        added = results_file.with_outcomes(results, run.path, directory)
        added["weights_sha256"] = weights
        everyone.on_chief(lambda: _add(run, added))
        everyone.on_chief(lambda: _renew_cards(config, model, run))
    return results


def _measure_corruptions(config, target, model):
    """Returns what `results.json` has of corruptions: `{}` without any."""
    if target.corruptions_dir is None:
        return {}
    settings = config.evaluation
    found = corruptions.evaluate_corruptions(
        model,
        target.corruptions_dir,
        max_examples=settings.max_examples,
        batch_size=settings.batch_size,
        seed=settings.seed,
        verbose=True,
        allow_code=target.allow_code,
    )
    return {"corruptions": found}


def results_directory(config, target, run_dir):
    """Returns the directory of the results, which the settings decide."""
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
        "batch_size": None,  # Does not change the outcome.
        "weights": None if target.model_path else _weights_checksum(run_dir),
    }
    # Earlier versions did not have them, and they change no outcome.
    del everything["validation_norm"], everything["loss_surface"]
    for name in ("allow_code", "corruptions_dir", "distances"):
        del everything[name]
    digest = zlib.crc32(json.dumps(everything, sort_keys=True).encode())
    names = "_".join(settings.attacks)[:60]
    return parent / f"{names}-{digest:08x}"


def flags_of_data(config):
    """Returns a dict from flags of the data to values, as one types them."""
    known = differences.names(config)["data"]
    found = differences.differing(config)
    others = {name: found[name] for name in known if name in found}
    return {"dataset": config.data.dataset, **others}


def _weights_checksum(run_dir):
    """Returns the checksum of a run's best weights, or None without any."""
    try:
        return files.sha256(RunDirectory(run_dir).best)
    except OSError:  # `load_best` says what is wrong.
        return None


def _add(run, results):
    """Adds rows to a run's results, unless its weights have changed."""
    if _weights_checksum(run.path) != results["weights_sha256"]:
        display.warn(
            "The run's weights have changed since: its results.json is left "
            "as it is."
        )
        return
    try:
        story = results_file.add(run.results, results)
        # A training writes what it measures at its end.
        if run.is_left_alone():
            tensorboard.write_results(
                run.load_config(), run, story, has_ended=run.has_ended
            )
    except OSError as error:
        raise InputError(
            "The run's results cannot be written; check free space and "
            f"permissions. Received: path={run.results} ({error})"
        ) from error


def _renew_cards(config, classifier, run):
    """Writes the new results to the model cards of the run's exports."""
    try:
        export.renew_cards(config, classifier, run)
    except (InputError, OSError) as error:  # The results are safe.
        reason = " ".join(str(error).split())
        display.warn(f"A model card is left as it was: {reason}")
