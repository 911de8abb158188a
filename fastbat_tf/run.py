"""The story of a run: train, measure, export."""

import json
import sys
import time

import keras
import tensorflow as tf

from fastbat_tf import (
    attacks,
    callbacks,
    data,
    distribution,
    evaluation,
    evaluation_input,
    evaluation_table,
    initial_weights,
    layers,
    losses,
    methods,
    model_files,
    optimizers,
    schedules,
)
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
        build_model: Function from a model's name, and `num_classes`, `mean`,
            `std`, `input_shape`, `batch_normalization` and the options of
            `ModelConfig`, to a classifier.

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
    splits = loading.load(
        config.data.dataset, config.data.data_dir, config.data.validation_share
    )
    settings = config.evaluation
    validation = _first(splits.validation, settings.validation_examples)
    # Refused now, not after the training.
    evaluation_input.choose(splits.test.labels, settings.max_examples, 0)
    batches = pipeline.training_batches(
        splits.train, training.batch_size, training.seed, config.data.augment
    )
    strategy = distribution.get_strategy(config.runtime.strategy)
    distribution.check_batch_size(training.batch_size, strategy)
    steps_per_epoch = len(splits.train.labels) // training.batch_size
    keras.utils.set_random_seed(training.seed)
    with strategy.scope():
        robust = begin(config, build_model)
        compile_robust(config, robust, steps_per_epoch)
    directory.create(config)
    print(_settings(config))

    print(_device_line(config, strategy), flush=True)
    best = callbacks.BestWeights(
        directory.best, monitor(config), _averaged_weights(config, robust)
    )
    robust.fit(
        batches,
        epochs=training.epochs,
        steps_per_epoch=steps_per_epoch,
        shuffle=False,  # The batches are shuffled.
        callbacks=_callbacks(config, directory, robust, validation, best),
        verbose=1 if sys.stdout.isatty() else 2,
    )
    training_seconds = time.perf_counter() - start

    robust.load_weights(directory.best)
    results = {
        **_measure(config, robust.classifier, splits.test),
        "weights": f"best {best.column}",
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


def _first(examples, count):
    if count > len(examples.labels):
        raise InputError(
            "`validation_examples` is expected to be at most "
            f"{len(examples.labels)}, the size of the split. "
            f"Received: validation_examples={count}"
        )
    count = count or len(examples.labels)
    return loading.Examples(examples.images[:count], examples.labels[:count])


def _settings(config):
    groups = config.to_dict().items()
    return "\n".join(f"{name}: {json.dumps(group)}" for name, group in groups)


def build(config, build_model):
    """The `RobustClassifier` of a `Config`, with new weights.

    Raises:
        InputError: If the network cannot be had, or not with the method.
    """
    spec = data.get(config.data.dataset)
    method = methods.get(config.method.method, **config.method.options)
    try:
        classifier = build_model(
            config.model.model,
            num_classes=spec.num_classes,
            mean=spec.mean if config.model.normalize else None,
            std=spec.std if config.model.normalize else None,
            input_shape=spec.image_shape,
            batch_normalization=layers.BatchNormalization,
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
        initial_weights.load(robust.classifier, config.model.init_weights)
    return robust


def compile_robust(config, robust, steps_per_epoch):
    """Compiles it with the settings of the training of a `Config`."""
    training = config.training
    rate = schedules.get(
        training.schedule,
        training.learning_rate,
        training.epochs,
        steps_per_epoch * robust.method.replays,
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


def _averaged_weights(config, robust):
    return robust.averaged_weights if config.training.weight_averaging else None


def _callbacks(config, directory, robust, validation, best):
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
        _averaged_weights(config, robust),
    )
    watching = [
        callbacks.StopOnNonFinite(),
        validate,
        callbacks.PerturbationPanel(validate, directory.tensorboard / "images"),
        best,
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
