"""Flags of the model."""

from absl import flags as absl_flags

import models
from fastbat_tf.config import ModelConfig
from fastbat_tf.errors import InputError

_DEFAULT = ModelConfig()

MODEL = absl_flags.DEFINE_string(
    "model", _DEFAULT.model, f"Model: {', '.join(models.MODELS)}."
)
WIDTH = absl_flags.DEFINE_integer(
    "width", _DEFAULT.width, "Channels of the first group of blocks."
)
ACTIVATION = absl_flags.DEFINE_string(
    "activation",
    _DEFAULT.activation,
    f"Activation: {', '.join(models.ACTIVATIONS)}.",
)
NORMALIZE = absl_flags.DEFINE_bool(
    "normalize",
    _DEFAULT.normalize,
    "Normalize the pixels in the first layer of the classifier.",
)


def get_config():
    """The `ModelConfig` of the flags."""
    try:
        models.check_name(MODEL.value)
        models.check_activation(ACTIVATION.value)
    except ValueError as error:  # The zoo knows no error of the library.
        raise InputError(str(error)) from error
    return ModelConfig(
        model=MODEL.value,
        width=WIDTH.value,
        activation=ACTIVATION.value,
        normalize=NORMALIZE.value,
    )
