"""Loads the weights of published PyTorch networks into the zoo's networks."""

import pathlib
import re
from typing import Any, NamedTuple

import keras
import numpy as np

from fastbat_tf.data.examples import describe
from fastbat_tf.errors import InputError
from fastbat_tf.layers import structure
from fastbat_tf.saving.pytorch import constants as torch_constants
from fastbat_tf.saving.pytorch import files as torch_files
from fastbat_tf.saving.pytorch import names as torch_names
from fastbat_tf.saving.pytorch.names import (
    PREACT,
    RESNET,
    SAME,
    SYMMETRIC,
    WIDE,
    listed,
)
from fastbat_tf.training.classifier import RobustClassifier

# Keras' and PyTorch's names of the weights of a layer.
_BATCH_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
READ, KEPT = "read", "kept"


class TorchWeights(NamedTuple):
    """What `load_torch_weights` has done.

    Attributes:
        network: String, the kind of the network, such as `"WideResNet"`.
        tensors: Integer, how many tensors of the file are weights now.
        normalization: `"read"` if the file has the mean and the deviation of
            the pixels, which the first layer has now; `"kept"` if it has none,
            and the first layer keeps its own; None if there is no such layer.
        unused: Tuple of the names of tensors that no network needs.

    Example:

    >>> model = fb.models.wrn(10, 2, activation="swish", padding="same",
    ...     mean=(0.5,) * 3, std=(0.25,) * 3)
    >>> done = fb.load_torch_weights(model, "robust.safetensors")
    >>> done.network, done.tensors, done.normalization
    ('WideResNet', 40, 'read')
    """

    network: str
    tensors: int
    normalization: str | None
    unused: tuple[str, ...]


def load_torch_weights(
    model: keras.Model, path: str | pathlib.Path
) -> TorchWeights:
    """Loads the weights of a PyTorch network into a network of the zoo.

    The file holds the `state_dict` of a ResNet or PreActResNet under the names
    of the usual programs for CIFAR or of torchvision, or of a WideResNet under
    Zagoruyko's or DeepMind's. Wrappers, such as `module.`, do not matter.

    The names cannot tell everything; the model must be built like the network:

    * `activation="swish"` for DeepMind's WideResNets with SiLU (Gowal, Rebuffi,
      Wang), and `padding="same"` for all of DeepMind's;
    * `shortcut="activated"` for the PreActResNet-18 of Rice and Kireev, and
      `"input"`, the default, for those of Wong, Andriushchenko and Fast-BAT;
    * `head="plain"` where no BatchNorm precedes the last layer (Wong,
      Andriushchenko);
    * `mean` and `std` if and only if the network normalizes pixels. Those of
      the file, if it has them, replace the model's.

    Load before the model is trained or called: what Keras has compiled before
    would keep the mean and the deviation of the pixels.

    Args:
        model: A network of `fastbat_tf.models`, or a `RobustClassifier` of one.
        path: Path of a `.safetensors` file, or of a `.pt` or `.pth` file if
            PyTorch is installed, which reads it with `weights_only=True`.

    Returns:
        The `TorchWeights`, which say what was done.

    Raises:
        InputError: If the file cannot be read, or holds more than tensors; if
            the model is not of the zoo; or if a tensor is missing, too many,
            misshapen or not finite, or an option of the model is wrong. The
            model then keeps its weights.

    Example:

    ```python
    import fastbat_tf as fb

    model = fb.models.wrn(
        10,
        2,
        activation="swish",
        padding="same",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2471, 0.2435, 0.2616),
    )
    fb.load_torch_weights(model, "robust.safetensors")
    ```
    """
    return load(model, path, f"path={path}")


def load(model: keras.Model, path: Any, received: str) -> TorchWeights:
    """Does what `load_torch_weights` does, with `name=value` for errors."""
    classifier = model
    if isinstance(model, RobustClassifier):
        classifier = model.classifier
    if not isinstance(classifier, keras.Model):
        raise InputError(
            "A model of fastbat_tf.models is expected first, then the path. "
            f"Received: model={describe(model)}"
        )
    layers = {layer.name: layer for layer in structure.flatten(classifier)}
    network = _find_network(layers, classifier)
    tensors = torch_files.open_tensors(path, received)
    contents = torch_names.sort(tensors.shapes, received)
    naming = torch_names.recognize(contents.weights, received)
    _expect_network(naming, network, layers, received)
    wanted = _match(layers, naming, contents.weights)
    _expect_fit(wanted, contents.weights, tensors.shapes, received)
    constants = torch_constants.read(contents, tensors, received)
    _expect_normalization(constants, layers.get("normalization"), received)
    values = {name: tensors.read(contents.weights[name]) for name in wanted}
    _expect_finite(values, received)
    for name, weight in wanted.items():
        weight.variable.assign(np.transpose(values.pop(name), weight.axes))
    normalization = KEPT if "normalization" in layers else None
    if constants:
        normalization = READ
        _normalize(layers["normalization"], *constants)
        for each in (classifier, model):  # They hold the constants.
            each.train_function = None
            each.test_function = None
            each.predict_function = None
    unused = tuple(contents.unused)
    return TorchWeights(network, len(wanted), normalization, unused)


