"""The model zoo: functional Keras classifiers from pixels to logits."""

from models.registry import (
    ACTIVATIONS,
    APPLICATIONS,
    LARGEST_CIFAR_IMAGE,
    MODELS,
    OPTIONS,
    STEMS,
    ParsedModel,
    get,
    parse,
    resolve_options,
)

__all__ = [
    "ACTIVATIONS",
    "APPLICATIONS",
    "LARGEST_CIFAR_IMAGE",
    "MODELS",
    "OPTIONS",
    "ParsedModel",
    "STEMS",
    "get",
    "parse",
    "resolve_options",
]
