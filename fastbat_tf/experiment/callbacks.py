"""Builds a run's callbacks from its config."""

from typing import NamedTuple

from fastbat_tf import attacks, distribution, workers
from fastbat_tf.evaluation.alignment import GradientAlignment
from fastbat_tf.experiment import tensorboard
from fastbat_tf.experiment.building import compiles_with_xla
from fastbat_tf.runtime.options import parse_profile
from fastbat_tf.training import callbacks
from fastbat_tf.training.options import OFF


class RunCallbacks(NamedTuple):
    """The callbacks of a run.

    Attributes:
        validations: List of callbacks that add to the logs of an epoch. They
            run first, and may take long.
        others: List of the other callbacks, in the order in which they run.
        checkpointed: List of the callbacks whose `state` is saved in a
            checkpoint, in the order of the checkpoints on disk.
        best: The `BestWeights`.
        timing: The `Timing`.
    """

    validations: list
    others: list
    checkpointed: list
    best: callbacks.BestWeights
    timing: callbacks.Timing


def build(config, robust, examples, directory, *, class_names=None):
    """Builds the callbacks of a run.

    Args:
        config: A `Config`.
        robust: The compiled `RobustClassifier`.
        examples: `Examples` to validate on.
        directory: The `RunDirectory`.
        class_names: List of strings, or None, the default.

    Returns:
        A `RunCallbacks`.
    """
    averaged_weights = None
    if config.training.weight_averaging:
        averaged_weights = robust.averaged_weights
    validation = _build_validation(config, examples, averaged_weights)
    scores, guards = _build_guard(config, robust, examples, directory.good)
    best = callbacks.BestWeights(
        directory.best, monitored_column(config), averaged_weights
    )
    timing = callbacks.Timing(directory.timing)
    history = callbacks.History(directory.history, config.method.has_attack)
    curves = callbacks.Curves(directory.tensorboard, write_graph=False)
    panel = callbacks.PerturbationPanel(
        validation, curves, class_names=class_names
    )
    others = _in_order(
        directory,
        best,
        guards,
        panel=panel,
        history=history,
        timing=timing,
        curves=curves,
    )
    others.append(tensorboard.RunSummary(config, directory, best))
    if config.runtime.profile:
        others.append(
            callbacks.Profile(
                *parse_profile(config.runtime.profile),
                directory.tensorboard,
                config.runtime.steps_per_execution,
            )
        )
    if not workers.of(robust.distribute_strategy).is_chief:
        # These decide, or read variables that all workers read together.
        shared = callbacks.StopOnNonFinite, callbacks.LastWeights
        others = [
            callback
            for callback in others
            if isinstance(callback, shared) or callback in (best, *guards)
        ]
    return RunCallbacks(
        validations=[validation, *scores],
        others=others,
        checkpointed=[best, timing, *guards, curves],
        best=best,
        timing=timing,
    )


def monitored_column(config):
    """Returns the column of the history that decides the best epoch."""
    # Without an attack the classifier does not become robust, so its best epoch
    # is the most accurate one.
    robust = config.method.has_attack
    return "val_robust_accuracy" if robust else "val_clean_accuracy"


def _build_validation(config, examples, averaged_weights):
    settings = config.evaluation
    attack = attacks.build(
        settings.validation_attack,
        epsilon=settings.validation_epsilon,
        norm=settings.validation_norm,
        seed=config.training.seed,
        batch_size=settings.batch_size,
        jit_compile=compiles_with_xla(config),
    )
    return callbacks.RobustAccuracy(
        examples, attack, averaged_weights=averaged_weights
    )


def _build_guard(config, robust, examples, path):
    """Builds the `OverfittingScores` and the `OverfittingGuard`.

    Returns:
        Two lists of one callback each, both empty if `on_overfitting` is
        `"off"`.
    """
    settings = config.overfitting
    if settings.on_overfitting == OFF:
        return [], []
    batch_size = config.evaluation.batch_size
    norm = config.evaluation.validation_norm
    fgsm = attacks.FGSM(
        config.evaluation.validation_epsilon,
        norm=norm,
        batch_size=batch_size,
        seed=config.training.seed,
        jit_compile=False,
    )
    alignment = GradientAlignment(robust.network, batch_size, norm=norm)
    scores = callbacks.OverfittingScores(examples, fgsm, alignment)
    guard = callbacks.OverfittingGuard(
        settings.on_overfitting,
        threshold=settings.overfitting_threshold,
        path=path,
        factor=settings.rollback_factor,
    )
    return [scores], [guard]


def _in_order(directory, best, guards, *, panel, history, timing, curves):
    """Returns the callbacks that run after the validations, in order."""
    ordered = [
        callbacks.LearningRate(),  # First: others may change the rate.
        callbacks.StopOnNonFinite(),
        panel,
        best,
        *guards,  # After `best`: a rollback changes the weights.
        callbacks.LastWeights(directory.last),
        history,
        timing,  # After the history, which must not depend on the time.
        curves,
        callbacks.TrainingProgress(),
    ]
    if not distribution.has_accelerator():
        ordered.append(
            callbacks.TimeForecast(
                "There is no GPU here; `--flagfile=recipes/demo.cfg` shows the "
                "method in a few minutes."
            )
        )
    return ordered
