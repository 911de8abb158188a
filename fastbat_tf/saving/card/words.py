"""The sentences of a model card."""

from typing import Any

from fastbat_tf.data.registry import DATASETS
from fastbat_tf.methods.table import METHODS
from fastbat_tf.runtime import formatting
from fastbat_tf.saving.card import usage
from fastbat_tf.saving.card.numbers import (
    is_white_box,
    percent,
    radius,
    radius_with_norm,
)
from fastbat_tf.saving.model_info import ModelInfo
from fastbat_tf.saving.served import Served

# Those that Hugging Face has, with the names that it gives them.
HUB_DATASETS = {
    "cifar10": "uoft-cs/cifar10",
    "cifar10_mini": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "svhn_cropped": "ufldl-stanford/svhn",
    "tiny_imagenet": "zh-plus/tiny-imagenet",
    "imagenet2012": "ILSVRC/imagenet-1k",
    "mnist": "ylecun/mnist",
    "fashion_mnist": "zalando-datasets/fashion_mnist",
}
_ANSWERS_NAN = (
    "About an image with other pixels it answers NaN, and the class -1."
)
_CHECKS = {
    "saved_model": "Other input is refused with a message.",
    "keras": "It does not check the pixels.",
    "tflite": _ANSWERS_NAN,
    "tflite_int8": "Every uint8 pixel is valid.",
    "onnx": _ANSWERS_NAN,
    "stablehlo": _ANSWERS_NAN,
}
# Formats whose answers are not those of the model that was measured.
OTHER_ARITHMETIC = ("tflite_int8",)
# How an exported file may differ from the model that was measured.
OF_FORMATS = {
    "saved_model": "",
    "keras": "",
    "tflite_int8": (
        "The weights and activations of this file are 8-bit integers. The "
        "numbers above were measured on the float32 model from which it was "
        "made; --mode=evaluate --model_path measures this file."
    ),
}
OF_OTHERS = (
    "The numbers above were measured on the Keras model from which this file "
    "was made, whose logits differ from this file's by rounding alone."
)


def opening(info: ModelInfo) -> str:
    """Says in a sentence what the model is."""
    about = f" of {_data_name(info)}" if info.dataset else ""
    begin = f"An image classifier{about}"
    if info.method is None:
        return (
            f"{begin}. How it was trained, and against which adversarial "
            "examples, is not known."
        )
    if not _is_adversarial(info):
        return (
            f"{begin}, trained without adversarial examples: expect no "
            "robustness against them."
        )
    if info.epsilon is None or info.norm is None:
        return (
            f"{begin}, trained to withstand adversarial examples within a "
            "radius that is not known."
        )
    within = radius_with_norm(info.epsilon, info.norm)
    return (
        f"{begin}, trained to withstand adversarial examples: images whose "
        f"pixels were changed by at most {within} so that a classifier errs."
    )


def _is_adversarial(info):
    spec = METHODS.get(info.method)
    return spec is None or spec.has_attack


def _data_name(info) -> str:
    return "a folder of images" if info.dataset == "folder" else info.dataset


def facts(served: Served, file: str | None) -> list[tuple[str, str]]:
    """Returns pairs of a name and a text about the model.

    Args:
        served: The `Served`.
        file: String, the name of the file; None for a directory.
    """
    info = served.info
    names = info.class_names
    listed = f"{served.network.outputs.classes}"
    if names:
        listed += f": {', '.join(names)}"
    else:
        listed += "; their names are not known"
    data = _data_name(info) if info.dataset else "unknown"
    return [
        ("file", file or "this directory"),
        ("network", info.network or "unknown"),
        ("parameters", f"{served.classifier.count_params():,}"),
        ("classes", listed),
        ("training data", data),
        ("training method", info.method or "unknown"),
        ("training epsilon", _training_radius(info)),
    ]


def _training_radius(info):
    if info.epsilon is not None and info.norm is not None:
        return radius_with_norm(info.epsilon, info.norm)
    if info.method is not None and not _is_adversarial(info):
        return "none"
    return "unknown"


