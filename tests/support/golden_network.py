"""Reads golden files, and builds their networks."""

import contextlib
import json
import pathlib
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from fastbat_tf import models
from tests.support import testing


class Recording(NamedTuple):
    """A golden file.

    Attributes:
        name: String, the stem of the file name.
        meta: Dict, the settings.
        arrays: Dict of everything else.
    """

    name: str
    meta: dict
    arrays: dict


class RecordedDraws:
    """Returns recorded numbers, by name, instead of random draws."""

    def __init__(self, noise):
        self.noise = noise

    def uniform(self, name, shape, minval, maxval, dtype):
        del shape, minval, maxval
        return tf.cast(self.noise[name], dtype)


def load(path):
    """Reads a golden file."""
    path = pathlib.Path(path)
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    meta = json.loads(str(arrays.pop("meta")))
    return Recording(path.stem, meta, arrays)


def build_classifier(recording, prefix="weights0", images="x1"):
    """Builds the recorded network, and loads its weights."""
    weights = weights_of(recording, prefix)
    meta = recording.meta
    normalize = meta.get("normalize", "mean" in meta)
    name = network_of(weights)
    width = weights["stem/conv/kernel"].shape[-1]
    classifier = models.get(
        name,
        # The name of a WideResNet holds its width.
        width=None if name.startswith("wrn") else width,
        num_classes=weights["head/dense/kernel"].shape[-1],
        activation=activation_of(recording),
        mean=meta["mean"] if normalize else None,
        std=meta["std"] if normalize else None,
        input_shape=recording.arrays[images].shape[1:],
        batch_normalization=testing.ZOO_NORMALIZATION,
    )
    load_weights(classifier, weights)
    return classifier


def network_of(weights):
    """Infers the name of the network from the names of its weights."""
    blocks = sum(name.endswith("/conv1/kernel") for name in weights)
    bottleneck = "group1/block1/conv3/kernel" in weights
    if "stem/bn/gamma" in weights:
        family = "resnet"
    elif "group4/block1/conv1/kernel" not in weights:
        width = weights["group1/block1/conv1/kernel"].shape[-1] // 16
        return _known(f"wrn{2 * blocks + 4}_{width}")
    else:
        family = "preact_resnet"
    per_block = 3 if bottleneck else 2
    return _known(f"{family}{per_block * blocks + 2}")


def _known(name):
    models.parse(name)
    return name


def activation_of(recording):
    """The activation, from `meta` or from the name of the file."""
    if "activation" in recording.meta:
        return recording.meta["activation"]
    known = [name for name in models.ACTIVATIONS if name in recording.name]
    return known[0] if known else "relu"


def weights_of(recording, prefix):
    """The recorded arrays under `prefix`, by the rest of their names."""
    return {
        name.removeprefix(f"{prefix}/"): array
        for name, array in recording.arrays.items()
        if name.startswith(f"{prefix}/")
    }


def load_weights(classifier, weights):
    """Assigns recorded weights by name; all must match."""
    variables = named_weights(classifier)
    if set(variables) != set(weights):
        raise ValueError(
            "Layers and recorded weights differ. "
            f"Received: names={sorted(set(variables) ^ set(weights))}"
        )
    for name, variable in variables.items():
        variable.assign(weights[name])


def named_weights(classifier):
    """The weights of a classifier, by their golden names."""
    return {v.path.replace(".", "/"): v for v in classifier.weights}


@contextlib.contextmanager
def precision(dtype):
    """A context in which models are built in `dtype`."""
    before = keras.config.floatx()
    # First, for Keras' policy is that of `floatx` until one is set.
    with policy(dtype):
        keras.config.set_floatx(dtype)
        try:
            yield
        finally:
            keras.config.set_floatx(before)


@contextlib.contextmanager
def policy(name):
    """A context in which models have a policy, such as `mixed_bfloat16`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
