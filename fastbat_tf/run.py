"""The story of a run: train, measure, export."""

import json
import sys
import time

import keras
import tensorflow as tf

from fastbat_tf import (
    callbacks,
    data,
    distribution,
    evaluation,
    layers,
    methods,
    schedules,
)
from fastbat_tf.attacks.pgd import PGDAttack
from fastbat_tf.config import parse_attack
from fastbat_tf.data import loading, pipeline
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
    directory.check_free(config)
    splits = loading.load(
        config.data.dataset, config.data.data_dir, config.data.validation_share
    )
    settings = config.evaluation
    validation = _first(
        splits.validation, "validation_examples", settings.validation_examples
    )
    test = _first(splits.test, "test_examples", settings.test_examples)
    batches = pipeline.training_batches(
        splits.train, training.batch_size, training.seed, config.data.augment
    )
    strategy = distribution.get_strategy(config.runtime.strategy)
    distribution.check_batch_size(training.batch_size, strategy)
    steps_per_epoch = len(splits.train.labels) // training.batch_size
    directory.create(config)
    print(_settings(config))

    keras.utils.set_random_seed(training.seed)
    with strategy.scope():
        robust = _compile(config, _build(config, build_model), steps_per_epoch)
    print(_device_line(config, strategy), flush=True)
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
        **_measure(config, robust.classifier, test),
        "weights": f"best {_monitor(config)}",
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
    config = directory.load_config()
    if not directory.best.exists():
        raise InputError(
            "The run has no weights yet; expected an epoch to have ended. "
            f"Received: run_dir={directory.path}"
        )
    try:
        robust = _build(config, build_model)
        robust.load_weights(directory.best)
        export(robust.classifier, directory.saved_model)
    except (KeyError, OSError, ValueError, tf.errors.OpError) as error:
        raise InputError(
            "The run cannot be exported; expected whole weights, of the model "
            "in its config.json, and a directory that can be written. "
            f"Received: run_dir={directory.path} ({error})"
        ) from error
    print(f"SavedModel: {directory.saved_model}")


def _first(examples, name, count):
    if count > len(examples.labels):
        raise InputError(
            f"`{name}` is expected to be at most {len(examples.labels)}, the "
            f"size of the split. Received: {name}={count}"
        )
    count = count or len(examples.labels)
    return loading.Examples(examples.images[:count], examples.labels[:count])


def _settings(config):
    groups = config.to_dict().items()
    return "\n".join(f"{name}: {json.dumps(group)}" for name, group in groups)


def _build(config, build_model):
    spec = data.get(config.data.dataset)
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


def _compile(config, robust, steps_per_epoch):
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
    named = {"auto": "auto", "true": True, "false": False}
    return resolve_jit_compile(named[config.runtime.jit_compile])


def _device_line(config, strategy):
    devices = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    xla = "on" if _jit_compile(config) else "off"
    reason = ""
    if config.runtime.jit_compile == "auto":
        reason = " (the faster one here, as measured: docs/xla.md)"
    replicas = strategy.num_replicas_in_sync
    return f"Running on {devices}, replicas: {replicas}, XLA: {xla}{reason}."


def _monitor(config):
    # Nothing is robust after standard training: its best is the most accurate.
    standard = config.method.method == "standard"
    return "val_accuracy" if standard else "val_robust_accuracy"


def _callbacks(config, directory, robust, validation):
    settings = config.evaluation
    steps, restarts = parse_attack(settings.validation_attack)
    validate = callbacks.RobustValidation(
        PGDAttack(
            evaluation.logits_of(robust.classifier),
            steps,
            restarts,
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
            monitor=_monitor(config),
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
    count = len(test.labels)
    steps, restarts = parse_attack(settings.attack)
    print(f"Measuring {settings.attack} on {count} test images ...", flush=True)
    return evaluation.evaluate_robustness(
        classifier,
        *test,
        settings.epsilons,
        steps,
        restarts,
        settings.batch_size,
        config.training.seed,
        _jit_compile(config),
    )


def _table(config, results, seconds):
    rows = [("method", config.method.method)]
    rows.append(("clean accuracy", f"{results['clean_accuracy']:.2%}"))
    for row in results["attacks"]:
        name = f"{row['attack']}, epsilon {255 * row['epsilon']:g}/255"
        rows.append((name, f"{row['robust_accuracy']:.2%}"))
    rows.append(("test images", f"{results['examples']}"))
    rows.append(("time", callbacks.duration(seconds)))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value:>9}" for name, value in rows)