def verdict(info: ModelInfo, form: str) -> str:
    """Says how robust the model is, or the one that was measured.

    Args:
        info: The `ModelInfo`.
        form: The format of the file.
    """
    if info.results is None:
        return (
            "Not measured: nothing is known about the robustness of this "
            "model. Expect none."
        )
    subject = "It"
    if form in OTHER_ARITHMETIC:
        subject = "The float32 model from which this file was made"
    clean = (
        f"{subject} classifies {percent(info.results['clean_accuracy'])} of "
        f"{info.results['examples']:,} clean images correctly."
    )
    row = info.worst_case
    if row is None:
        if not info.rows:
            return f"{clean} No attack has been run."
        return (
            f"{clean} It was not measured at the radius that it was trained "
            "for; the table has what was measured."
        )
    attacks = _listed(row.get("attacks", [row["attack"]]))
    return (
        f"{clean} {percent(row['robust_accuracy'])} of {row['examples']:,} "
        f"images withstand {attacks} at epsilon {radius(row)}, the lowest "
        "accuracy that was measured there."
    )


def caveats(info: ModelInfo, split: str | None, form: str) -> list[str]:
    """Returns sentences about what the numbers do not say.

    Args:
        info: The `ModelInfo`.
        split: String, the images that were measured; None if unknown.
        form: The format of the file.
    """
    if info.results is None:
        return [
            "Robustness is a property that has to be measured: "
            "--mode=evaluate of fastbat_tf does it."
        ]
    sizes = {row["examples"] for row in info.rows}
    sizes.add(info.results["examples"])
    counts = " and ".join(f"{size:,}" for size in sorted(sizes))
    where = split or "images; whether it was trained on them is not known"
    found = [
        f"Measured on {counts} {where}.",
        "Accuracy under attack bounds robustness from above: a stronger attack "
        "may break more images.",
    ]
    names = [r["attack"] for r in info.rows if "attacks" not in r]
    if names and not any(map(is_white_box, names)):
        found.append(
            f"No attack that uses the model's gradients was run, only "
            f"{_listed(sorted(set(names)))}: such attacks find fewer "
            "adversarial examples than an attacker who has the model."
        )
    found.append(OF_FORMATS.get(form, OF_OTHERS))
    found += info.doubts
    found += info.results.get("warnings", [])
    found += info.results.get("notes", [])
    return [text for text in dict.fromkeys(found) if text]


def split(info: ModelInfo) -> str | None:
    """Says which images were measured; None if it is not known."""
    name = split_name(info)
    if name is None:
        return None
    secret = ", which is used as the test split" if name != "test" else ""
    return (
        f"images of the {name} split of {_data_name(info)}{secret}, which "
        "neither the training nor the choice of the epoch has seen"
    )


def split_name(info: ModelInfo) -> str | None:
    """Returns the name of the split that a run measures; None if unknown."""
    if not info.config or not info.dataset:
        return None
    spec = DATASETS.get(info.dataset)
    return spec.test_split if spec else None


def training(info: ModelInfo) -> list[str]:
    """Returns sentences about the training."""
    config: dict[str, Any] = info.config or {}
    lines = [_data(info), *_added(config.get("data", {})), _method(info)]
    options = config.get("method", {}).get("options")
    if options:
        lines.append(f"Options of the method: {_options(options)}.")
    settings = config.get("training")
    if settings:
        epochs = settings["epochs"]
        lines.append(
            f"{epochs} {'epoch' if epochs == 1 else 'epochs'}, batches of "
            f"{settings['batch_size']} images, seed {settings['seed']}."
        )
    if info.best_epoch is not None:
        lines.append(
            f"These are the weights after epoch {info.best_epoch}, which was "
            "the best one on the validation split."
        )
    if info.initial_weights and config:
        lines.append(f"It started from the weights {info.initial_weights}.")
    elif info.initial_weights:
        lines.append(f"These are the weights {info.initial_weights}.")
    elif config:
        lines.append("It started from random weights.")
    if info.device:
        lines.append(f"Trained on {info.device}.")
    return lines


