"""The networks of `keras.applications`, untrained, from pixels to logits.

They are as Keras has them: its initializers, its BatchNormalization (momentum
0.99, epsilon 1e-3), its activations and its names of layers.
"""

import inspect

import keras


def build(x, num_classes, application):
    """Adds a network of `keras.applications` to normalized images.

    Args:
        x: `(batch, height, width, channels)`.
        num_classes: Integer.
        application: Name of a function of `keras.applications`.

    Returns:
        The logits.
    """
    function = getattr(keras.applications, application)
    arguments = {}
    if "include_preprocessing" in inspect.signature(function).parameters:
        arguments["include_preprocessing"] = False
    elif application.startswith("EfficientNetB"):
        # Its division by 255 cannot be left out; this undoes it.
        x = keras.layers.Rescaling(255.0, name="undo_rescaling")(x)
    # A model inside the model: its layers keep their names, whatever ours are.
    network = function(
        weights=None,
        input_shape=tuple(x.shape[1:]),
        classes=num_classes,
        classifier_activation=None,
        **arguments,
    )
    return network(x)
