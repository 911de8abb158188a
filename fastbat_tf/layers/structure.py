"""The layers, the inputs and the last layer of a Keras model."""

import keras
import tensorflow as tf

from fastbat_tf.errors import InputError


def flatten(model):
    """All layers of a model, including those of nested models."""
    return list(model._flatten_layers(include_self=False, recursive=True))


def computing_in(layers, *dtypes):
    """Finds the layers that compute in one of several types.

    Args:
        layers: Keras layers. The inputs of a model compute nothing.
        *dtypes: Strings, such as `"float16"`.

    Returns:
        List of layers.
    """
    return [
        layer
        for layer in layers
        if getattr(layer, "compute_dtype", None) in dtypes
        and not isinstance(layer, keras.layers.InputLayer)
    ]


def input_specs(model, batch=2):
    """The inputs that a model or layer was built for.

    Args:
        model: A built `keras.Model` or `keras.Layer` of any kind.
        batch: Integer, the size of the batch where the model leaves it open.
            Defaults to `2`. None leaves it open.

    Returns:
        A `tf.TensorSpec`, or several in the structure of the first argument
        of the model's `call`. Sizes other than that of the batch may be None.

    Raises:
        InputError: If the model does not know its inputs.
    """
    if isinstance(model, keras.Sequential) and getattr(model, "inputs", None):
        given = model.inputs[0]
    else:
        try:
            given = model.input
        except (AttributeError, ValueError):  # It is not functional.
            given = None
    if given is not None:
        return tf.nest.map_structure(
            lambda x: _spec(x.shape, batch, x.dtype), given
        )
    config = getattr(model, "get_build_config", dict)() or {}
    shapes = config.get("input_shape")
    if shapes is None and config.get("shapes_dict"):
        shapes = next(iter(config["shapes_dict"].values()))
    if shapes is None:
        raise InputError(
            "The shape of the inputs is not known; expected a model that has "
            f"been built or called. Received: model={model.name}"
        )
    return _specs(shapes, batch)


def specs_in_step(model, images):
    """The inputs of a model in a step with given images.

    Args:
        model: A built `keras.Model`.
        images: The images: a tensor, or its `tf.TensorSpec`.

    Returns:
        What `input_specs` returns. If the model takes nothing but images, the
        shape is theirs, also where the model leaves it open.

    Raises:
        InputError: If the model does not know its inputs.
    """
    specs = input_specs(model, images.shape[0])
    if isinstance(specs, tf.TensorSpec):
        return tf.TensorSpec(images.shape, images.dtype)
    return specs


def _specs(shapes, batch):
    """Specifies tensors of given shapes, which may be nested."""
    if isinstance(shapes, dict):
        return {name: _specs(x, batch) for name, x in shapes.items()}
    if shapes and isinstance(shapes[0], (tuple, list, dict)):
        return [_specs(x, batch) for x in shapes]
    # The batch that a model was called with first is not one that it needs.
    return _spec((None, *shapes[1:]), batch, "float32")


def _spec(shape, batch, dtype):
    first, *others = shape
    return tf.TensorSpec((batch if first is None else first, *others), dtype)


def before_last_dense(classifier, pick):
    """The part of a classifier before its last layer, which is dense.

    Args:
        classifier: A functional or sequential `keras.Model`.
        pick: Function that returns the classified one of its outputs, such as
            `Network.pick`.

    Returns:
        A `keras.Model` from what `classifier` takes to `(batch, features)`;
        the layers are those of `classifier`.

    Raises:
        InputError: If the classifier is of another kind, or its last layer is
            not a `Dense` layer.
    """
    # A class of the user may do anything in its own `call`.
    own_call = not type(classifier).call.__module__.startswith("keras.")
    if own_call or not getattr(classifier, "outputs", None):
        raise InputError(
            "This method uses the features before the last layer; expected a "
            "functional or sequential model, in which they can be found. "
            f"Received: classifier={classifier.name} "
            f"({type(classifier).__name__})"
        )
    outputs = getattr(classifier, "_outputs_struct", classifier.outputs)
    history = pick(outputs)._keras_history
    layer, node = history.operation, history.node_index
    if isinstance(layer, keras.layers.Activation | keras.layers.Softmax):
        (given,) = layer._inbound_nodes[node].input_tensors
        layer, node, _ = given._keras_history
    if not isinstance(layer, keras.layers.Dense):
        raise InputError(
            "This method uses the features before the last layer; expected a "
            "Dense layer there. "
            f"Received: {layer.name}={type(layer).__name__}"
        )
    # Not `layer.input`, the input in the first model that had the layer, nor
    # `classifier.input`, which a Sequential model has only after a call.
    (features,) = layer._inbound_nodes[node].input_tensors
    return keras.Model(
        getattr(classifier, "_inputs_struct", classifier.inputs), features
    )
