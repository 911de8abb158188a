"""The story of a run: train, measure, export."""

import contextlib
import json
import shutil
import time

import keras
import tensorflow as tf

from fastbat_tf import attacks, distribution, files, methods
from fastbat_tf.data import loading, pipeline, sources
from fastbat_tf.errors import InputError
from fastbat_tf.evaluation import inputs, robustness, table
from fastbat_tf.experiment import callbacks as watching
from fastbat_tf.experiment import loop, results_file
from fastbat_tf.experiment.backup import Backup
from fastbat_tf.experiment.preemption import Preemption
from fastbat_tf.experiment.run_directory import RunDirectory, weights_file
from fastbat_tf.layers import conversion
from fastbat_tf.methods.state import Plan
from fastbat_tf.runtime import display, hints
from fastbat_tf.saving import initial_weights
from fastbat_tf.saving.export import export
from fastbat_tf.training import callbacks, losses, optimizers, schedules
from fastbat_tf.training.classifier import RobustClassifier
from fastbat_tf.training.epsilon_schedule import EpsilonSchedule
from fastbat_tf.training.options import ROLLBACK


def train(config, run_dir, build_model, resume="auto", verbosity=0):
    """Trains, measures the best weights, exports, and prints a table.

    A run that was killed, wherever it was, goes on from its last checkpoint.

    Args:
        config: A `Config`.
        run_dir: Path of a new directory.
        build_model: Function from a model's name, and `num_classes`, `mean`,
            `std`, `input_shape`, `batch_normalization` and the options of
            `ModelConfig`, to a classifier.
        resume: What to do with a directory that holds this run: `"auto"`: go
            on; `"never"`: refuse it; `"must"`: go on, or refuse.
        verbosity: Integer. Below 0: the results alone; 0: bars on a terminal,
            and a line for each epoch and stage; above 0: more lines.

    Returns:
        The dict of `results.json`.

    Raises:
        InputError: Before anything is written, if something cannot be used.
        NonFiniteError: If the training diverges.
    """
    with display.shown(verbosity), Preemption(tells=True) as preemption:
        directory = RunDirectory(run_dir)
        try:
            with refuse_unwritable(run_dir), preemption.interruptible():
                return _train(
                    config, directory, build_model, resume, preemption
                )
        finally:
            directory.unlock()


@contextlib.contextmanager
def refuse_unwritable(run_dir):
    """Says in one line that the disk is full, or the like."""
    try:
        yield
    except OSError as error:
        raise InputError(
            "The run cannot be written; expected room on the disk, and the "
            "right to write. The last checkpoint is whole. "
            f"Received: run_dir={run_dir} ({error})"
        ) from error


