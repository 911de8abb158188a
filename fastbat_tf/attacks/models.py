"""Models of every form, as functions from pixels in [0, 1] to logits."""

import functools
import os
from typing import Any

import keras

from fastbat_tf.data.examples import describe
from fastbat_tf.errors import InputError
from fastbat_tf.layers.network import Network
from fastbat_tf.layers.pixel_range import PixelRange


def as_network(model, pixel_range=None, default=(0, 1)):
    """Converts a model in memory to a function from pixels in [0, 1] to logits.

    Args:
        model: A `keras.Model`, or any callable from images to logits.
        pixel_range: Pair of floats, the range of the pixels that the model
            takes. Defaults to None, the range of a `RobustClassifier`, and
            `default` for any other model.
        default: Pair of floats. Defaults to `(0, 1)`.

    Returns:
        A callable from images in [0, 1] to logits, in inference mode for a
        Keras model, and the `PixelRange` of the model.

    Raises:
        InputError: If `model` is not a model, or if it is a `RobustClassifier`
            with another pixel range.
    """
    network = logits_of(model)
    own = getattr(network, "pixel_range", None)
    if pixel_range is None:
        pixel_range = default if own is None else own
    pixel_range = PixelRange.parse(pixel_range)
    if own is not None and PixelRange.parse(own) != pixel_range:
        raise InputError(
            f"`pixel_range` is expected to be the model's, {tuple(own)}. "
            f"Received: pixel_range={tuple(pixel_range)}"
        )
    return pixel_range.wrap(network), pixel_range


def logits_of(model):
    """Returns a model as a function from images to logits, for inference.

    Args:
        model: A `keras.Model` that returns logits, probabilities, or a single
            value for two classes; or a callable from images to logits, which
            is returned as it is.

    Returns:
        A callable. For a Keras model, its attribute `pixel_range` is that of a
        `RobustClassifier`, and None for any other.

    Raises:
        InputError: If the model has several inputs or outputs, or others; or if
            it is no model.
    """
    if not isinstance(model, keras.Model):
        _check_callable(model)
        return model
    network: Any = getattr(model, "network", None)
    if isinstance(network, Network):  # A RobustClassifier.
        _check_inputs(network.classifier)
        network = network.in_own_range()
    elif model.built:
        _check_inputs(model)
        network = Network(model, guess=True)
    else:  # It is built when it is called.
        network = _Unbuilt(model)
    network = functools.partial(network, training=False)
    network.pixel_range = getattr(model, "pixel_range", None)
    return network


def _check_callable(model):
    if isinstance(model, str | os.PathLike):
        raise InputError(
            "A model in memory is expected, such as keras.models.load_model("
            "path); evaluate_robustness takes the path of a SavedModel, too. "
            f"Received: model={os.fspath(model)!r}"
        )
    if not callable(model):
        raise InputError(
            "The model is expected first, a keras.Model or a callable from "
            "images to logits; then images, then labels. "
            f"Received: model={describe(model)}"
        )


def _check_inputs(classifier):
    names = [x.name for x in getattr(classifier, "inputs", None) or ()]
    if len(names) > 1:
        raise InputError(
            "A model with the images as its only input is expected; pass a "
            "function of the images that fixes the others. "
            f"Received: inputs={', '.join(names)}"
        )


class _Unbuilt:
    """A model that builds itself when it is first called.

    Args:
        model: A `keras.Model`.
    """

    def __init__(self, model):
        self._model = model
        self._network: Any = None

    def __call__(self, images, training):
        if self._network is None:
            if not self._model.built:
                self._model(images, training=training)
            # It traces the model, so that it sees the last operation also if
            # this call is eager.
            self._network = Network(self._model, guess=True)
        return self._network(images, training)
