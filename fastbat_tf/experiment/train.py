"""Trains a run, measures how robust it is, and exports it."""

import contextlib
import functools
import shutil
import time

import keras

from fastbat_tf import attacks, distribution, files, workers
from fastbat_tf.attacks.targets import check_targets
from fastbat_tf.data import pipeline, sources
from fastbat_tf.data.class_names import class_names
from fastbat_tf.data.resident import ResidentBatches
from fastbat_tf.errors import InputError
from fastbat_tf.evaluation import robustness, table
from fastbat_tf.experiment import (
    building,
    callbacks,
    history,
    launch,
    loop,
    notes,
    reading,
    remembered,
    results_file,
    settings_table,
    tensorboard,
)
from fastbat_tf.experiment.backup import Backup
from fastbat_tf.experiment.checkpointer import Checkpointer, Interval
from fastbat_tf.experiment.export import export_best
from fastbat_tf.experiment.preemption import Preemption
from fastbat_tf.experiment.report.request import write_at_end
from fastbat_tf.experiment.run_directory import RunDirectory
from fastbat_tf.runtime import display, formatting, hardware, hints
from fastbat_tf.saving.earlier_weights import load_weights
from fastbat_tf.training import variables


def train(
    config,
    run_dir,
    build_model,
    *,
    resume="auto",
    verbosity=0,
    tells_settings=True,
    command=None,
):
    """Trains, measures the best weights, exports them, and prints a table.

    A run that was killed, at any point, resumes from its last checkpoint. All
    workers of a training on several hosts call this; the chief alone reads and
    writes the directory, and prints.

    Args:
        config: A `Config`.
        run_dir: Path of a new directory, or of this run's.
        build_model: Function that builds the network; see
            `fastbat_tf.experiment.building.build_robust`.
        resume: What to do if the directory holds this run: `"auto"` and
            `"must"` resume it, and `"never"` rejects it. If it does not hold
            this run, `"must"` rejects it. Defaults to `"auto"`.
        verbosity: Integer. Below 0: only the results; 0: also bars on a
            terminal, and a line for each epoch and stage; above 0: more
            lines. Defaults to `0`.
        tells_settings: Boolean, whether the settings are printed. Defaults to
            `True`.
        command: String, the command line, which a new run records. Defaults to
            `None`.

    Returns:
        The dict of `results.json`.

    Raises:
        InputError: If something cannot be used; if possible, before anything
            is written.
        NonFiniteError: If the training diverges.
        WorkerLostError: If another worker does not come up, or ends.
    """
    # Before all else: TensorFlow's own handler of SIGTERM would replace ours.
    strategy = launch.start(config)
    everyone = workers.of(strategy)
    if not everyone.is_chief:
        verbosity = -1
    with display.shown(verbosity), Preemption(tells=True) as preemption:
        directory = RunDirectory(run_dir)
        try:
            with (
                launch.refuse_lost(everyone),
                refuse_unwritable(run_dir),
                preemption.interruptible(),
            ):
                return _train(
                    config,
                    directory,
                    settings_table.of_training(config)
                    if tells_settings
                    else (),
                    strategy=strategy,
                    build_model=build_model,
                    resume=resume,
                    preemption=preemption,
                    command=command,
                )
        finally:
            directory.unlock()


@contextlib.contextmanager
def refuse_unwritable(run_dir):
    """Turns the errors of a full or read-only disk into an `InputError`."""
    try:
        yield
    except OSError as error:
        raise InputError(
            "The run cannot be written; check free space and permissions. The "
            f"last checkpoint is intact. Received: run_dir={run_dir} ({error})"
        ) from error


def _train(
    config,
    directory,
    told,
    *,
    strategy,
    build_model,
    resume,
    preemption,
    command,
):
    start = time.perf_counter()
    everyone = workers.of(strategy)
    launch.agree_on_program(everyone, config)
    attacks.check_surrogate(config.evaluation.attacks, None)
    measured = (*config.evaluation.attacks, config.evaluation.validation_attack)
    check_targets(measured, config.data.spec.num_classes)
    distribution.check_batch_size(config.training.batch_size, strategy)
    if everyone.on_chief(lambda: _is_finished(config, directory, resume)):
        return _show_finished(config, directory, everyone)
    splits, validation = reading.read_data(config)
    launch.agree_on_data(everyone, splits)
    keras.utils.set_random_seed(config.training.seed)
    hinted = hints.new_hints()  # Before `compile` warns about them.
    with strategy.scope():
        robust, steps_per_epoch = _build(
            config, build_model, splits.train, everyone
        )
    environment = hardware.describe(strategy, robust.compiles_step)
    everyone.on_chief(lambda: directory.create(config, command, environment))
    if told:
        settings_table.show(told, config.data.classes)
    notes.show(config, robust, hinted)
    run_callbacks = callbacks.build(
        config,
        robust,
        validation,
        directory,
        class_names=class_names(config.data),
    )
    trained = _fit(
        config,
        directory,
        robust=robust,
        examples=splits.train,
        steps_per_epoch=steps_per_epoch,
        run_callbacks=run_callbacks,
        preemption=preemption,
    )
    if trained and everyone.is_chief:
        # An earlier evaluation measured other weights.
        shutil.rmtree(directory.evaluations / "training", ignore_errors=True)
    everyone.on_chief(lambda: load_weights(robust, directory.best))
    variables.take_from_chief(robust.variables, everyone)
    results = _measure(
        config,
        directory,
        robust=robust,
        test=splits.test,
        run_callbacks=run_callbacks,
    )
    everyone.on_chief(
        lambda: _finish(config, robust, directory, build_model, everyone)
    )
    if not everyone.is_chief:
        return results
    _show(config, results)
    display.say(f"time: {formatting.duration(time.perf_counter() - start)}")
    display.say(f"Run directory: {directory.path}")
    write_at_end(directory.path)
    return results


