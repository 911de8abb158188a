"""Who watches a run, put together from its settings."""

import keras

from fastbat_tf import attacks, distribution
from fastbat_tf.evaluation.alignment import GradientAlignment
from fastbat_tf.saving import model_files
from fastbat_tf.training import callbacks
from fastbat_tf.training.options import OFF


def get_validation(config, robust, examples, averaged_weights, jit_compile):
    """The `RobustValidation` of a `Config`; its arguments are named there."""
    settings = config.evaluation
    attack = attacks.get(
        settings.validation_attack,
        model_files.logits_of(robust.classifier),
        batch_size=settings.batch_size,
        jit_compile=jit_compile,
    )
    return callbacks.RobustValidation(
        attack,
        examples,
        settings.validation_epsilon,
        config.training.seed,
        averaged_weights,
    )


def get_guard(config, robust, examples, path, say):
    """The `OverfittingScores` and `OverfittingGuard`, if there is a guard.

    Args:
        config: A `Config`.
        robust: The `RobustClassifier`.
        examples: `Examples` to validate on.
        path: Where the guard keeps what it goes back to.
        say: Function that prints a line.

    Returns:
        Two lists of callbacks: what belongs to the validation, and what acts.
    """
    settings = config.overfitting
    if settings.on_overfitting == OFF:
        return [], []
    network = model_files.logits_of(robust.classifier)
    batch_size = config.evaluation.batch_size
    scores = callbacks.OverfittingScores(
        attacks.get("fgsm", network, batch_size=batch_size),
        GradientAlignment(network, batch_size),
        examples,
        config.evaluation.validation_epsilon,
        config.training.seed,
    )
    guard = callbacks.OverfittingGuard(
        settings.on_overfitting,
        settings.overfitting_threshold,
        path,
        settings.rollback_factor,
        say,
    )
    return [scores], [guard]


def get_callbacks(directory, validate, best, guard, timing):
    """The other callbacks of a run, in the order that they need.

    Args:
        directory: The `RunDirectory`.
        validate: The `RobustValidation`.
        best: The `BestWeights`.
        guard: List of what may change the weights.
        timing: The `Timing`.
    """
    curves = callbacks.Curves(str(directory.tensorboard), write_graph=False)
    watching = [
        callbacks.StopOnNonFinite(),
        callbacks.PerturbationPanel(validate, curves),
        best,
        *guard,
        callbacks.LastWeights(directory.last),
        keras.callbacks.CSVLogger(str(directory.history), append=True),
        timing,
        curves,
        callbacks.TrainingProgress(),
    ]
    if not distribution.has_accelerator():
        watching.append(
            callbacks.TimeForecast(
                "There is no GPU here; `--flagfile=recipes/demo.cfg` shows the "
                "method in a few minutes."
            )
        )
    return watching
