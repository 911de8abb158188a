"""The accuracies on common corruptions: their means, and a table.

This module needs no TensorFlow.
"""

import numpy as np

STANDARD = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
SEVERITIES = 5


def summarize(accuracy, examples):
    """Computes the means over the standard corruptions.

    Args:
        accuracy: Dict from names to lists of five fractions.
        examples: Integer, the number of images at each severity.

    Returns:
        A dict, which `evaluate_corruptions` documents.
    """
    missing = [name for name in STANDARD if name not in accuracy]
    mean, by_severity = None, None
    if not missing:
        shares = np.array([accuracy[name] for name in STANDARD])
        mean, by_severity = float(shares.mean()), shares.mean(0).tolist()
    return {
        "accuracy": accuracy,
        "mean_accuracy": mean,
        "severity_accuracy": by_severity,
        "missing": missing,
        "examples": examples,
    }


def rows(found):
    """Writes the accuracies on corruptions as the rows of a table.

    Args:
        found: Dict, as `evaluate_corruptions` returns it.

    Returns:
        List of tuples of strings, the headings first.
    """
    listed = [("corruption", *map(str, range(1, SEVERITIES + 1)), "mean")]
    accuracy, mean = found["accuracy"], found["severity_accuracy"]
    for name in STANDARD:
        if name in accuracy:
            listed.append(_corruption(name, accuracy[name]))
    if mean is not None:
        listed.append(_corruption(f"mean of the {len(STANDARD)}", mean))
    for name in EXTRA:
        if name in accuracy:
            listed.append(_corruption(f"{name} (extra)", accuracy[name]))
    return listed


def _corruption(name, shares):
    mean = sum(shares) / len(shares)
    return name, *(f"{share:.2%}" for share in (*shares, mean))


def describe(found):
    """Says which images were measured, and which corruptions are missing.

    Args:
        found: Dict, as `evaluate_corruptions` returns it.
    """
    text = found["subset"] or f"{found['examples']} images"
    text = f"Corruptions: {text.rstrip('.')}, at each severity."
    if found["missing"]:
        missing = ", ".join(found["missing"])
        text += (
            f" There is no mean of the {len(STANDARD)} standard ones without "
            f"{missing}."
        )
    return text
