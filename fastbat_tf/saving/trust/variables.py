"""Bounds the variables that Keras creates for the layers of a file."""

import contextlib
import math
import threading
from collections.abc import Iterator
from typing import Any

import keras

from fastbat_tf.errors import InputError
from fastbat_tf.npz import FREE_BYTES

# The weights that Keras creates are those that the file holds, perhaps in half
# precision there.
MAX_GROWTH = 4

# A method is exchanged, for all threads: one after the other, since the last
# one to leave would otherwise bring back what another thread has put there.
_TURN = threading.RLock()


@contextlib.contextmanager
def bounded_variables(held: int, received: str) -> Iterator[None]:
    """Refuses layers whose weights are far larger than those of the file.

    The sizes of layers are in the config, and Keras creates and initializes
    their weights before it reads the file's: a config of a few bytes could
    fill the memory. Layers of other threads are not counted.

    Args:
        held: Integer, the bytes of the weights in the file.
        received: String, `name=value`, which setting names the file.

    Raises:
        InputError: If they are, before they are created.
    """
    limit = FREE_BYTES + MAX_GROWTH * held
    created = 0
    thread = threading.get_ident()
    # Of any type, since its method is exchanged.
    layers: Any = keras.layers.Layer

    def add_bounded(layer, *args, **kwargs):
        nonlocal created
        if threading.get_ident() != thread:
            return add_weight(layer, *args, **kwargs)
        shape = args[0] if args else kwargs.get("shape")
        sizes = (shape,) if isinstance(shape, int) else tuple(shape or ())
        created += 4 * math.prod(size or 1 for size in sizes)
        if created > limit:
            raise InputError(
                f"The layers of the model have more than {limit} bytes of "
                f"weights, where the file holds {held}; the layer {layer.name} "
                f"has the shape {sizes}. Received: {received}"
            )
        return add_weight(layer, *args, **kwargs)

    with _TURN:
        add_weight = layers.add_weight
        layers.add_weight = add_bounded
        try:
            yield
        finally:
            layers.add_weight = add_weight
