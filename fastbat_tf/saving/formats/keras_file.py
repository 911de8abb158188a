"""Writes a Keras file that Keras loads without this package."""

import pathlib
import re
from typing import Any

import keras
from keras.src.models.functional import Functional

from fastbat_tf.errors import InputError
from fastbat_tf.layers.batch_normalization import FusedBatchNormalization
from fastbat_tf.saving.served import FormatOptions, Served
from fastbat_tf.training import loading


def write(served: Served, folder: pathlib.Path, options: FormatOptions) -> None:
    """Writes `model.keras`.

    It is the classifier without what belongs to its training, and takes images
    in [0, 1]. In place of layers of this package it has those of Keras that
    compute the same in inference, so that Keras alone loads it.

    Args:
        served: The `Served`.
        folder: `pathlib.Path` of an empty directory.
        options: The `FormatOptions`, none of which applies.

    Raises:
        InputError: If Keras cannot save the classifier, or not load it again.
    """
    del options
    file = folder / "model.keras"
    try:
        _of_keras_alone(served.classifier).save(file)
        # What Keras does not load is no use. The optimizer is left out.
        model: Any = keras.models.load_model(file, compile=False)
        _of_unit_range(model, served).save(file)
    except (AttributeError, NotImplementedError, TypeError, ValueError) as e:
        raise InputError(
            "A classifier that Keras can save and load is expected; choose "
            f"another format. Received: {_reason(e)}"
        ) from e


def _of_keras_alone(model):
    """Returns a copy without layers and activations of this package."""
    if not _is_graph(model):
        return model
    # A Sequential model has no calls of its layers to change.
    is_sequential = isinstance(model, keras.Sequential)
    copy = keras.models.clone_model(
        model,
        clone_function=_copy_layer,
        call_function=None if is_sequential else _call_copy,
        recursive=True,
    )
    _copy_weights(model, copy)
    return copy


def _of_unit_range(model, served):
    """Returns the model as one that takes images in [0, 1]."""
    low, high = served.pixel_range
    if (low, high) == (0, 1):
        return model
    inputs = keras.Input(served.shape, name="images")
    pixels = keras.layers.Rescaling(high - low, low)(inputs)
    return keras.Model(inputs, model(pixels), name=model.name)


def _is_graph(model):
    return isinstance(model, keras.Sequential | Functional)


def _copy_layer(layer):
    config = layer.get_config()
    if isinstance(layer, FusedBatchNormalization):
        del config["unbiased"]  # Of training.
        return keras.layers.BatchNormalization.from_config(config)
    return type(layer).from_config(config)


def _call_copy(layer, *args, **kwargs):
    """Calls a layer, or puts operations of Keras in its place."""
    function = getattr(layer, "activation", None)
    if isinstance(layer, keras.layers.Activation) and _is_ours(function):
        return function(*args)
    return layer(*args, **kwargs)


def _is_ours(function):
    name = keras.saving.get_registered_name(function)
    return name.startswith("fastbat_tf")


def _copy_weights(model, copy):
    # By name, since other operations may change the order of the layers.
    for layer in model.layers:
        if not layer.weights:
            continue
        twin = copy.get_layer(layer.name)
        if _is_graph(layer):
            _copy_weights(layer, twin)
        else:
            twin.set_weights(layer.get_weights())


def _reason(error):
    undefined = loading.find_undefined(error)
    if undefined:
        return "{}={}, which is not registered".format(*undefined)
    # Before the exception, Keras writes the config.
    text = str(error).rpartition("Exception encountered: ")[2]
    text = re.sub(r"\{'value': .*\}", "a lambda", text)  # Not its byte code.
    # Its advice in the further sentences is not for an export.
    sentence = re.split(r"\.\s|\n", text.strip())[0]
    return sentence or type(error).__name__
