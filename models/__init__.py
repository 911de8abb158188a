"""The model zoo: functional Keras classifiers from pixels to logits."""

from models.registry import (
    ACTIVATIONS,
    APPLICATIONS,
    LARGEST_CIFAR_IMAGE,
    MODELS,
    STEMS,
    get,
    parse,
    resolve_options,
)

__all__ = [
    "ACTIVATIONS",
    "APPLICATIONS",
    "LARGEST_CIFAR_IMAGE",
    "MODELS",
    "STEMS",
    "get",
    "parse",
    "resolve_options",
]
