"""The model zoo: functional Keras classifiers from pixels to logits.

To add a model, write its function `build` in a file of this folder, and add one
entry to `MODELS` and one function to `members`. `docs/models.md` describes the
families and their options.
"""

from __future__ import annotations

import importlib
import numbers
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import keras


class ModelSpec(NamedTuple):
    """How a model is built.

    Attributes:
        module: Module of this package, whose function `build` adds the model
            to normalized images.
        arguments: Dict, the arguments of `build` that the name stands for;
            None for a family, whose names `parse` reads.
        options: Dict from the options that the user may choose to their
            defaults.
    """

    module: str
    arguments: dict[str, Any] | None
    options: dict


# A stem of None depends on the size of the images.
_RESIDUAL = {"width": 64, "activation": "relu", "stem": None}
_PREACT = {**_RESIDUAL, "head": "normalized"}
_PREACT_BASIC = {**_PREACT, "shortcut": "input"}
_WIDE = {
    "activation": "relu",
    "stem": None,
    "dropout": 0.0,
    "padding": "symmetric",
}

# Names of modules instead of functions, so that the flags can list the models
# without importing Keras. Capitals stand for numbers and names.
MODELS = {
    "resnet18": ModelSpec("resnet", {"depth": 18}, _RESIDUAL),
    "resnet34": ModelSpec("resnet", {"depth": 34}, _RESIDUAL),
    "resnet50": ModelSpec("resnet", {"depth": 50}, _RESIDUAL),
    "resnet101": ModelSpec("resnet", {"depth": 101}, _RESIDUAL),
    "resnet152": ModelSpec("resnet", {"depth": 152}, _RESIDUAL),
    "preact_resnet18": ModelSpec("preact_resnet", {"depth": 18}, _PREACT_BASIC),
    "preact_resnet34": ModelSpec("preact_resnet", {"depth": 34}, _PREACT_BASIC),
    "preact_resnet50": ModelSpec("preact_resnet", {"depth": 50}, _PREACT),
    "preact_resnet101": ModelSpec("preact_resnet", {"depth": 101}, _PREACT),
    "preact_resnet152": ModelSpec("preact_resnet", {"depth": 152}, _PREACT),
    "wrnDEPTH_WIDTH": ModelSpec("wide_resnet", None, _WIDE),
    "keras:NAME": ModelSpec("applications", None, {}),
}

# Networks of `keras.applications`, with the side of the smallest images, in
# pixels, that each accepts.
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
# Other names of the same, by option. Settings have the first name alone, so
# that runs compare.
SYNONYMS = {"activation": {"silu": "swish"}}
STEMS = ("cifar", "imagenet")
PADDINGS = ("symmetric", "same")
SHORTCUTS = ("input", "activated")
HEADS = ("normalized", "plain")
LARGEST_CIFAR_IMAGE = 64  # Pixels; larger images get the stem "imagenet".


