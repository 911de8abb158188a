"""Builds a run's classifier from its config."""

import contextlib
import functools

import keras
import tensorflow as tf

from fastbat_tf import distribution, methods, workers
from fastbat_tf.errors import InputError
from fastbat_tf.experiment.run_directory import weights_file
from fastbat_tf.files import refuse_links_out
from fastbat_tf.layers import FusedBatchNormalization, structure
from fastbat_tf.methods.state import Plan
from fastbat_tf.saving import initial_weights, trust
from fastbat_tf.saving.earlier_weights import load_weights
from fastbat_tf.training import losses, optimizers, records, schedules
from fastbat_tf.training.classifier import RobustClassifier
from fastbat_tf.training.epsilon_schedule import EpsilonSchedule
from fastbat_tf.training.metrics import LikeliestAccuracy
from fastbat_tf.training.options import FLOAT32, ROLLBACK
from fastbat_tf.training.variables import take_from_chief
from fastbat_tf.training.weight_perturbation import (
    AdversarialWeightPerturbation,
)

# The networks' own momentum and epsilon are PyTorch's, as this variance is.
BATCH_NORMALIZATION = functools.partial(FusedBatchNormalization, unbiased=True)


def build_robust(config, build_model):
    """Builds the `RobustClassifier` of a config, with new weights.

    Args:
        config: A `Config`.
        build_model: Function from a model's name, and `num_classes`, `mean`,
            `std`, `input_shape`, `batch_normalization` and the options of
            `ModelConfig`, to a classifier.

    Returns:
        A `RobustClassifier`, not compiled.

    Raises:
        InputError: If the network cannot be built, or does not suit the method.
    """
    spec = config.data.spec
    mean, std = config.model.mean or spec.mean, config.model.std or spec.std
    method = methods.get(config.method.method, **config.method.options)
    try:
        with in_precision(config.training.precision):
            classifier = build_model(
                config.model.model,
                num_classes=spec.num_classes,
                mean=mean if config.model.normalize else None,
                std=std if config.model.normalize else None,
                input_shape=spec.image_shape,
                batch_normalization=BATCH_NORMALIZATION,
                **config.model.options,
            )
            if config.training.sync_batch_norm:
                _synchronize(classifier)
            return RobustClassifier(
                classifier, method, seed=config.training.seed
            )
    except ValueError as error:  # From Keras or the model zoo.
        raise InputError(str(error)) from error


def _synchronize(classifier):
    """Lets normalizations use the statistics of all replicas."""
    for layer in structure.flatten(classifier):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


@contextlib.contextmanager
def in_precision(name):
    """A context in which layers are created with a dtype policy.

    Args:
        name: One of `fastbat_tf.training.options.PRECISIONS`. `"float32"`
            leaves Keras' policy as it is.
    """
    before = keras.config.dtype_policy()
    if name != FLOAT32:
        keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def build_initial(config, build_model, everyone=None):
    """Builds the `RobustClassifier` that a training begins with.

    Args:
        config: A `Config`. If it has `init_weights`, they are loaded.
        build_model: Function; see `build_robust`.
        everyone: The `Workers`, of which the chief has the `init_weights`.
            Defaults to `None`: this is the only one.

    Returns:
        A `RobustClassifier`, not compiled.

    Raises:
        InputError: If the network cannot be built, or `init_weights` do not
            fit it.
    """
    everyone = workers.Workers() if everyone is None else everyone
    robust = build_robust(config, build_model)
    path = config.model.init_weights
    if path is None:
        return robust

    def load():
        file = weights_file(path)
        initial_weights.load(robust.classifier, file, received=path)

    everyone.on_chief(load)
    take_from_chief(robust.classifier.variables, everyone)
    return robust


def load_best(directory, config, build_model, everyone=None):
    """Builds the `RobustClassifier` of a run, with its best weights.

    Args:
        directory: A `RunDirectory`.
        config: The `Config` of its network.
        build_model: Function; see `build_robust`.
        everyone: The `Workers`, of which the chief reads the weights. Defaults
            to `None`: this is the only one.

    Returns:
        A `RobustClassifier`, not compiled.

    Raises:
        InputError: If there are no weights, or those of another model, or if
            a link leads out of the directory.
    """
    everyone = workers.Workers() if everyone is None else everyone

    def check():
        directory.expect_weights()
        path = directory.path
        refuse_links_out(path, f"run_dir={path}")
        with _refuse_unreadable(directory):
            return trust.weigh(directory.best, f"path={directory.best}")

    held = everyone.on_chief(check)
    with (
        _refuse_unreadable(directory),
        # The settings may be those of someone else.
        trust.bounded_variables(held, f"path={directory.config}"),
    ):
        robust = build_robust(config, build_model)
    everyone.on_chief(lambda: _load(robust, directory))
    take_from_chief(robust.variables, everyone)
    return robust


