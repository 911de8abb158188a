"""The losses that attacks maximize, and their gradients to the images.

Each loss maps logits `(batch, classes)`, labels and target classes `(batch,)`
to a tensor `(batch,)`, which is high where the network misclassifies. With the
logits z, the label y, the target t, and the classes pi sorted from the highest
logit down:

    ce            -log softmax(z)_y
    margin        max_{i != y} z_i - z_y            (Carlini & Wagner 2017)
    dlr           (max_{i != y} z_i - z_y) / (z_pi1 - z_pi3)
    targeted_dlr  (z_t - z_y) / (z_pi1 - (z_pi3 + z_pi4) / 2)
    targeted_ce      log softmax(z)_t
    targeted_margin  z_t - max_{i != t} z_i

The ratios, from Croce & Hein, ICML 2020 (arXiv 2003.01690), do not change
when the logits are scaled or shifted. They need three and four classes. With
fewer classes, or if the logits of the denominator are all equal, only the
numerator is used.
"""

from typing import NamedTuple

import tensorflow as tf

from fastbat_tf.errors import InputError, look_up
from fastbat_tf.layers import gradient_scaling
from fastbat_tf.layers.derivatives import missing_operation

TINY = 1e-12
# What replaces a loss of the label if there is a class to reach.
TOWARD = {
    "ce": "targeted_ce",
    "margin": "targeted_margin",
    "dlr": "targeted_dlr",
}
FEWEST_CLASSES = {"dlr": 3, "targeted_dlr": 4}


def cross_entropy(logits, labels, targets):
    """The cross-entropy."""
    del targets
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def margin(logits, labels, targets):
    """The highest other logit minus the label's; positive if misclassified."""
    del targets
    classes = tf.shape(logits)[-1]
    is_label = tf.one_hot(labels, classes, True, False, dtype=tf.bool)
    others = tf.where(is_label, logits.dtype.min, logits)
    return tf.reduce_max(others, -1) - _pick(logits, labels)


def difference(logits, labels, targets):
    """The target's logit minus the label's."""
    return _pick(logits, targets) - _pick(logits, labels)


def targeted_cross_entropy(logits, labels, targets):
    """The cross-entropy of the target, with the opposite sign."""
    del labels
    return -cross_entropy(logits, targets, targets)


def targeted_margin(logits, labels, targets):
    """The target's logit minus the highest other; positive if it is reached."""
    del labels
    return -margin(logits, targets, targets)


def dlr(logits, labels, targets):
    """The difference-of-logits ratio."""
    if logits.shape[-1] < FEWEST_CLASSES["dlr"]:
        return margin(logits, labels, targets)
    highest = tf.math.top_k(logits, 3).values
    scale = highest[:, 0] - highest[:, 2]
    return _ratio(margin(logits, labels, targets), scale)


def targeted_dlr(logits, labels, targets):
    """The targeted difference-of-logits ratio."""
    if logits.shape[-1] < FEWEST_CLASSES["targeted_dlr"]:
        return difference(logits, labels, targets)
    highest = tf.math.top_k(logits, 4).values
    scale = highest[:, 0] - (highest[:, 2] + highest[:, 3]) / 2
    return _ratio(difference(logits, labels, targets), scale)


def _ratio(numerator, scale):
    # Equal logits would give a derivative of 1 / TINY.
    apart = scale > 0
    scale = tf.where(apart, scale + TINY, tf.ones_like(scale))
    return numerator / scale


def _pick(logits, classes):
    return tf.gather(logits, classes, batch_dims=1)


LOSSES = {
    "ce": cross_entropy,
    "margin": margin,
    "dlr": dlr,
    "targeted_dlr": targeted_dlr,
    "difference": difference,
    "targeted_ce": targeted_cross_entropy,
    "targeted_margin": targeted_margin,
}


def get(name):
    """Returns a loss by name; an error lists the known names."""
    return look_up(LOSSES, "loss", loss=name)


def toward(name):
    """Returns the name of what replaces a loss if there is a class to reach.

    Example:

    >>> toward("ce"), toward("targeted_dlr")
    ('targeted_ce', 'targeted_dlr')
    """
    return TOWARD.get(name, name)


def fallback(name, classes):
    """Describes what replaces a loss if there are too few classes.

    Args:
        name: A key of `LOSSES`, or None.
        classes: Integer, the number of classes.

    Returns:
        A string; None if there are enough classes.
    """
    fewest = FEWEST_CLASSES.get(name, 0)
    if classes >= fewest:
        return None
    return (
        f"The loss {name} needs {fewest} classes and the model has {classes}: "
        "the difference of the logits replaces it."
    )


