"""Flags of the model. A flag that does not apply to it is rejected."""

from absl import flags as absl_flags

from fastbat_tf import models
from fastbat_tf.errors import InputError
from fastbat_tf.experiment.config import ModelConfig
from fastbat_tf.experiment.run_directory import weights_file

_DEFAULT = ModelConfig()

MODEL = absl_flags.DEFINE_string(
    "model",
    _DEFAULT.model,
    f"Model: {', '.join(models.MODELS)}, such as wrn28_10 or "
    "keras:MobileNetV3Small.",
)
OPTIONS = {
    "width": absl_flags.DEFINE_integer(
        "width",
        None,
        "Channels of the first group of blocks (default 64); for a wrn the "
        "name says the width.",
    ),
    "activation": absl_flags.DEFINE_string(
        "activation",
        None,
        f"Activation (default relu): {', '.join(models.ACTIVATIONS)}.",
    ),
    "stem": absl_flags.DEFINE_string(
        "stem",
        None,
        f"First layers: {', '.join(models.STEMS)} (default: cifar for images "
        f"of at most {models.LARGEST_CIFAR_IMAGE} pixels).",
    ),
    "dropout": absl_flags.DEFINE_float(
        "dropout", None, "wrn: dropout rate in the blocks (default 0)."
    ),
}
NORMALIZE = absl_flags.DEFINE_bool(
    "normalize",
    _DEFAULT.normalize,
    "Normalize the pixels in the classifier's first layer.",
)
INIT_WEIGHTS = absl_flags.DEFINE_string(
    "init_weights",
    None,
    "Initial weights instead of random ones: a .keras or .weights.h5 file, or "
    "a run directory, whose best weights are used.",
)


def get_config(image_shape):
    """Makes the `ModelConfig` of the flags, for images of this shape."""
    given = {name: flag.value for name, flag in OPTIONS.items()}
    try:
        options = models.resolve_options(MODEL.value, given, image_shape)
    except ValueError as error:  # The zoo does not import the library.
        raise InputError(str(error)) from error
    if INIT_WEIGHTS.value is not None:
        weights_file(INIT_WEIGHTS.value)  # Fails before TensorFlow loads.
    return ModelConfig(
        model=MODEL.value,
        normalize=NORMALIZE.value,
        init_weights=INIT_WEIGHTS.value,
        **options,
    )