def _is_finished(config, directory, resume):
    return directory.check(config, resume) and directory.has_ended


def _show_finished(config, directory, everyone):
    """Shows the results of a run that has nothing left to do."""
    results = everyone.on_chief(lambda: results_file.read(directory.results))
    if everyone.is_chief:
        _show(config, results)
    display.say(f"This run is finished: {directory.path}")
    if everyone.is_chief and not directory.has_report:
        write_at_end(directory.path)  # It was killed while it wrote this.
    return results


def _finish(config, robust, directory, build_model, everyone):
    """Exports the best weights, and marks the run as ended."""
    if everyone.count > 1:
        # What the replicas of several workers share can be read by all of them
        # together only, so the chief exports a network of its own.
        robust = building.load_best(directory, config, build_model)
    export_best(config, robust, directory, is_ending=True)
    directory.end()


def _build(config, build_model, examples, everyone):
    """Returns the compiled `RobustClassifier`, and the steps per epoch."""
    robust = building.build_initial(config, build_model, everyone)
    steps_per_epoch = pipeline.batches_per_epoch(
        examples, config.training.batch_size, robust.method.remembers_examples
    )
    remembered.expect_memory(robust, examples.size, config.training.batch_size)
    building.compile_robust(
        config, robust, steps_per_epoch, examples=examples.size
    )
    return robust, steps_per_epoch


def _fit(
    config,
    directory,
    *,
    robust,
    examples,
    steps_per_epoch,
    run_callbacks,
    preemption,
):
    """Trains to the end; returns whether there was anything left to do."""
    training = config.training
    settings = {
        "augmentation": config.data.augmentation,
        "with_index": robust.method.remembers_examples,
        "mixed_classes": config.data.mixed_classes,
    }
    make_batches = functools.partial(
        _make_batches,
        examples,
        training,
        rows=_rows(training.batch_size, robust.distribute_strategy),
        **settings,
    )
    resident = None
    if isinstance(examples, sources.Examples):
        resident = ResidentBatches(
            examples,
            training.batch_size,
            training.seed,
            **settings,
        )
    checkpointer = Checkpointer(
        robust,
        Backup(directory.backup, directory.path, directory.growing),
        Interval(config.runtime.save_every),
        run_callbacks.checkpointed,
    )
    with sources.refuse_broken(examples):
        return loop.fit(
            robust,
            make_batches,
            epochs=robust.plan.epochs,
            steps_per_epoch=steps_per_epoch,
            validations=run_callbacks.validations,
            callbacks=run_callbacks.others,
            checkpointer=checkpointer,
            preemption=preemption,
            steps_per_execution=config.runtime.steps_per_execution,
            resident=resident,
        )


def _rows(batch_size, strategy):
    """The rows of each batch that this worker trains on; None of one worker."""
    everyone = workers.of(strategy)
    if everyone.count == 1:
        return None
    size = batch_size // everyone.count
    return range(size * everyone.index, size * (everyone.index + 1))


def _make_batches(examples, training, skipped, **settings):
    return pipeline.training_batches(
        examples,
        training.batch_size,
        training.seed,
        first_batch=skipped,
        **settings,
    )


def _measure(config, directory, *, robust, test, run_callbacks):
    """Measures the best weights, and writes `results.json`."""
    settings = config.evaluation
    evaluation = directory.evaluations / "training"
    display.log(f"Measuring {', '.join(settings.attacks)} ...")
    measured = robustness.evaluate_robustness(
        robust.classifier,
        test,
        attacks=settings.attacks,
        epsilons=settings.epsilons,
        norm=settings.norm,
        max_examples=settings.max_examples,
        batch_size=settings.batch_size,
        seed=settings.seed,
        jit_compile=building.compiles_with_xla(config),
        directory=evaluation,
        verbose=True,
        class_names=class_names(config.data),
        loss_surface=settings.loss_surface,
        distances=settings.distances,
    )

    best = run_callbacks.best

    def add():
        results = {
            **results_file.with_outcomes(measured, directory.path, evaluation),
            "weights": f"best {best.column}",
            "best_epoch": best.epoch,
            "weights_sha256": files.sha256(directory.best),
            "training_seconds": round(run_callbacks.timing.total(), 1),
        }
        # Checkpoints of an earlier version do not know it.
        rows = history.read(directory.history)
        results["best_epoch"] = history.best_epoch(rows, results)
        story = results_file.add(directory.results, results, of_training=True)
        tensorboard.write_results(config, directory, story, has_ended=True)
        return story

    return workers.of(robust.distribute_strategy).on_chief(add)


def _show(config, results):
    display.result(f"method: {config.method.method}")
    table.show(results)
