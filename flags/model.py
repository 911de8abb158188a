"""Flags of the model. A flag that does not apply to it is rejected."""

from absl import flags as absl_flags

from fastbat_tf import models
from fastbat_tf.errors import InputError
from fastbat_tf.experiment.config import ModelConfig
from fastbat_tf.experiment.run_directory import weights_file
from fastbat_tf.saving.pytorch import constants as torch_constants
from fastbat_tf.saving.pytorch import files as torch_files

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
        f"Activation (default relu): {', '.join(models.ACTIVATIONS)}; silu is "
        "swish.",
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
    "padding": absl_flags.DEFINE_string(
        "padding",
        None,
        f"wrn: padding of convolutions of stride 2: "
        f"{', '.join(models.PADDINGS)} (default symmetric; DeepMind's "
        "networks have same).",
    ),
    "shortcut": absl_flags.DEFINE_string(
        "shortcut",
        None,
        "preact_resnet18 and 34: what the shortcuts read: "
        f"{', '.join(models.SHORTCUTS)} (default input).",
    ),
    "head": absl_flags.DEFINE_string(
        "head",
        None,
        f"preact_resnet: {', '.join(models.HEADS)}: with BatchNorm and "
        "activation before pooling, or without (default normalized).",
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
    "Initial weights instead of random ones: a .keras or .weights.h5 file, a "
    "run directory, whose best weights are used, or a file of PyTorch "
    "(.safetensors; .pt and .pth if PyTorch is installed).",
)


def get_config(image_shape):
    """Makes the `ModelConfig` of the flags, for images of this shape."""
    given = {name: flag.value for name, flag in OPTIONS.items()}
    try:
        options = models.resolve_options(MODEL.value, given, image_shape)
    except ValueError as error:  # The zoo does not import the library.
        raise InputError(str(error)) from error
    mean, std = _get_constants()
    return ModelConfig(
        model=MODEL.value,
        normalize=NORMALIZE.value,
        init_weights=INIT_WEIGHTS.value,
        mean=mean,
        std=std,
        **options,
    )


def _get_constants():
    """Checks the initial weights, before TensorFlow loads.

    Returns:
        The mean and the deviation of pixels in a file of PyTorch, or None for
        each if there are none.
    """
    path = INIT_WEIGHTS.value
    if path is None:
        return None, None
    file = weights_file(path)
    if not torch_files.is_torch_file(file):
        return None, None
    received = f"init_weights={path}"
    found = torch_constants.read_file(file, received)
    if found and not NORMALIZE.value:
        raise InputError(
            "The network of the file normalizes pixels; expected no "
            f"--nonormalize. Received: {received}"
        )
    return found or (None, None)
