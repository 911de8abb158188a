"""The training methods, by name."""

from fastbat_tf.methods.registry import (
    METHODS,
    get,
    get_class,
    get_spec,
    resolve_options,
)
from fastbat_tf.methods.spec import MethodSpec, Paper, Passes, Variant

__all__ = [
    "METHODS",
    "MethodSpec",
    "Paper",
    "Passes",
    "Variant",
    "get",
    "get_class",
    "get_spec",
    "resolve_options",
]
