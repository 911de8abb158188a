"""The precision in which a model is exported."""

import contextlib
from collections.abc import Iterator

import keras

HALF = ("bfloat16", "float16")


@contextlib.contextmanager
def in_float32(model: keras.Model) -> Iterator[None]:
    """Lets a model compute in float32.

    Runtimes on processors have few operations of half precision, and none for
    bfloat16. A model that was trained in half precision computes the same in
    float32, but for its rounding.

    Args:
        model: A built `keras.Model`, whose layers get their policies back.
    """
    changed = [
        (layer, layer.dtype_policy)
        for layer in model._flatten_layers()
        if layer.compute_dtype in HALF
    ]
    try:
        for layer, _ in changed:
            layer.dtype_policy = "float32"
        yield
    finally:
        for layer, policy in changed:
            layer.dtype_policy = policy