def _load(robust, directory):
    with _refuse_unreadable(directory):
        load_weights(robust, directory.best)


@contextlib.contextmanager
def _refuse_unreadable(directory):
    try:
        yield
    except (KeyError, OSError, ValueError, tf.errors.OpError) as error:
        raise InputError(
            "The run cannot be read; expected undamaged weights of the model "
            "in its config.json. "
            f"Received: run_dir={directory.path} ({error})"
        ) from error


def compile_robust(config, robust, steps_per_epoch, examples=0):
    """Compiles a classifier with the training settings of a config.

    Args:
        config: A `Config`.
        robust: The `RobustClassifier`.
        steps_per_epoch: Integer, the batches of an epoch.
        examples: Integer, the number of images in the training split. Defaults
            to `0`, which means unknown.

    Returns:
        The `RobustClassifier`.
    """
    training = config.training
    learning_rate = schedules.get(
        training.schedule,
        training.learning_rate,
        epochs=training.epochs,
        steps_per_epoch=steps_per_epoch,
        **training.options("schedule"),
    )
    optimizer = optimizers.get(
        training.optimizer, learning_rate, **training.options("optimizer")
    )
    # The labels of CutMix are probabilities.
    form = {"of_probabilities": True} if config.data.cutmix else {}
    attack_loss = None
    if training.attack_loss != "same":
        attack_loss = losses.get(training.attack_loss, **form)
    return robust.compile(
        optimizer,
        losses.get(training.loss, **training.options("loss"), **form),
        metrics=[_accuracy(config)],
        weight_decay=training.weight_decay,
        weight_decay_mode=training.weight_decay_mode,
        weight_decay_on=training.weight_decay_on,
        clip_norm=training.clip_norm,
        weight_averaging=training.weight_averaging,
        attack_loss=attack_loss,
        epsilon_schedule=_epsilon_schedule(config, steps_per_epoch),
        weight_perturbation=_weight_perturbation(config, steps_per_epoch),
        plan=Plan(
            # A method that replays batches makes more updates per pass, so it
            # makes fewer passes.
            epochs=training.epochs // robust.method.replays,
            steps_per_epoch=steps_per_epoch,
            batch_size=training.batch_size,
            examples=examples,
        ),
        jit_compile=_compiles_step(config, robust),
    )


def _accuracy(config):
    """Returns the metric of the accuracy on the images of the training."""
    name = records.training_accuracy(config.method.has_attack)
    if config.data.cutmix:
        return LikeliestAccuracy(name)
    return keras.metrics.SparseCategoricalAccuracy(name)


def _epsilon_schedule(config, steps_per_epoch):
    """Returns the `EpsilonSchedule`, or None for a constant radius."""
    training = config.training
    if not (
        training.clean_epochs
        or training.epsilon_ramp_epochs
        or training.epsilon_jitter
        or config.overfitting.on_overfitting == ROLLBACK
    ):
        return None
    return EpsilonSchedule(
        clean_steps=training.clean_epochs * steps_per_epoch,
        ramp_steps=training.epsilon_ramp_epochs * steps_per_epoch,
        jitter=training.epsilon_jitter,
    )


def _weight_perturbation(config, steps_per_epoch):
    """Returns the `AdversarialWeightPerturbation`, or None if it is off."""
    training = config.training
    if not training.awp_gamma:
        return None
    return AdversarialWeightPerturbation(
        training.awp_gamma,
        warmup_steps=training.awp_warmup_epochs * steps_per_epoch,
    )


def _compiles_step(config, robust):
    """Returns whether XLA compiles the training step.

    Unless it was asked for, which `compile` then refuses, XLA is off where
    replicas share the gradient that perturbs the weights.
    """
    is_default = config.runtime.compiles == "auto"
    replicated = robust.distribute_strategy.num_replicas_in_sync > 1
    if config.training.awp_gamma and is_default and replicated:
        return False
    return compiles_with_xla(config)


def compiles_with_xla(config):
    """Returns whether XLA compiles the steps of a run."""
    if config.training.sync_batch_norm:
        return False
    return distribution.resolve_jit_compile(config.runtime.compiles)
