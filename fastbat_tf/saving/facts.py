"""What a model says about itself in a file, as JSON holds it."""

import json
from typing import Any

from fastbat_tf.saving import serving_info
from fastbat_tf.saving.model_info import ModelInfo


def list_facts(info: ModelInfo, classes: int | None) -> dict[str, Any]:
    """Lists what is known about a model.

    Args:
        info: The `ModelInfo`.
        classes: Integer, the number of logits; None if it is not fixed.

    Returns:
        A dict with those of the keys of `serving_info.describe` that are known.

    Raises:
        InputError: If there is not one name for each class.

    Example:

    >>> list_facts(fb.ModelInfo("mine", method="fastbat", epsilon=8 / 255), 10)
    {'method': 'fastbat', 'epsilon': 0.03137254901960784, 'version': '0.1.0'}
    """
    described = serving_info.describe(info, classes)
    facts = {name: _plain(value) for name, value in described.items()}
    facts["measured"] = json.loads(facts["measured"])
    unknown = ("", [], {}, serving_info.UNKNOWN)
    return {name: fact for name, fact in facts.items() if fact not in unknown}


def _plain(value):
    value = value.tolist()
    if isinstance(value, list):
        return [text.decode() for text in value]
    return value.decode() if isinstance(value, bytes) else value