def predict(logits):
    """The predicted class and its softmax probability.

    `fastbat_tf.attacks.records.predict` is the same for NumPy arrays.

    Args:
        logits: float32 tensor `(batch, classes)`.

    Returns:
        A dict of two tensors `(batch,)`: `predicted`, int32, which is -1 if a
        logit is NaN, and `confidence`, float32, which is then 0.
    """
    highest = tf.reduce_max(logits, -1, keepdims=True)
    # The difference of two infinite logits would be NaN.
    below = tf.where(logits == highest, 0.0, logits - highest)
    unknown = tf.reduce_any(tf.math.is_nan(logits), -1)
    predicted = tf.argmax(logits, -1, output_type=tf.int32)
    confidence = 1.0 / tf.reduce_sum(tf.exp(below), -1)
    return {
        "predicted": tf.where(unknown, -1, predicted),
        "confidence": tf.where(unknown, 0.0, confidence),
    }


def is_correct(logits, labels):
    """Whether the label has the highest logit; False if a logit is NaN."""
    predicted = tf.argmax(logits, -1, output_type=labels.dtype)
    unknown = tf.reduce_any(tf.math.is_nan(logits), -1)
    return (predicted == labels) & ~unknown


class Answer(NamedTuple):
    """The evaluation of a network on a batch.

    Attributes:
        loss: float32 tensor `(batch,)`.
        gradient: float32 tensor like the images, the gradient of each loss
            with respect to its image.
        correct: bool tensor `(batch,)`, whether the label is predicted.
        prediction: What `predict` returns.
    """

    loss: tf.Tensor
    gradient: tf.Tensor
    correct: tf.Tensor
    prediction: dict


def ask(network, loss, *, images, labels, targets, samples=1):
    """Computes loss, gradient to the images, and correctness in one pass.

    Args:
        network: Callable from images to logits.
        loss: A function of this module.
        images: float32 tensor `(batch, height, width, channels)`.
        labels: int32 tensor `(batch,)`.
        targets: int32 tensor `(batch,)`.
        samples: Integer, how often a random network is evaluated. Losses,
            gradients and probabilities are averaged: expectation over
            transformation (Athalye et al., ICML 2018, arXiv 1802.00420).
            Defaults to 1.

    Returns:
        An `Answer`.

    Raises:
        InputError: If TensorFlow has no gradient of an operation of the
            network.
    """
    if samples == 1:
        values, logits, gradient = _ask_once(
            network, loss, images, labels, targets
        )
        return Answer(
            values, gradient, is_correct(logits, labels), predict(logits)
        )

    def add(number, values, probabilities, gradient):
        once = _ask_once(network, loss, images, labels, targets)
        probabilities += tf.nn.softmax(once[1])
        return number + 1, values + once[0], probabilities, gradient + once[2]

    first = _ask_once(network, loss, images, labels, targets)
    _, values, probabilities, gradient = tf.while_loop(
        lambda number, *_: number < samples,
        add,
        (tf.constant(1), first[0], tf.nn.softmax(first[1]), first[2]),
    )
    prediction = predict(probabilities)
    mean = tf.reduce_max(probabilities, -1) / samples
    unknown = prediction["predicted"] < 0
    return Answer(
        values / samples,
        gradient / samples,
        is_correct(probabilities, labels),
        {**prediction, "confidence": tf.where(unknown, 0.0, mean)},
    )


def _gradient(tape, values, logits, images):
    zero = tf.UnconnectedGradients.ZERO
    if not gradient_scaling.computes_in_float16(logits):
        return tape.gradient(values, images, unconnected_gradients=zero)
    upstream = tape.gradient(values, logits, unconnected_gradients=zero)
    # In inference, no example changes the logits of another.
    gradient = gradient_scaling.retried_gradient(
        tape, logits, upstream, images, by_example=True
    )
    return tf.zeros_like(images) if gradient is None else gradient


def _ask_once(network, loss, images, labels, targets):
    # Variables are not watched: only gradients to the images are needed.
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as (
        tape
    ):
        tape.watch(images)
        logits = tf.cast(network(images), tf.float32)
        values = loss(logits, labels, targets)
    try:
        gradient = _gradient(tape, values, logits, images)
    except LookupError as error:
        operation = missing_operation(error)
        if operation is None:
            raise
        raise InputError(
            "The model is expected to be differentiable with respect to the "
            "images; TensorFlow has no gradient for one of its operations. "
            f"Received: operation={operation}"
        ) from error
    # Where the loss overflows, there is no direction to follow.
    gradient = tf.where(tf.math.is_finite(gradient), gradient, 0.0)
    return values, logits, gradient
