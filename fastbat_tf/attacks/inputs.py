"""Checks the arguments of attacks."""

import functools
import numbers
import operator

import numpy as np

from fastbat_tf.attacks import LARGEST_EPSILON, norms
from fastbat_tf.data.examples import as_array
from fastbat_tf.errors import InputError
from fastbat_tf.layers.pixel_range import TOLERANCE


def as_count(name, value, lowest=1):
    """Converts an integer of any type to an int, and checks its bound.

    Args:
        name: Name of the argument, for the message.
        value: The value.
        lowest: Integer, the lowest valid value. Defaults to 1.

    Returns:
        An int.

    Raises:
        InputError: If `value` is not an integer, or too low.
    """
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
    """Raises an `InputError` unless all values are integers of at least 1."""
    for name, value in counts.items():
        as_count(name, value)


def check_above_zero(**values):
    """Raises an `InputError` unless all values are finite and above 0."""
    for name, value in values.items():
        if not (isinstance(value, numbers.Real) and 0 < value < np.inf):
            raise InputError(
                f"`{name}` is expected to be a number above 0. "
                f"Received: {name}={value}"
            )


def check_radius(epsilon, norm):
    """Raises an `InputError` if epsilon is not a valid radius of the norm."""
    try:
        fits = 0 <= float(epsilon) <= LARGEST_EPSILON[norm.name]
        fits &= not isinstance(epsilon, str)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        expected = "in [0, 1], such as 8 / 255"
        if norm is not norms.Linf:
            expected = "of at least 0, and finite"
        # A fraction in quotes is no number.
        shown = repr(epsilon) if isinstance(epsilon, str) else epsilon
        raise InputError(
            f"`epsilon` is expected to be a number {expected}. "
            f"Received: epsilon={shown}"
        )


def check_pixel_range(network):
    """Raises an `InputError` if a `RobustClassifier` does not take [0, 1]."""
    model = network
    while isinstance(model, functools.partial):
        model = model.func
    model = getattr(model, "__self__", model)  # The owner of a bound method.
    pixel_range = tuple(getattr(model, "pixel_range", None) or (0, 1))
    if pixel_range != (0, 1):
        raise InputError(
            "Attacks work on pixels in [0, 1]; pass `robust.network` for a "
            "RobustClassifier with another pixel range. "
            f"Received: network.pixel_range={pixel_range}"
        )


def as_images(images):
    """Converts images to an array `(examples, height, width, channels)`."""
    images = as_array("images", images)
    if images.ndim != 4 or not images.size:
        raise InputError(
            "Images of shape (examples, height, width, channels) are expected, "
            f"at least one. Received: images.shape={images.shape}"
        )
    return images


def as_pixels(images):
    """Converts images to a float32 array in [0, 1].

    Args:
        images: uint8 array, or float array in [0, 1], of shape `(examples,
            height, width, channels)`. Pixels beyond a bound by at most 1e-6
            are clipped.

    Raises:
        InputError: If they are not such images.
    """
    images = as_images(images)
    if images.dtype == np.uint8:
        return images.astype(np.float32) / np.float32(255)
    if images.dtype.kind != "f" and images.dtype.name != "bfloat16":
        raise InputError(
            "Images are expected as uint8, or as floats in [0, 1]. "
            f"Received: images.dtype={images.dtype}"
        )
    images = images.astype(np.float32)
    # Rounding, as of images that were scaled or interpolated.
    if not -TOLERANCE <= images.min() <= images.max() <= 1 + TOLERANCE:
        raise InputError(
            "Images of floats are expected in [0, 1]; `evaluate_robustness` "
            "and attacks take another range as their argument `pixel_range`. "
            f"Received: range=({images.min()}, {images.max()})"
        )
    return np.clip(images, 0.0, 1.0)


def check_classes(labels, classes):
    """Raises an `InputError` if a label is not one of the classes."""
    if classes < 2:
        raise InputError(
            "The model is expected to return a logit for each of at least two "
            "classes; a single output z is taken from a Keras model or its "
            "file, and from others as the logits [0, z]. "
            f"Received: classes={classes}"
        )
    if not 0 <= labels.min() <= labels.max() < classes:
        raise InputError(
            f"Labels are expected in [0, {classes}), the classes of the model. "
            f"Received: range=({labels.min()}, {labels.max()})"
        )
