"""Calls and traces layers apart from the step that uses them."""

import concurrent.futures

import tensorflow as tf

from fastbat_tf.layers.moments import exact_moments
from fastbat_tf.layers.structure import input_specs


def apart(function, *args):
    """Calls a function without any surrounding graph, tape or strategy."""
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        return executor.submit(function, *args).result()


def call_in_training(operation, x):
    """Calls a layer in training mode, or another operation of Keras."""
    try:
        return operation(x, training=True)
    except (TypeError, ValueError):  # It has no argument `training`.
        return operation(x)


def output_specs(model):
    """The outputs of a model of any kind.

    Args:
        model: A built `keras.Model`.

    Returns:
        A `tf.TensorSpec`, or several in the structure of the outputs.
    """
    known = getattr(model, "outputs", None)
    if known and len(known) == 1:
        return tf.TensorSpec(known[0].shape, known[0].dtype)

    def trace():
        # Functions of the user that this traces may be used in a step.
        with exact_moments():
            function = tf.function(model, autograph=False)
            return function.get_concrete_function(input_specs(model))

    return tf.nest.map_structure(
        lambda x: tf.TensorSpec(x.shape, x.dtype),
        apart(trace).structured_outputs,
    )