def _train(config, directory, build_model, resume, preemption):
    start = time.perf_counter()
    training, settings = config.training, config.evaluation
    say = display.say
    if config.runtime.deterministic:
        distribution.make_deterministic()
    attacks.check_surrogate(settings.attacks, None)
    if directory.check(config, resume) and directory.has_ended:
        return _show_ended(config, directory)
    with display.task("reading the data"):
        splits = loading.load_splits(config.data)
    validation = first(splits.validation, settings.validation_examples)
    # Refused now, not after the training.
    inputs.check_count(splits.test, settings.max_examples)
    strategy = distribution.get_strategy(config.runtime.strategy)
    distribution.check_batch_size(training.batch_size, strategy)
    keras.utils.set_random_seed(training.seed)
    notes = hints.new_hints()  # Before `compile` warns of the same.
    with strategy.scope():
        robust = begin(config, build_model)
        with_index = robust.method.remembers_examples
        steps_per_epoch = pipeline.batches_per_epoch(
            splits.train, training.batch_size, with_index
        )
        compile_robust(config, robust, steps_per_epoch, splits.train.size)

    def make_batches(first_batch):
        return pipeline.training_batches(
            splits.train,
            training.batch_size,
            training.seed,
            augmentation=config.data.augmentation,
            first_batch=first_batch,
            with_index=with_index,
        )

    directory.create(config)
    say(_settings(config))
    for line in (_device_line(config, strategy), *notes):
        say(line)

    averaged = robust.averaged_weights if training.weight_averaging else None
    validate = watching.get_validation(
        config, robust, validation, averaged, _jit_compile(config)
    )
    scores, guard = watching.get_guard(
        config, robust, validation, directory.good, say
    )
    best = callbacks.BestWeights(directory.best, monitor(config), averaged)
    timing = callbacks.Timing(directory.timing)
    keeper = loop.Keeper(
        robust,
        Backup(directory.backup, directory.path, directory.growing),
        loop.Interval(config.runtime.save_every),
        [best, timing, *guard],
        say,
    )
    with sources.refuse_broken(splits.train):
        trained = loop.fit(
            robust,
            make_batches,
            robust.plan.epochs,
            steps_per_epoch,
            [validate, *scores],
            watching.get_callbacks(directory, validate, best, guard, timing),
            keeper,
            preemption,
        )
    if trained:  # An evaluation of other weights is not one of these.
        shutil.rmtree(directory.evaluations / "training", ignore_errors=True)
    robust.load_weights(directory.best)
    say(f"Measuring {', '.join(settings.attacks)} ...")
    results = {
        **_measure(config, directory, robust.classifier, splits.test),
        "weights": f"best {best.column}",
        "weights_sha256": files.sha256(directory.best),
        "training_seconds": round(timing.total(), 1),
    }
    results = results_file.add(directory.results, results, of_training=True)
    _export(config, robust, directory)
    directory.end()
    _show(config, results)
    say(f"time: {display.duration(time.perf_counter() - start)}")
    say(f"Run directory: {directory.path}")
    return results


def _show_ended(config, directory):
    """The results of a run that has nothing left to do."""
    results = results_file.read(directory.results)
    _show(config, results)
    display.say(f"This run had ended: {directory.path}")
    return results


def export_run(run_dir, build_model, verbosity=0):
    """Exports the best weights of a run as a SavedModel, again.

    Args:
        run_dir: Path of a run directory.
        build_model: As for `train`.
        verbosity: As for `train`.

    Raises:
        InputError: If there is no run, it has no weights yet, or another
            process trains or exports it.
    """
    with display.shown(verbosity), Preemption(tells=True) as preemption:
        directory = RunDirectory(run_dir)
        config = directory.load_config()
        directory.lock()  # A training ends with an export, too.
        try:
            with preemption.interruptible():
                robust = load_best(directory, config, build_model)
                _export(config, robust, directory)
        finally:
            directory.unlock()
        display.result(f"SavedModel: {directory.saved_model}")


def _export(config, robust, directory):
    reading = config.data.spec.reading
    try:
        with display.task("exporting"):
            export(robust.classifier, directory.saved_model, reading)
    except (OSError, tf.errors.OpError) as error:
        raise InputError(
            "The run cannot be exported; expected a directory that can be "
            f"written. Received: run_dir={directory.path} ({error})"
        ) from error


def load_best(directory, config, build_model):
    """The `RobustClassifier` of a run with its best weights.

    Args:
        directory: A `RunDirectory`.
        config: The `Config` of its network.
        build_model: As for `train`.

    Raises:
        InputError: If there are no weights, or they are of another model.
    """
    if not directory.best.exists():
        raise InputError(
            "The run has no weights yet; expected an epoch to have ended. "
            f"Received: run_dir={directory.path}"
        )
    try:
        robust = build(config, build_model)
        robust.load_weights(directory.best)
    except (KeyError, OSError, ValueError, tf.errors.OpError) as error:
        raise InputError(
            "The run cannot be read; expected whole weights, of the model in "
            f"its config.json. Received: run_dir={directory.path} ({error})"
        ) from error
    return robust


def first(examples, count):
    """The first `validation_examples` of a split, in memory; 0 for all."""
    if count > examples.size:
        raise InputError(
            "`validation_examples` is expected to be at most "
            f"{examples.size}, the size of the split. "
            f"Received: validation_examples={count}"
        )
    if isinstance(examples, sources.Stream):
        examples.check_fits("validation_examples", count)
    return examples.first(count or examples.size)


def _settings(config):
    groups = config.to_dict().items()
    return "\n".join(f"{name}: {json.dumps(group)}" for name, group in groups)


