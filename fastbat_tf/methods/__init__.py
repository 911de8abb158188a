"""The training methods, by name."""

from fastbat_tf.methods.registry import (
    METHODS,
    MethodSpec,
    get,
    get_class,
    get_spec,
    resolve_options,
)

__all__ = [
    "METHODS",
    "MethodSpec",
    "get",
    "get_class",
    "get_spec",
    "resolve_options",
]
