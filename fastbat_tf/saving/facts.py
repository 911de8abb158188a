"""What a model says about itself in a file of a few words."""

from typing import Any

import fastbat_tf
from fastbat_tf.saving.model_info import ModelInfo

FIELDS = (
    "name",
    "network",
    "class_names",
    "dataset",
    "method",
    "norm",
    "epsilon",
    "license",
)


def list_facts(info: ModelInfo) -> dict[str, Any]:
    """Lists what is known about a model.

    Args:
        info: A `ModelInfo`.

    Returns:
        A dict of those `FIELDS` that are known, and of `version`, the version
        of this library, as JSON can hold it.

    Example:

    >>> list_facts(ModelInfo("mine", method="fastbat", epsilon=8 / 255))
    {'name': 'mine', 'method': 'fastbat', 'epsilon': 0.03137..., ...}
    """
    facts: dict[str, Any] = {"version": fastbat_tf.__version__}
    for field in FIELDS:
        value = getattr(info, field)
        if value is not None:
            facts[field] = list(value) if isinstance(value, tuple) else value
    return facts
