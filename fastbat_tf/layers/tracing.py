"""Calls and traces layers apart from the step that uses them."""

import concurrent.futures


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
