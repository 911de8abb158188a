"""The story of a run: train, measure, export."""

import json
import sys
import time

import keras
import tensorflow as tf

from fastbat_tf import (
    attacks,
    callbacks,
    distribution,
    evaluation,
    evaluation_input,
    evaluation_table,
    layers,
    methods,
    model_files,
    schedules,
)
from fastbat_tf.data import loading, pipeline, sources
from fastbat_tf.errors import InputError
from fastbat_tf.export import export
from fastbat_tf.run_directory import RunDirectory, write_json
from fastbat_tf.trainer import RobustClassifier, resolve_jit_compile


def train(config, run_dir, build_model):
    """Trains, measures the best weights, exports, and prints a table.

    Args:
        config: A `Config`.
        run_dir: Path of a new directory.
        build_model: Function from a model's name, and `width`, `num_classes`,
            `activation`, `mean`, `std`, `input_shape` and
            `batch_normalization`, to a classifier.

    Returns:
        The dict of `results.json`.

    Raises:
        InputError: Before anything is written, if something cannot be used.
        NonFiniteError: If the training diverges.
    """
    start = time.perf_counter()
    training, directory = config.training, RunDirectory(run_dir)
    attacks.check_surrogate(config.evaluation.attacks, None)
    directory.check_free(config)
    splits = loading.load_splits(config.data)
    settings = config.evaluation
    validation = first(splits.validation, settings.validation_examples)
    # Refused now, not after the training.
    evaluation_input.check_count(splits.test, settings.max_examples)
    batches = pipeline.training_batches(
        splits.train,
        training.batch_size,
        training.seed,
        config.data.augmentation,
    )
    strategy = distribution.get_strategy(config.runtime.strategy)
    distribution.check_batch_size(training.batch_size, strategy)
    steps_per_epoch = splits.train.size // training.batch_size
    directory.create(config)
    print(_settings(config))

    keras.utils.set_random_seed(training.seed)
    with strategy.scope():
        robust = build(config, build_model)
        compile_robust(config, robust, steps_per_epoch)
    print(_device_line(config, strategy), flush=True)
    with sources.refuse_broken(splits.train):
        robust.fit(
            batches,
            epochs=training.epochs,
            steps_per_epoch=steps_per_epoch,
            shuffle=False,  # The batches are shuffled.
            callbacks=_callbacks(config, directory, robust, validation),
            verbose=1 if sys.stdout.isatty() else 2,
        )
    training_seconds = time.perf_counter() - start

    robust.load_weights(directory.best)
    results = {
        **_measure(config, robust.classifier, splits.test),
        "weights": f"best {monitor(config)}",
        "training_seconds": round(training_seconds, 1),
    }
    write_json(directory.results, results)
    export(robust.classifier, directory.saved_model)
    print(_table(config, results, time.perf_counter() - start))
    print(f"Run directory: {directory.path}")
    return results


def export_run(run_dir, build_model):
    """Exports the best weights of a run as a SavedModel, again.

    Args:
        run_dir: Path of a run directory.
        build_model: As for `train`.

    Raises:
        InputError: If there is no run, or it has no weights yet.
    """
    directory = RunDirectory(run_dir)
    robust = load_best(directory, directory.load_config(), build_model)
    try:
        export(robust.classifier, directory.saved_model)
    except (OSError, tf.errors.OpError) as error:
        raise InputError(
            "The run cannot be exported; expected a directory that can be "
            f"written. Received: run_dir={directory.path} ({error})"
        ) from error
    print(f"SavedModel: {directory.saved_model}")


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
    """The `RobustClassifier` of a `Config`, with new weights."""
    spec = config.data.spec
    classifier = build_model(
        config.model.model,
        width=config.model.width,
        num_classes=spec.num_classes,
        activation=config.model.activation,
        mean=spec.mean if config.model.normalize else None,
        std=spec.std if config.model.normalize else None,
        input_shape=spec.image_shape,
        batch_normalization=layers.BatchNormalization,
    )
    method = methods.get(config.method.method, **config.method.options)
    return RobustClassifier(classifier, method, seed=config.training.seed)


def compile_robust(config, robust, steps_per_epoch):
    """Compiles it with the optimizer and the schedule of a `Config`."""
    rate = schedules.get(
        config.training.schedule,
        config.training.learning_rate,
        config.training.epochs,
        steps_per_epoch,
    )
    return robust.compile(
        keras.optimizers.SGD(rate, momentum=config.training.momentum),
        metrics=[keras.metrics.SparseCategoricalAccuracy("perturbed_accuracy")],
        weight_decay=config.training.weight_decay,
        jit_compile=_jit_compile(config),
    )


def _jit_compile(config):
    return resolve_jit_compile(config.runtime.compiles)


def _device_line(config, strategy):
    devices = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    xla = "on" if _jit_compile(config) else "off"
    reason = ""
    if config.runtime.jit_compile == "auto":
        reason = " (the faster one here, as measured: docs/xla.md)"
    replicas = strategy.num_replicas_in_sync
    return f"Running on {devices}, replicas: {replicas}, XLA: {xla}{reason}."


def monitor(config):
    """Which column of the history says which epoch is the best."""
    # Nothing is robust after standard training: its best is the most accurate.
    standard = config.method.method == "standard"
    return "val_accuracy" if standard else "val_robust_accuracy"


def _callbacks(config, directory, robust, validation):
    settings = config.evaluation
    validate = callbacks.RobustValidation(
        attacks.get(
            settings.validation_attack,
            model_files.logits_of(robust.classifier),
            batch_size=settings.batch_size,
            jit_compile=_jit_compile(config),
        ),
        validation,
        settings.validation_epsilon,
        config.training.seed,
    )
    watching = [
        callbacks.StopOnNonFinite(),
        validate,
        callbacks.PerturbationPanel(validate, directory.tensorboard / "images"),
        keras.callbacks.ModelCheckpoint(
            str(directory.best),
            monitor=monitor(config),
            mode="max",
            save_best_only=True,
            save_weights_only=True,
        ),
        keras.callbacks.ModelCheckpoint(
            str(directory.last), save_weights_only=True
        ),
        keras.callbacks.CSVLogger(str(directory.history)),
        keras.callbacks.TensorBoard(
            str(directory.tensorboard), write_graph=False
        ),
    ]
    if not distribution.has_accelerator():
        watching.append(
            callbacks.TimeForecast(
                "There is no GPU here; `--flagfile=recipes/demo.cfg` shows the "
                "method in a few minutes."
            )
        )
    return watching


def _measure(config, classifier, test):
    settings = config.evaluation
    print(f"Measuring {', '.join(settings.attacks)} ...", flush=True)
    return evaluation.evaluate_robustness(
        classifier,
        test,
        settings.attacks,
        settings.epsilons,
        settings.norm,
        settings.max_examples,
        batch_size=settings.batch_size,
        seed=settings.seed,
        jit_compile=_jit_compile(config),
        verbose=True,
    )


def _table(config, results, seconds):
    return "\n".join(
        [
            f"method: {config.method.method}",
            evaluation_table.format_table(results),
            f"time: {callbacks.duration(seconds)}",
        ]
    )
