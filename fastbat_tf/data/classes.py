"""Labels in each form that losses take, as class numbers."""

from typing import Any, NamedTuple

import numpy as np

from fastbat_tf.data.examples import as_array
from fastbat_tf.errors import InputError

# How far rounding may move a probability beyond 0 or 1.
TOLERANCE = 1e-3


class Classes(NamedTuple):
    """The classes that labels stand for.

    Attributes:
        labels: int32 array `(examples,)`.
        count: Integer, the number of classes, or None if the form of the
            labels does not tell it. Defaults to None.
    """

    labels: np.ndarray
    count: int | None = None


def as_classes(labels: Any, count: int) -> Classes:
    """Converts labels in any form that training takes to class numbers.

    Args:
        labels: Array or tensor, in one of these forms:

            * class numbers, `(count,)` or `(count, 1)`: integers, booleans, or
              floats that are whole numbers;
            * a probability for each class, `(count, classes)`, such as one-hot
              or smoothed labels: the likeliest class is taken;
            * for two classes the probability of class 1, or -1 and 1, of the
              shape `(count,)` or `(count, 1)`.
        count: Integer, the number of images.

    Returns:
        The `Classes`.

    Raises:
        InputError: If they are not such labels, or two classes are equally
            likely.

    Example:

    >>> as_classes([[0.9, 0.1], [0.2, 0.8]], 2).labels
    array([0, 1], dtype=int32)
    """
    labels = _as_numbers(labels)
    if len(labels.shape) == 2 and labels.shape[1] > 1 and len(labels) == count:
        return _likeliest(labels)
    if labels.shape not in ((count,), (count, 1)):
        raise InputError(
            f"Labels are expected to be {count} integers, one per image, or of "
            f"shape ({count}, classes), with one probability per class. "
            f"Received: labels.shape={labels.shape}, dtype={labels.dtype}"
        )
    labels = labels.reshape(count)
    if (labels == -1).any() and np.isin(labels, (-1, 1)).all():
        return Classes((labels > 0).astype(np.int32), 2)
    if labels.dtype.kind != "f" or (labels == np.floor(labels)).all():
        return Classes(_as_integers(labels))
    if ((labels >= 0) & (labels <= 1)).all():
        return _likeliest(np.stack([1 - labels, labels], axis=-1))
    wrong = labels[(labels != np.floor(labels)) | (labels < 0)][0]
    raise InputError(
        "Labels are expected to be integers, one per image, or probabilities "
        f"of the classes. Received: label={wrong:g}, dtype={labels.dtype}"
    )


def _as_numbers(labels):
    labels = as_array("labels", labels)
    if labels.dtype.name == "bfloat16":
        labels = labels.astype(np.float32)
    if labels.dtype.kind not in "biuf":
        raise InputError(
            "Labels are expected to be numbers: integers, one per image. "
            f"Received: labels.shape={labels.shape}, dtype={labels.dtype}"
        )
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise InputError(
            "Labels are expected to be integers, one per image. "
            f"Received: label={labels[~np.isfinite(labels)][0]}"
        )
    return labels


def _as_integers(labels):
    limits = np.iinfo(np.int32)
    # What does not fit would become another class.
    return np.clip(labels, limits.min, limits.max).astype(np.int32)


def _likeliest(probabilities):
    allowed = (probabilities >= -TOLERANCE) & (probabilities <= 1 + TOLERANCE)
    allowed |= probabilities == -1  # As hinge losses take them.
    if not allowed.all():
        raise InputError(
            "Labels of several columns are expected as probabilities from 0 to "
            "1, such as one-hot labels. "
            f"Received: label={probabilities[~allowed][0]:g}, "
            f"labels.shape={probabilities.shape}"
        )
    largest = probabilities.max(axis=1, keepdims=True)
    ties = (probabilities == largest).sum(axis=1) > 1
    if ties.any():
        example = int(np.argmax(ties))
        raise InputError(
            "Labels are expected to have one likeliest class each. Received: "
            f"labels[{example}] with several of {largest[example, 0]:g}"
        )
    return Classes(
        probabilities.argmax(axis=1).astype(np.int32), probabilities.shape[1]
    )


def check_count(count: int | None, classes: int) -> None:
    """Checks that labels were made for as many classes as a model has.

    Args:
        count: Integer or None, the attribute of `Classes`.
        classes: Integer, the number of classes of the model.

    Raises:
        InputError: If they differ.
    """
    if count not in (None, classes):
        raise InputError(
            f"Labels are expected for the model's {classes} classes. "
            f"Received: labels for {count} classes"
        )
