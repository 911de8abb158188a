"""The model zoo: functional Keras classifiers from pixels to logits.

`docs/models.md` describes the families, their options and their layers.
"""

import importlib
import re
from typing import NamedTuple

# Module and depth by name: names instead of functions, so that the flags can
# list them without importing Keras. Capitals stand for numbers and names.
MODELS = {
    "resnet18": ("resnet", 18),
    "resnet34": ("resnet", 34),
    "resnet50": ("resnet", 50),
    "resnet101": ("resnet", 101),
    "resnet152": ("resnet", 152),
    "preact_resnet18": ("preact_resnet", 18),
    "preact_resnet34": ("preact_resnet", 34),
    "preact_resnet50": ("preact_resnet", 50),
    "preact_resnet101": ("preact_resnet", 101),
    "preact_resnet152": ("preact_resnet", 152),
    "wrnDEPTH_WIDTH": ("wide_resnet", None),
    "keras:NAME": ("applications", None),
}

# Of `keras.applications`, with the smallest images, in pixels, that each
# can take.
APPLICATIONS = {
    "ConvNeXtTiny": 32,
    "ConvNeXtSmall": 32,
    "ConvNeXtBase": 32,
    "ConvNeXtLarge": 32,
    "ConvNeXtXLarge": 32,
    "DenseNet121": 32,
    "DenseNet169": 32,
    "DenseNet201": 32,
    "EfficientNetB0": 32,
    "EfficientNetB1": 32,
    "EfficientNetB2": 32,
    "EfficientNetB3": 32,
    "EfficientNetB4": 32,
    "EfficientNetB5": 32,
    "EfficientNetB6": 32,
    "EfficientNetB7": 32,
    "EfficientNetV2B0": 32,
    "EfficientNetV2B1": 32,
    "EfficientNetV2B2": 32,
    "EfficientNetV2B3": 32,
    "EfficientNetV2S": 32,
    "EfficientNetV2M": 32,
    "EfficientNetV2L": 32,
    "InceptionResNetV2": 75,
    "InceptionV3": 75,
    "MobileNet": 32,
    "MobileNetV2": 32,
    "MobileNetV3Small": 32,
    "MobileNetV3Large": 32,
    "NASNetMobile": 32,
    "NASNetLarge": 32,
    "ResNet50": 32,
    "ResNet101": 32,
    "ResNet152": 32,
    "ResNet50V2": 32,
    "ResNet101V2": 32,
    "ResNet152V2": 32,
    "VGG16": 32,
    "VGG19": 32,
    "Xception": 71,
}

ACTIVATIONS = ("relu", "softplus", "swish")
STEMS = ("cifar", "imagenet")
LARGEST_CIFAR_IMAGE = 64  # Pixels; larger images get the other stem.

# By module: what can be chosen, and what it is by default. A stem of None
# goes by the size of the images.
_RESIDUAL = {"width": 64, "activation": "relu", "stem": None}
OPTIONS = {
    "resnet": _RESIDUAL,
    "preact_resnet": _RESIDUAL,
    "wide_resnet": {"activation": "relu", "stem": None, "dropout": 0.0},
    "applications": {},
}


class ParsedModel(NamedTuple):
    """A model as its name says.

    Attributes:
        module: Of this package.
        arguments: Dict, of its function `build`.
    """

    module: str
    arguments: dict


def parse(name):
    """Reads the name of a model, such as `"wrn28_10"`.

    Returns:
        A `ParsedModel`.

    Raises:
        ValueError: If there is no such model; lists the known ones.

    Example:

    >>> parse("wrn28_10").arguments
    {'depth': 28, 'widening': 10}
    """
    wide = re.fullmatch(r"wrn(\d+)_(\d+)", name)
    if wide:
        depth, widening = map(int, wide.groups())
        if depth < 10 or depth % 6 != 4 or widening < 1:
            raise ValueError(
                "The name of a WideResNet is expected to be wrnDEPTH_WIDTH "
                "with a depth of 6n + 4, such as 10, 16, 22, 28, 34, 40 or 70, "
                "and a width of at least 1, such as wrn28_10. "
                f"Received: model={name}"
            )
        return ParsedModel(
            "wide_resnet", {"depth": depth, "widening": widening}
        )
    prefix, colon, application = name.partition(":")
    if colon and prefix == "keras":
        if application not in APPLICATIONS:
            raise ValueError(
                "Unknown network of keras.applications. Expected keras:NAME "
                f"with one of {', '.join(APPLICATIONS)}. Received: model={name}"
            )
        return ParsedModel("applications", {"application": application})
    module, depth = MODELS.get(name, (None, None))
    if depth is None:
        raise ValueError(
            f"Unknown model. Expected one of {', '.join(MODELS)}. "
            f"Received: model={name}"
        )
    return ParsedModel(module, {"depth": depth})


