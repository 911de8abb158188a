"""What watches a training."""

from fastbat_tf.callbacks.finite import StopOnNonFinite
from fastbat_tf.callbacks.overfitting import OverfittingGuard, OverfittingScores
from fastbat_tf.callbacks.progress import TimeForecast, TrainingProgress
from fastbat_tf.callbacks.tensorboard import Curves, PerturbationPanel
from fastbat_tf.callbacks.timing import Timing
from fastbat_tf.callbacks.validation import RobustValidation
from fastbat_tf.callbacks.weights import BestWeights, LastWeights, save_weights

__all__ = [
    "BestWeights",
    "Curves",
    "LastWeights",
    "OverfittingGuard",
    "OverfittingScores",
    "PerturbationPanel",
    "RobustValidation",
    "StopOnNonFinite",
    "TimeForecast",
    "Timing",
    "TrainingProgress",
    "save_weights",
]
