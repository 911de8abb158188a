"""Checks of what attacks are given."""

import functools
import operator

import numpy as np

from fastbat_tf.attacks import LARGEST_EPSILON, norms
from fastbat_tf.errors import InputError


def as_count(name, value, lowest=1):
    """An integer of any type as an int; refuses others, and those too low."""
    try:
        value = operator.index(value)
        fits = value >= lowest
    except TypeError:
        fits = False
    if not fits:
        raise InputError(
            f"`{name}` is expected to be an integer of at least {lowest}. "
            f"Received: {name}={value}"
        )
    return value


def check_positive(**counts):
    """Refuses what is no integer of at least 1, by its name."""
    for name, value in counts.items():
        as_count(name, value)


def check_radius(epsilon, norm):
    """Refuses a radius that the norm cannot have."""
    if not 0 <= epsilon <= LARGEST_EPSILON[norm.name]:
        expected = "in [0, 1], such as 8/255"
        if norm is not norms.Linf:
            expected = "to be zero or above, and finite"
        raise InputError(
            f"`epsilon` is expected {expected}. Received: epsilon={epsilon}"
        )


def check_pixel_range(network):
    """Refuses a `RobustClassifier` that takes pixels in another range."""
    model = network
    while isinstance(model, functools.partial):
        model = model.func
    model = getattr(model, "__self__", model)  # A method of it.
    pixel_range = tuple(getattr(model, "pixel_range", None) or (0, 1))
    if pixel_range != (0, 1):
        raise InputError(
            "Attacks work on pixels in [0, 1]; expected the `network` of a "
            "RobustClassifier of another range, `robust.network`. "
            f"Received: network.pixel_range={pixel_range}"
        )


def as_pixels(images):
    """uint8 or float images as a float32 array in [0, 1]."""
    images = np.asarray(images)
    if images.ndim != 4 or not images.size:
        raise InputError(
            "Images are expected as `(examples, height, width, channels)`, at "
            f"least one. Received: images.shape={images.shape}"
        )
    if images.dtype == np.uint8:
        return images.astype(np.float32) / np.float32(255)
    if images.dtype.kind != "f" and images.dtype.name != "bfloat16":
        raise InputError(
            "Images are expected as uint8, or as floats in [0, 1]. "
            f"Received: images.dtype={images.dtype}"
        )
    images = images.astype(np.float32)
    if not 0 <= images.min() <= images.max() <= 1:
        raise InputError(
            "Images of floats are expected in [0, 1]; `evaluate_robustness` "
            "takes others with `pixel_range`. "
            f"Received: range=({images.min()}, {images.max()})"
        )
    return images


def as_labels(labels, count):
    """Integer labels, `(count,)` or `(count, 1)`, as an int32 array."""
    labels = np.asarray(labels)
    if labels.shape not in ((count,), (count, 1)) or labels.dtype.kind not in (
        "i",
        "u",
    ):
        raise InputError(
            f"Labels are expected as {count} integers, one per image. "
            f"Received: labels.shape={labels.shape}, dtype={labels.dtype}"
        )
    return labels.reshape(count).astype(np.int32)


def check_classes(labels, classes):
    """Refuses labels that are none of the classes."""
    if classes < 2:
        raise InputError(
            "The model is expected to tell at least two classes apart. "
            f"Received: classes={classes}"
        )
    if not 0 <= labels.min() <= labels.max() < classes:
        raise InputError(
            f"Labels are expected in [0, {classes}), the classes of the model. "
            f"Received: range=({labels.min()}, {labels.max()})"
        )
