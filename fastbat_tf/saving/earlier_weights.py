"""Loads weights that were saved before a layer of the zoo was renamed."""

import pathlib
import re
import shutil
import tempfile

import h5py

from fastbat_tf.layers import FusedBatchNormalization
from fastbat_tf.layers.structure import flatten
from fastbat_tf.saving import trust

_EARLIER = re.compile(r"batch_normalization(_\d+)?")


def load_weights(model, path):
    """Loads weights, also those of `BatchNormalization` of earlier versions.

    Keras names the weights in a file after the classes of the layers, and
    `FusedBatchNormalization` once had another name.

    Args:
        model: A built `keras.Model`.
        path: A `pathlib.Path` of a `.weights.h5` file.

    Raises:
        ValueError: If the weights are those of another model.
    """
    with trust.open_weights(path, f"path={path}"):
        pass  # It may come from someone else.
    fused = any(isinstance(x, FusedBatchNormalization) for x in flatten(model))
    names = _find_earlier(path) if fused else []
    if not names:
        model.load_weights(path)
        return
    with tempfile.TemporaryDirectory() as directory:
        copy = pathlib.Path(directory, path.name)
        shutil.copy(path, copy)
        with h5py.File(copy, "r+") as file:
            for name in names:
                parent, _, last = name.rpartition("/")
                file.move(name, f"{parent}/fused_{last}")
        model.load_weights(copy)


def _find_earlier(path):
    found = []
    with h5py.File(path, "r") as file:
        file.visit(found.append)
    return [n for n in found if _EARLIER.fullmatch(n.rpartition("/")[2])]