def parse(name: str) -> ModelSpec:
    """Parses the name of a model.

    Args:
        name: String, such as `"wrn28_10"`.

    Returns:
        A `ModelSpec` with its arguments.

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
        return MODELS["wrnDEPTH_WIDTH"]._replace(
            arguments={"depth": depth, "widening": widening}
        )
    prefix, colon, application = name.partition(":")
    if colon and prefix == "keras":
        if application not in APPLICATIONS:
            raise ValueError(
                "Unknown network of keras.applications. Expected keras:NAME "
                f"with one of {', '.join(APPLICATIONS)}. Received: model={name}"
            )
        return MODELS["keras:NAME"]._replace(
            arguments={"application": application}
        )
    spec = MODELS.get(name)
    if spec is None or spec.arguments is None:
        raise ValueError(
            f"Unknown model. Expected one of {', '.join(MODELS)}. "
            f"Received: model={name}"
        )
    return spec


def resolve_options(
    name: str, given: dict[str, Any], input_shape: Sequence[int]
) -> dict[str, Any]:
    """Checks the options of a model, and fills in the defaults.

    Args:
        name: The name of a model.
        given: Dict of options, where None stands for the default.
        input_shape: `(height, width, channels)` of the images.

    Returns:
        Dict of all options of the model. The activation `"silu"` is named
        `"swish"`.

    Raises:
        ValueError: If an option does not apply to the model or is out of
            range, or if `input_shape` is too small or not of three numbers.

    Example:

    >>> resolve_options("resnet18", {"width": 16}, (224, 224, 3))
    {'width': 16, 'activation': 'relu', 'stem': 'imagenet'}
    """
    spec = parse(name)
    if len(input_shape) != 3:
        raise ValueError(
            "`input_shape` is expected to be (height, width, channels). "
            f"Received: input_shape={tuple(input_shape)}"
        )
    smallest = APPLICATIONS.get(spec.arguments.get("application", ""), 1)
    if min(input_shape[:2]) < smallest:
        raise ValueError(
            f"The model {name} needs images of at least {smallest} x "
            f"{smallest} pixels. "
            f"Received: input_shape={tuple(input_shape)}"
        )
    for option, value in given.items():
        if option not in spec.options and value is not None:
            raise ValueError(
                f"`{option}` does not apply to the model {name}, which has "
                f"{', '.join(spec.options) or 'no options'}. "
                f"Received: {option}={value}"
            )
    resolved = {
        option: default if given.get(option) is None else given[option]
        for option, default in spec.options.items()
    }
    if "stem" in resolved and resolved["stem"] is None:
        small = max(input_shape[:2]) <= LARGEST_CIFAR_IMAGE
        resolved["stem"] = "cifar" if small else "imagenet"
    for option, names in SYNONYMS.items():
        if option in resolved:
            value = resolved[option]
            resolved[option] = names.get(value, value)
    _check(resolved)
    return resolved


def _check(options):
    known = {
        "activation": ACTIVATIONS,
        "stem": STEMS,
        "padding": PADDINGS,
        "shortcut": SHORTCUTS,
        "head": HEADS,
    }
    for option, value in options.items():
        if option in known and value not in known[option]:
            raise ValueError(
                f"`{option}` is expected to be one of "
                f"{', '.join(known[option])}. Received: {option}={value}"
            )
        if option == "width":
            _check_count("width", value, 1)
        if option == "dropout" and not 0 <= value < 1:
            raise ValueError(
                f"`dropout` is expected in [0, 1). Received: dropout={value}"
            )


def _check_count(name, value, smallest):
    if not isinstance(value, numbers.Integral) or value < smallest:
        raise ValueError(
            f"`{name}` is expected to be an integer of at least {smallest}. "
            f"Received: {name}={value}"
        )


def get(
    name: str,
    num_classes: int = 10,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    input_shape: Sequence[int] = (32, 32, 3),
    batch_normalization: Any = None,
    **options: Any,
) -> keras.Model:
    """Builds a model with random weights.

    Args:
        name: A key of `MODELS`, such as `"preact_resnet18"`, or a name of one
            of its families, such as `"wrn28_10"` or
            `"keras:MobileNetV3Small"`.
        num_classes: Integer of at least 2, the number of logits. Defaults to
            10.
        mean: Sequence of floats, one per channel. The first layer subtracts it
            from the pixels. Defaults to None, which omits the normalization.
        std: Sequence of floats, one per channel, by which the first layer
            divides. Defaults to None; it is given if and only if `mean` is.
        input_shape: `(height, width, channels)` of the images. Defaults to
            `(32, 32, 3)`.
        batch_normalization: Layer class that takes `momentum`, `epsilon` and
            `name`. Defaults to None, which uses Keras' layer. `main.py` passes
            `fastbat_tf.FusedBatchNormalization`, with `unbiased=True`.
            The networks of `keras.applications` always have Keras' layer.
        **options: The options that the model has: `width`, the channels of the
            first group of blocks, defaults to 64; `activation`, one of
            `ACTIVATIONS`, or `"silu"`, which is `"swish"`, defaults to
            `"relu"`; `stem`, one of `STEMS`, depends on the size of the images
            by default; `dropout`, a rate in [0, 1), defaults to 0; `padding`,
            one of `PADDINGS`, defaults to `"symmetric"`; `shortcut`, one of
            `SHORTCUTS`, defaults to `"input"`; `head`, one of `HEADS`, defaults
            to `"normalized"`.

    Returns:
        A functional `keras.Model` from images in [0, 1], of shape `(batch,
        height, width, channels)`, to logits `(batch, num_classes)`.

    Raises:
        ValueError: If there is no such model, or an argument is invalid.

    Example:

    >>> get("preact_resnet18", num_classes=100, width=2).output_shape
    (None, 100)
    """
    options = resolve_options(name, options, input_shape)
    _check_count("num_classes", num_classes, 2)
    if (mean is None) != (std is None):
        raise ValueError(
            "`mean` and `std` are expected together, or neither. "
            f"Received: mean={mean}, std={std}"
        )
    spec = parse(name)
    blocks = importlib.import_module("fastbat_tf.models.blocks")
    build = importlib.import_module(f"fastbat_tf.models.{spec.module}").build
    inputs, x = blocks.begin(input_shape, mean, std)
    outputs = build(
        x,
        num_classes,
        batch_normalization=batch_normalization,
        **(spec.arguments or {}),
        **options,
    )
    return blocks.end(inputs, outputs, name)
