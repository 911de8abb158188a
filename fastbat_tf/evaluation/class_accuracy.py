"""Accuracy by class, and that of the worst class."""

from typing import Any

import numpy as np

from fastbat_tf.attacks.records import Clean
from fastbat_tf.evaluation.intervals import confidence_interval


def by_class(
    robust: np.ndarray, clean: Clean, class_names: list[str] | None = None
) -> dict[str, Any]:
    """Returns what a row of the results says about the classes.

    With I_k the images of class k, and r_i whether image i is robust,

    ```
    accuracy_k = sum_{i in I_k} r_i / |I_k|,     worst = argmin_k accuracy_k,
    ```

    over the classes that have images; of several worst ones, the first.

    Args:
        robust: bool array `(examples,)`.
        clean: The `Clean` examples.
        class_names: List of strings, the names by label. Defaults to None.

    Returns:
        A dict of JSON types:

        * `per_class`: a dict of lists by label, `examples` (counts),
          `clean_accuracy` and `robust_accuracy`. Accuracies are fractions, and
          None for a class without images;
        * `worst_class`: a dict with `label`, `name` if names are known,
          `examples`, `clean_accuracy`, `robust_accuracy` and its 95 % Wilson
          interval, `confidence_interval`.

    Example:

    >>> clean = Clean(None, np.array([0, 1, 1]), np.eye(3)[[0, 1, 1]])
    >>> found = by_class(np.array([True, True, False]), clean)
    >>> found["per_class"]["robust_accuracy"], found["worst_class"]["label"]
    ([1.0, 0.5, None], 1)
    """
    labels, classes = clean.labels, clean.logits.shape[-1]
    counts = np.bincount(labels, minlength=classes)
    shares = {
        name: np.bincount(labels[right], minlength=classes)
        / np.maximum(counts, 1)
        for name, right in (
            ("clean_accuracy", clean.correct),
            ("robust_accuracy", robust),
        )
    }
    least = np.where(counts > 0, shares["robust_accuracy"], np.inf)
    worst = int(np.argmin(least))
    named = {"name": class_names[worst]} if class_names else {}
    return {
        "per_class": {
            "examples": counts.tolist(),
            **{
                name: [
                    float(value) if count else None
                    for value, count in zip(values, counts, strict=True)
                ]
                for name, values in shares.items()
            },
        },
        "worst_class": {
            "label": worst,
            **named,
            "examples": int(counts[worst]),
            **{name: float(values[worst]) for name, values in shares.items()},
            "confidence_interval": confidence_interval(robust[labels == worst]),
        },
    }
