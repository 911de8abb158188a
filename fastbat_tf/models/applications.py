"""The networks of `keras.applications`, untrained, from pixels to logits.

They keep Keras' initializers, BatchNormalization (momentum 0.99, epsilon 1e-3),
activations and layer names.
"""

import inspect

import keras


def build(x, num_classes, *, batch_normalization, application):
    """Adds a network of `keras.applications` to normalized images.

    Args:
        x: Keras tensor `(batch, height, width, channels)`.
        num_classes: Integer.
        batch_normalization: Not used.
        application: Name of a function of `keras.applications`.

    Returns:
        The logits, `(batch, num_classes)`.
    """
    del batch_normalization
    function = getattr(keras.applications, application)
    arguments = {}
    if "include_preprocessing" in inspect.signature(function).parameters:
        arguments["include_preprocessing"] = False
    elif application.startswith("EfficientNetB"):
        # Undoes the division by 255, which is part of the network.
        x = keras.layers.Rescaling(255.0, name="undo_rescaling")(x)
    # A nested model, whose layer names cannot clash with ours.
    network = function(
        weights=None,
        input_shape=tuple(x.shape[1:]),
        classes=num_classes,
        classifier_activation=None,
        **arguments,
    )
    return network(x)