def build(config, build_model):
    """The `RobustClassifier` of a `Config`, with new weights.

    Raises:
        InputError: If the network cannot be had, or not with the method.
    """
    spec = config.data.spec
    method = methods.get(config.method.method, **config.method.options)
    try:
        classifier = build_model(
            config.model.model,
            num_classes=spec.num_classes,
            mean=spec.mean if config.model.normalize else None,
            std=spec.std if config.model.normalize else None,
            input_shape=spec.image_shape,
            batch_normalization=conversion.BatchNormalization,
            **config.model.options,
        )
        return RobustClassifier(classifier, method, seed=config.training.seed)
    except ValueError as error:  # What Keras and the zoo raise.
        raise InputError(str(error)) from error


def begin(config, build_model):
    """The `RobustClassifier` with which a training begins.

    Raises:
        InputError: As `build`, or if `init_weights` do not fit.
    """
    robust = build(config, build_model)
    if config.model.init_weights is not None:
        initial_weights.load(
            robust.classifier, weights_file(config.model.init_weights)
        )
    return robust


def compile_robust(config, robust, steps_per_epoch, examples=0):
    """Compiles it with the settings of the training of a `Config`.

    Args:
        config: A `Config`.
        robust: The `RobustClassifier`.
        steps_per_epoch: Integer.
        examples: Integer, the images of the training split.
    """
    training = config.training
    rate = schedules.get(
        training.schedule,
        training.learning_rate,
        training.epochs,
        steps_per_epoch,
        **training.options("schedule"),
    )
    attack_loss = None
    if training.attack_loss != "same":
        attack_loss = losses.get(training.attack_loss)
    return robust.compile(
        optimizers.get(
            training.optimizer, rate, **training.options("optimizer")
        ),
        losses.get(training.loss, **training.options("loss")),
        metrics=[keras.metrics.SparseCategoricalAccuracy("perturbed_accuracy")],
        weight_decay=training.weight_decay,
        weight_decay_mode=training.weight_decay_mode,
        weight_decay_on=training.weight_decay_on,
        clip_norm=training.clip_norm,
        weight_averaging=training.weight_averaging,
        attack_loss=attack_loss,
        epsilon_schedule=_epsilon_schedule(config, steps_per_epoch),
        # The replays of a batch are updates, too: of fewer passes.
        plan=Plan(
            training.epochs // robust.method.replays,
            steps_per_epoch,
            training.batch_size,
            examples,
        ),
        jit_compile=_jit_compile(config),
    )


def _epsilon_schedule(config, steps_per_epoch):
    """The `EpsilonSchedule` of a `Config`; None if it is the whole radius."""
    training = config.training
    if not (
        training.clean_epochs
        or training.epsilon_ramp_epochs
        or config.overfitting.on_overfitting == ROLLBACK
    ):
        return None
    return EpsilonSchedule(
        training.clean_epochs * steps_per_epoch,
        training.epsilon_ramp_epochs * steps_per_epoch,
    )


def _jit_compile(config):
    return distribution.resolve_jit_compile(config.runtime.compiles)


def _device_line(config, strategy):
    devices = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    xla = "on" if _jit_compile(config) else "off"
    reason = ""
    if config.runtime.jit_compile == "auto":
        reason = f" (the default on {devices}s: docs/xla.md)"
    replicas = strategy.num_replicas_in_sync
    return f"Running on {devices}, replicas: {replicas}, XLA: {xla}{reason}."


def monitor(config):
    """Which column of the history says which epoch is the best."""
    # Nothing is robust after standard training: its best is the most accurate.
    standard = config.method.method == "standard"
    return "val_accuracy" if standard else "val_robust_accuracy"


def _measure(config, directory, classifier, test):
    settings = config.evaluation
    return robustness.evaluate_robustness(
        classifier,
        test,
        settings.attacks,
        settings.epsilons,
        norm=settings.norm,
        max_examples=settings.max_examples,
        batch_size=settings.batch_size,
        seed=settings.seed,
        jit_compile=_jit_compile(config),
        directory=directory.evaluations / "training",
        verbose=True,
    )


def _show(config, results):
    display.result(f"method: {config.method.method}")
    table.show(results)
