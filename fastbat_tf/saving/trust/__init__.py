"""Checks files of others before Keras or TensorFlow opens them."""

from fastbat_tf.saving.trust.graphs import check_saved_model
from fastbat_tf.saving.trust.keras_files import (
    check_keras_file,
    open_weights,
    weigh,
)
from fastbat_tf.saving.trust.variables import bounded_variables

__all__ = [
    "bounded_variables",
    "check_keras_file",
    "check_saved_model",
    "open_weights",
    "weigh",
]