def resolve_options(name, given, input_shape):
    """Checks the given options of a model and fills in the others.

    Args:
        name: The name of a model.
        given: Dict of options; None stands for the default.
        input_shape: `(height, width, channels)` of the images.

    Returns:
        Dict of all options of the model.

    Raises:
        ValueError: If an option does not apply to the model or is out of its
            range, or if the model cannot take such images.

    Example:

    >>> resolve_options("resnet18", {"width": 16}, (224, 224, 3))
    {'width': 16, 'activation': 'relu', 'stem': 'imagenet'}
    """
    module, arguments = parse(name)
    defaults = OPTIONS[module]
    smallest = APPLICATIONS.get(arguments.get("application", ""), 1)
    if min(input_shape[:2]) < smallest:
        raise ValueError(
            f"The model {name} is expected to get images of at least "
            f"{smallest} x {smallest} pixels. "
            f"Received: input_shape={tuple(input_shape)}"
        )
    for option, value in given.items():
        if option not in defaults and value is not None:
            raise ValueError(
                f"`{option}` does not apply to the model {name}, which has "
                f"{', '.join(defaults) or 'no options'}. "
                f"Received: {option}={value}"
            )
    resolved = {
        option: default if given.get(option) is None else given[option]
        for option, default in defaults.items()
    }
    if "stem" in resolved and resolved["stem"] is None:
        small = max(input_shape[:2]) <= LARGEST_CIFAR_IMAGE
        resolved["stem"] = "cifar" if small else "imagenet"
    _check(resolved)
    return resolved


def _check(options):
    known = {"activation": ACTIVATIONS, "stem": STEMS}
    for option, value in options.items():
        if option in known and value not in known[option]:
            raise ValueError(
                f"`{option}` is expected to be one of "
                f"{', '.join(known[option])}. Received: {option}={value}"
            )
        if option == "width" and value < 1:
            raise ValueError(
                f"`width` is expected to be at least 1. Received: width={value}"
            )
        if option == "dropout" and not 0 <= value < 1:
            raise ValueError(
                f"`dropout` is expected in [0, 1). Received: dropout={value}"
            )


def get(
    name,
    num_classes=10,
    mean=None,
    std=None,
    input_shape=(32, 32, 3),
    batch_normalization=None,
    **options,
):
    """Builds a model.

    Args:
        name: A key of `MODELS`, such as `"preact_resnet18"`, or a name of the
            forms in it, such as `"wrn28_10"` or `"keras:MobileNetV3Small"`.
        num_classes: Integer, the number of logits.
        mean: Sequence of floats per channel, subtracted from the pixels by
            the first layer, or None for no normalization.
        std: Sequence of floats per channel, or None.
        input_shape: `(height, width, channels)`.
        batch_normalization: The layer class, called with `momentum`, `epsilon`
            and `name`; that of Keras by default. Keras' own has wrong second
            derivatives on TensorFlow: give
            `fastbat_tf.layers.BatchNormalization` for training. The networks
            of `keras.applications` have that of Keras in any case.
        **options: Those in `OPTIONS` that the model has: `width`, the channels
            of the first group of blocks; `activation`, one of `ACTIVATIONS`;
            `stem`, one of `STEMS`, or None, which goes by the size of the
            images; `dropout`, a rate in [0, 1).

    Returns:
        A functional `keras.Model` from images in [0, 1], of shape `(batch,
        height, width, channels)`, to logits `(batch, num_classes)`.

    Raises:
        ValueError: If there is no such model, or it cannot be had like this.

    Example:

    >>> get("preact_resnet18").count_params() - 9600  # Moving statistics aside.
    11172170
    """
    options = resolve_options(name, options, input_shape)
    if num_classes < 2:
        raise ValueError(
            "`num_classes` is expected to be at least 2. "
            f"Received: num_classes={num_classes}"
        )
    if (mean is None) != (std is None):
        raise ValueError(
            "`mean` and `std` are expected together or not at all. "
            f"Received: mean={mean}, std={std}"
        )
    module, arguments = parse(name)
    blocks = importlib.import_module("models.blocks")
    build = importlib.import_module(f"models.{module}").build
    inputs, x = blocks.begin(input_shape, mean, std)
    if module == "applications":
        outputs = build(x, num_classes, **arguments)
    else:
        outputs = build(
            x, num_classes, batch_normalization, **arguments, **options
        )
    return blocks.end(inputs, outputs, name)
