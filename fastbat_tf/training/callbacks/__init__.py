"""Keras callbacks that measure, guard, save and show a training."""

from fastbat_tf.training.callbacks.finite import StopOnNonFinite
from fastbat_tf.training.callbacks.history import History
from fastbat_tf.training.callbacks.learning_rate import LearningRate
from fastbat_tf.training.callbacks.overfitting import (
    OverfittingGuard,
    OverfittingScores,
)
from fastbat_tf.training.callbacks.panel import PerturbationPanel
from fastbat_tf.training.callbacks.profile import Profile
from fastbat_tf.training.callbacks.progress import (
    TimeForecast,
    TrainingProgress,
)
from fastbat_tf.training.callbacks.tensorboard import Curves
from fastbat_tf.training.callbacks.timing import Timing
from fastbat_tf.training.callbacks.validation import RobustAccuracy
from fastbat_tf.training.callbacks.weights import (
    BestWeights,
    LastWeights,
    save_weights,
)

__all__ = [
    "BestWeights",
    "Curves",
    "History",
    "LastWeights",
    "LearningRate",
    "OverfittingGuard",
    "OverfittingScores",
    "PerturbationPanel",
    "Profile",
    "RobustAccuracy",
    "StopOnNonFinite",
    "TimeForecast",
    "Timing",
    "TrainingProgress",
    "save_weights",
]
