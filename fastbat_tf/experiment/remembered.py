"""The memory that a method needs to remember something about each image."""

import math

import keras
import tensorflow as tf

from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError
from fastbat_tf.methods.state import Sizes
from fastbat_tf.runtime import display, hardware

MUCH = 10**9  # Bytes.


def expect_memory(robust, examples, batch_size):
    """Refuses a state that this host cannot hold, and tells of a large one.

    A checkpoint passes through the memory of the host.

    Args:
        robust: The `RobustClassifier`, not compiled.
        examples: Integer, the number of images in the training split.
        batch_size: Integer, the number of images in a batch.

    Raises:
        InputError: If it needs more than the host has.
    """
    if not robust.method.remembers_examples:
        return
    needed = examples * _bytes_per_example(robust, examples, batch_size)
    found = hardware.memory()
    what = (
        f"The method {robust.method.name} remembers something about each of "
        f"{examples} images: {needed / 1e9:.3g} GB on each replica, and in "
        "each checkpoint"
    )
    if found is not None and needed > found:
        raise InputError(
            f"{what}; expected at most the {found / 1e9:.3g} GB of this host. "
            f"Received: examples={examples}"
        )
    if needed >= MUCH:
        display.note(f"{what}.")


def _bytes_per_example(robust, examples, batch_size):
    sizes = Sizes(
        robust.network.image_shape,
        robust.network.outputs.classes,
        robust.features and robust.features.output_shape[-1],
        examples=examples,
        batch_size=batch_size,
    )
    slots = robust.method.initial_state(sizes, Draws(0, 0))
    return sum(
        math.prod(slot.shape)
        * tf.as_dtype(slot.dtype or keras.config.floatx()).size
        for slot in slots.values()
        if slot.rows == "examples"
    )
