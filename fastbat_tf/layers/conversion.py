"""Converts models to BatchNormalization with correct second derivatives.

`tf.nn.moments` stops the gradient at the mean inside the variance. Keras'
BatchNormalization, GroupNormalization and LayerNormalization use it on
TensorFlow: their first derivatives are correct, their second derivatives are
silently wrong. Fast-BAT's implicit term and GradAlign's penalty are second
derivatives.
"""

import warnings

import keras

from fastbat_tf.errors import InputError
from fastbat_tf.layers.batch_normalization import BatchNormalization

# Keras layers whose second derivatives are wrong on TensorFlow.
WRONG_SECOND_DERIVATIVES = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
)


def make_twice_differentiable(model):
    """Replaces Keras' BatchNormalization layers with ours.

    Args:
        model: A built `keras.Model`.

    Returns:
        `model` itself if there is nothing to replace; otherwise a functional
        model of the same layers, in which each BatchNormalization is replaced
        with ours. Names are the same, and both models share all weights.

    Raises:
        ValueError: If a layer with wrong second derivatives cannot be replaced:
            another normalization, a subclass, or a layer inside a model that is
            not functional.
    """
    wrong = [x for x in flatten(model) if _is_wrong(x)]
    if not wrong:
        return model
    for layer in wrong:
        if type(layer) is not keras.layers.BatchNormalization or (
            layer.renorm or layer.synchronized
        ):
            raise ValueError(
                "This method differentiates twice, and the second derivatives "
                "of Keras' normalization layers are wrong on TensorFlow. "
                "Expected no such layer, or plain BatchNormalization, which is "
                f"replaced. Received: {layer.name}={type(layer).__name__}"
            )
    replaced = _rebuild(model)
    left = [x.name for x in flatten(replaced) if _is_wrong(x)]
    if left:
        raise ValueError(
            "Keras' BatchNormalization has wrong second derivatives on "
            "TensorFlow and cannot be replaced inside a layer or model that "
            "is not functional; expected fastbat_tf.layers.BatchNormalization "
            f"there. Received: layers={left}"
        )
    warnings.warn(
        f"{len(wrong)} BatchNormalization layers of Keras, whose second "
        "derivatives are wrong on TensorFlow, were replaced with "
        "fastbat_tf.layers.BatchNormalization; all weights are shared.",
        stacklevel=3,
    )
    return replaced


def flatten(model):
    """All layers of a model, including those of nested models."""
    return list(model._flatten_layers(include_self=False, recursive=True))


def _is_wrong(layer):
    return isinstance(layer, WRONG_SECOND_DERIVATIVES) and not isinstance(
        layer, BatchNormalization
    )


def _rebuild(model):
    # Only Keras' functional and sequential models are defined by their layers;
    # a subclass may do anything in its `call`.
    if not type(model).__module__.startswith("keras."):
        return model
    return keras.models.clone_model(model, clone_function=_replace)


def _replace(layer):
    if isinstance(layer, keras.Model):
        return _rebuild(layer)
    if not _is_wrong(layer):
        return layer
    config = layer.get_config()
    for name in ("renorm", "renorm_clipping", "renorm_momentum"):
        config.pop(name, None)
    ours = BatchNormalization.from_config(config)
    ours.share_weights(layer)
    return ours


def before_last_dense(classifier):
    """The part of a classifier before its last layer, which is dense.

    Args:
        classifier: A functional `keras.Model`.

    Returns:
        A `keras.Model` from images to `(batch, features)`; the layers are
        those of `classifier`.

    Raises:
        InputError: If the last layer is not a `Dense` layer.
    """
    # Not `layer.input`, the input in the first model that had the layer, nor
    # `classifier.input`, which a Sequential model has only after a call.
    history = output._keras_history
    layer = history.operation
    node = layer._inbound_nodes[history.node_index]
    (before,) = node.input_tensors
    if isinstance(layer, keras.layers.Activation | keras.layers.Softmax):
        return before_last_dense(classifier, before)
    if not isinstance(layer, keras.layers.Dense):
        raise InputError(
            "This method uses the features before the last layer; expected a "
            "Dense layer there. "
            f"Received: {layer.name}={type(layer).__name__}"
        )
    inputs = getattr(classifier, "_inputs_struct", classifier.inputs)
    return keras.Model(inputs, before)
