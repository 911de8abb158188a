"""Loads the initial weights of a training from a file."""

import pathlib
from typing import cast

import h5py

from fastbat_tf.errors import InputError
from fastbat_tf.layers import structure
from fastbat_tf.runtime import display
from fastbat_tf.saving import trust
from fastbat_tf.saving.model_files import UNREADABLE
from fastbat_tf.saving.pytorch import files as torch_files
from fastbat_tf.saving.pytorch import weights as torch_weights


def load(classifier, path, received=None):
    """Loads the weights of a file into the layers of the same names.

    Args:
        classifier: A built functional `keras.Model`.
        path: Path of a `.keras` or `.weights.h5` file of a functional
            classifier or of a `RobustClassifier`, of which only the weights of
            its layers are read; or of a file of PyTorch, see
            `fastbat_tf.saving.pytorch.weights`.
        received: The path as the user gave it. Defaults to None: `path`.

    Raises:
        InputError: If the file cannot be read, or if a layer does not fit. The
            classifier then keeps its weights.

    Example:

    >>> robust.save_weights("best.weights.h5")
    >>> load(model, "best.weights.h5")
    """
    received = received or path
    if torch_files.is_torch_file(path):
        done = torch_weights.load(classifier, path, f"init_weights={received}")
        if done.normalization == torch_weights.KEPT:
            display.note(
                f"{received} has no mean and deviation of pixels: the model "
                "keeps those of the data set (--nonormalize: none)."
            )
        return
    try:
        found = _read(pathlib.Path(path), f"init_weights={received}")
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(
            "The weights cannot be read; expected the file of a functional "
            f"Keras model. Received: init_weights={received} ({error})"
        ) from error
    targets = _by_name(
        (layer.name, layer)
        for layer in structure.flatten(classifier)
        if _own_weights(layer)
    )
    expected = {name: _own_weights(layer) for name, layer in targets.items()}
    for name in [*expected, *found]:
        ours, theirs = (_shapes(x.get(name, {})) for x in (expected, found))
        if ours != theirs:
            raise InputError(
                f"The weights do not fit the model: the layer {name} is "
                f"expected to have {ours or 'no weights'}, not "
                f"{theirs or 'none'}. Received: init_weights={received}"
            )
    for name, own in found.items():
        targets[name].load_own_variables(own)


def _by_name(pairs):
    named = {}
    for name, value in pairs:
        if name in named:
            raise InputError(
                "Each layer is expected to have a unique name. "
                f"Received: layer={name}"
            )
        named[name] = value
    return named


def _own_weights(layer):
    """The weights of a layer without its sublayers, numbered as in files."""
    own = {}
    layer.save_own_variables(own)
    return own


def _shapes(own):
    return [tuple(own[key].shape) for key in sorted(own, key=int)]


def _read(file, received):
    """Reads the weights of each layer, by name."""
    with trust.open_weights(file, received) as root:
        if "classifier" in root:  # The file of a RobustClassifier.
            root = cast(h5py.Group, root["classifier"])
        groups = []

        def visit(path, group):
            # The states of random generators are not weights.
            if path.endswith("/vars") and "seed_generator" not in path:
                groups.append(group)

        cast(h5py.Group, root["layers"]).visititems(visit)
        return _by_name(
            (group.attrs["name"], {key: group[key][()] for key in group})
            for group in groups
            if len(group)
        )