def _data(info):
    if info.dataset is None:
        return "The training data are not known."
    spec = DATASETS.get(info.dataset)
    name = _data_name(info)
    if info.dataset == "folder":
        return "Training data: a folder of images, which is not public."
    if info.dataset == "cifar10_mini":
        name += ", a part of CIFAR-10"
    if spec is None or spec.counts is None:
        return f"Training data: {name}."
    train, test = spec.counts
    settings = (info.config or {}).get("data", {})
    used = settings.get("training_examples")
    share = settings.get("validation_share")
    text = f"Training data: {name}, {train:,} training and {test:,} test images"
    if share is not None:
        text += f"; {share:g} of the training images are the validation split"
    if used:
        text += f", and {used:,} of the others were used"
    return f"{text}."


def _added(settings):
    """Sentences about what is not in the data set itself."""
    lines = []
    if settings.get("extra_data"):
        lines.append(
            f"{100 * settings['extra_fraction']:g} % of each batch were extra "
            "images, which are no part of it (fingerprint "
            f"{settings['extra_fingerprint']})."
        )
    if settings.get("cutmix"):
        lines.append("CutMix mixed the images and the labels of each batch.")
    return lines


def _method(info):
    if info.method is None:
        return "The training method is not known."
    spec = METHODS.get(info.method)
    if spec is None:
        return f"Training method: {info.method}."
    text = f"Training method: {info.method}, {spec.summary}"
    if spec.paper is not None:
        cited = ", ".join(part for part in spec.paper if part)
        text += f" ({cited})"
    return f"{text}."


def _options(options):
    norm = options.get("norm", "linf")
    texts = []
    for name, value in options.items():
        shown = value
        if name in ("epsilon", "step_size") and isinstance(value, float):
            shown = formatting.radius(value, norm)
        elif isinstance(value, float):
            shown = formatting.number(value)
        texts.append(f"{name}={shown}")
    return ", ".join(texts)


def preprocessing(served: Served, form: str) -> str:
    """Says what the model takes and answers."""
    height, width, channels = (size or "any" for size in served.shape)
    shape = f"(batch, {height}, {width}, {channels})"
    known = {1: "gray levels", 3: "RGB"}
    colors = known.get(served.shape[-1], f"{channels} channels")
    if form == "stablehlo":
        shape += ", in batches of the size that model.json tells"
    kind = "uint8 pixels from 0 to 255"
    if form != "tflite_int8":
        kind = "float32 pixels in [0, 1]"
    text = f"It takes images {shape}, {colors}, as {kind}."
    if form == "saved_model":
        text += (
            " The signature serve_uint8 takes uint8 pixels from 0 to 255"
            + (
                ", and serve_bytes the content of image files."
                if served.reading
                else "."
            )
        )
    text += (
        " What maps pixels to the scale that the network takes, such as a "
        "normalization, is part of the model: do not normalize images yourself."
    )
    text += f" {_CHECKS[form]} {_resizing(served, form)}"
    answers = (
        _keras_answers(served.network.outputs)
        if form == "keras"
        else "logits, probabilities and the number of the most likely class, "
        "in the order of the classes above"
    )
    return f"{text} It answers with {answers}."


def _keras_answers(outputs):
    what = usage.keras_answer(outputs)
    if not outputs.is_binary:
        return f"{what}, in the order of the classes above"
    least = "0" if outputs.from_logits else "0.5"
    return f"the {what} of the second class, which is chosen above {least}"


def _resizing(served, form):
    reading = served.reading
    if reading is None:
        return "Resize images as in the training."
    size = f"{reading.height} x {reading.width}"
    how = f"to {size}, bilinearly, whatever their shape"
    if reading.short_side is not None:
        how = (
            f"bilinearly so that their short side has {reading.short_side} "
            f"pixels, and the center of {size} is kept"
        )
    if form == "saved_model":
        return f"Files of another size are resized {how}."
    return f"Images of another size have to be resized first: {how}."


def _listed(names):
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
