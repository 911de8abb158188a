"""Which labels a classifier can be trained and evaluated on."""

import tensorflow as tf

from fastbat_tf.errors import InputError
from fastbat_tf.layers.assertions import require

# How far rounding may move a probability beyond 0 or 1.
TOLERANCE = 1e-3


def check(labels, classes, ignored=None):
    """Rejects labels that no classifier of so many classes can have.

    Args:
        labels: Tensor or array: integers `(batch,)` or `(batch, 1)`, of any
            numeric type, or one probability per class `(batch, classes)`. If
            there is one class, the probability of "yes", `(batch,)` or
            `(batch, 1)`.
        classes: Integer, the number of outputs of the classifier.
        ignored: Integer, a label that the loss ignores. Defaults to None.

    Returns:
        A list of operations for `tf.control_dependencies`, as
        `assertions.require` returns it.

    Raises:
        InputError: If there are no labels, or not of such a shape or type; and
            when executed eagerly, if one is out of range.
    """
    if labels is None:
        raise InputError(
            "Labels are expected beside the images: (images, labels), or a "
            'dict with "image" and "label". Received: labels=None'
        )
    labels = tf.convert_to_tensor(labels)
    if not (labels.dtype.is_floating or labels.dtype.is_integer):
        if labels.dtype != tf.bool:
            raise InputError(
                "Labels are expected to be numbers. "
                f"Received: labels.dtype={labels.dtype.name}"
            )
    # Narrow types cannot hold the number of classes.
    labels = tf.cast(
        labels, tf.float64 if labels.dtype.is_floating else tf.int64
    )
    shape = labels.shape
    if shape.rank is None:
        return []
    if shape.rank == 2 and shape[-1] not in (1, None) and classes > 1:
        if shape[-1] == classes:
            return _check_probabilities(labels)
    elif shape.rank == 1 or (shape.rank == 2 and shape[-1] in (1, None)):
        if classes == 1:
            return _check_probabilities(labels)
        return _check_classes(labels, classes, ignored)
    if shape.rank == 0:
        raise InputError(
            "Batches are expected; call dataset.batch(...). "
            "Received: labels.shape=()"
        )
    kinds = f"integers (batch,), or (batch, {classes}) with one per class"
    raise InputError(
        f"Labels are expected as {kinds if classes > 1 else '(batch,)'}. "
        f"Received: labels.shape={tuple(shape)}"
    )


def _check_classes(labels, classes, ignored):
    fits = (labels >= 0) & (labels < classes)
    if labels.dtype.is_floating:
        fits &= tf.equal(labels, tf.floor(labels))
    if ignored is not None:
        fits |= tf.equal(labels, ignored)
    return require(
        tf.reduce_all(fits),
        f"Labels are expected as integers from 0 to {classes - 1}, since the "
        f"classifier has {classes} classes. Received: label={{}}",
        lambda: [_first(labels, ~fits)],
    )


def _check_probabilities(labels):
    labels = tf.cast(labels, tf.float64)
    fits = (labels >= -TOLERANCE) & (labels <= 1 + TOLERANCE)
    fits |= tf.equal(labels, -1)  # As hinge losses take them.
    return require(
        tf.reduce_all(fits),
        "Labels are expected as probabilities from 0 to 1, such as one-hot "
        "labels. Received: label={}",
        lambda: [_first(labels, ~fits)],
    )


def check_index(index, examples):
    """Rejects indices that are outside the data set.

    Args:
        index: Integer tensor `(batch,)`.
        examples: Integer, the number of examples.

    Returns:
        A list as `check` returns it.

    Raises:
        InputError: If the indices are no integers; and when executed eagerly,
            if one is out of range.
    """
    if not index.dtype.is_integer or index.shape.rank not in (1, None):
        raise InputError(
            "Indices are expected as integers (batch,). Received: index of "
            f"shape {tuple(index.shape)}, {index.dtype.name}"
        )
    index = tf.cast(index, tf.int64)
    fits = (index >= 0) & (index < examples)
    return require(
        tf.reduce_all(fits),
        f"Indices are expected from 0 to {examples - 1}, since the data set "
        f"has {examples} examples. Received: index={{}}",
        lambda: [_first(index, ~fits)],
    )


def _first(values, chosen):
    return tf.boolean_mask(values, chosen)[0]