class _Weight(NamedTuple):
    """A weight of the model: its layer, and the axes of PyTorch's in it."""

    layer: str
    variable: keras.Variable
    axes: tuple[int, ...]

    @property
    def shape(self):
        """The shape that PyTorch's tensor has."""
        shape = self.variable.shape
        return tuple(shape[self.axes.index(n)] for n in range(len(shape)))


def _find_network(layers, classifier):
    groups = {re.match(r"group(\d+)\.block\d+\.", name) for name in layers}
    count = len({match[1] for match in groups if match})
    if {"stem.conv", "head.dense"} <= {*layers} and count in (3, 4):
        if "stem.bn" in layers:
            return RESNET
        return WIDE if count == 3 else PREACT
    raise InputError(
        "Weights of PyTorch fit a network of fastbat_tf.models alone; expected "
        f"a {RESNET}, {PREACT} or {WIDE}. Received: model={classifier.name}"
    )


def _expect_network(naming, network, layers, received):
    if naming.network != network:
        raise InputError(
            f"The weights are those of a {naming.network}; expected those of a "
            f"{network}, which the model is. Received: {received}"
        )
    has_pad = "group2.block1.conv1.pad" in layers
    padding = SYMMETRIC if has_pad else SAME
    if network == WIDE and padding != naming.padding:
        raise InputError(
            f"The names are {naming.author}, whose networks have padding "
            f'"{naming.padding}"; expected a model built with it '
            f"(--padding={naming.padding}). Received: {received}, "
            f"padding={padding}"
        )


def _match(layers, naming, names):
    """Finds the tensor of each weight of the model."""
    wanted = {}
    for layer in layers.values():
        variables = _variables(layer)
        if not variables:
            continue
        known = torch_names.candidates(naming, layer.name)
        found = (name for name in known if f"{name}.weight" in names)
        name = next(found, known[0])
        for own, (variable, axes) in variables.items():
            wanted[f"{name}.{own}"] = _Weight(layer.name, variable, axes)
    return wanted


def _variables(layer):
    """The variables of a layer, with the axes of PyTorch's tensors in them."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return {
            theirs: (getattr(layer, ours), (0,))
            for ours, theirs in _BATCH_NORM.items()
        }
    axes = {keras.layers.Conv2D: (2, 3, 1, 0), keras.layers.Dense: (1, 0)}
    if type(layer) not in axes:
        return {}
    variables = {"weight": (layer.kernel, axes[type(layer)])}
    if layer.bias is not None:
        variables["bias"] = (layer.bias, (0,))
    return variables


def _expect_fit(wanted, names, shapes, received):
    """Refuses tensors that are missing, too many, or misshapen."""
    missing = [name for name in wanted if name not in names]
    extra = [name for name in names if name not in wanted]
    wrong = {
        name: (shapes[names[name]], weight)
        for name, weight in wanted.items()
        if name in names and shapes[names[name]] != weight.shape
    }
    if not (missing or extra or wrong):
        return
    found = [
        f"{what} {listed(which)}"
        for what, which in (
            ("it lacks", missing),
            ("it has too many:", [names[name] for name in extra]),
            (
                "misshapen are",
                [
                    f"{names[name]} {shape}, expected {weight.shape}"
                    for name, (shape, weight) in wrong.items()
                ],
            ),
        )
        if which
    ]
    hints = _hints(missing, extra, wrong, wanted)
    raise InputError(
        f"The file does not fit the model: {'; '.join(found)}"
        f"{''.join(f'. {hint}' for hint in hints)}. Received: {received}"
    )


def _hints(missing, extra, wrong, wanted):
    """Says which option of the model is wrong, where the tensors tell."""
    hints = []
    for shape, weight in wrong.values():
        if weight.layer == "head.dense" and len(weight.axes) == 2:
            if shape[1:] == weight.shape[1:]:
                hints.append(
                    f"The file has {shape[0]} classes, the model "
                    f"{weight.shape[0]}"
                )
        elif weight.layer == "stem.conv" and shape[2:] != weight.shape[2:]:
            stem = {(3, 3): "cifar", (7, 7): "imagenet"}.get(shape[2:])
            if stem:
                hints.append(f'Its first layers are those of stem="{stem}"')
    if any(wanted[name].layer == "head.bn" for name in missing):
        hints.append('It may be a network with head="plain"')
    if "bn.weight" in extra:
        hints.append('It may be a network with head="normalized"')
    return hints


def _expect_finite(values, received):
    wrong = [
        name
        for name, value in values.items()
        if not np.isfinite(value).all()
        or (name.endswith(".running_var") and (value < 0).any())
    ]
    if wrong:
        raise InputError(
            "Expected finite weights, and variances that are not negative; "
            f"others are in {listed(wrong)}. Received: {received}"
        )


def _expect_normalization(constants, layer, received):
    if constants is None:
        return
    mean, std = ([round(float(x), 6) for x in c] for c in constants)
    if layer is None:
        raise InputError(
            f"The network normalizes pixels, with mean={mean} and std={std}; "
            "expected a model built with them (without --nonormalize). "
            f"Received: {received}"
        )
    if len(mean) != layer.mean.shape[-1]:
        raise InputError(
            f"The mean of the pixels is expected to have {layer.mean.shape[-1]}"
            f" numbers, not {len(mean)}. Received: {received}"
        )


def _normalize(layer, mean, std):
    """Gives a normalization other constants, as if it was made with them."""
    layer.input_mean, layer.input_variance = mean, std**2
    layer.build(layer._build_input_shape)
