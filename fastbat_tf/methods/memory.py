"""Perturbations that a method remembers, one per training image."""

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods.state import Slot


def slots(sizes, *names):
    """Declares state with a row for every example, shaped like an image.

    Args:
        sizes: The `Sizes` of the run.
        *names: Strings, the names of the variables.

    Returns:
        Dict of `Slot`s. An additional one, `written`, holds the epoch in which
        a row was last written, or -1.
    """
    rows = {name: Slot(sizes.image_shape, rows="examples") for name in names}
    # TensorFlow keeps int32 variables out of a GPU, where XLA needs them.
    return {"written": Slot((), -1, "examples", "int64"), **rows}


def recall(context, name, fresh, reset_epochs=None):
    """Returns the rows of this step's examples.

    Args:
        context: The `StepContext`.
        name: String, the name of the variable.
        fresh: Tensor like the images, for examples that have not been seen
            since the last reset.
        reset_epochs: Integer, the number of epochs after which everything is
            forgotten. Defaults to None, for never.

    Returns:
        A tensor like the images.
    """
    since = 0
    if reset_epochs:
        since = context.progress.epoch - context.progress.epoch % reset_epochs
    remembered = tf.reshape(context.state["written"] >= since, [-1, 1, 1, 1])
    row = tf.cast(context.state[name], context.images.dtype)
    return tf.where(remembered, row, fresh)


def record(context, **rows):
    """Makes the dict with which `Method.update` stores rows of this step.

    Args:
        context: The `StepContext`.
        **rows: Tensors like the images, by the names of the variables.
    """
    epoch = tf.cast(context.progress.epoch, tf.int64)
    return {"written": tf.fill(tf.shape(context.images)[:1], epoch), **rows}


def recall_prior(context, epsilon, reset_epochs=None, decay=None):
    """Returns the remembered start of FGSM-PGI and the methods based on it.

    Args:
        context: The `StepContext`.
        epsilon: Float or scalar tensor. A fresh perturbation is `epsilon` or
            `-epsilon` in each pixel.
        reset_epochs: Integer, the number of epochs after which everything is
            forgotten. Defaults to None, for never.
        decay: Float, the decay of the momentum. Defaults to None, for no
            momentum.

    Returns:
        The perturbation, and the decayed momentum or None.
    """
    start = recall(
        context, "delta", context.signs("start", epsilon), reset_epochs
    )
    if tf.is_tensor(epsilon):
        # The start may come from a step with a larger radius.
        start = tf.clip_by_value(start, -epsilon, epsilon)
    if decay is None:
        return start, None
    zeros = tf.zeros_like(context.images)
    return start, decay * recall(context, "momentum", zeros, reset_epochs)


def accumulate(context, epsilon, step_size):
    """Moves the remembered perturbation along the momentum.

    ```
    momentum = g / |g|_1 + decayed momentum,   over the batch of all replicas
    delta    = P_C(start + step_size * sign(momentum))
    ```

    Args:
        context: The `StepContext`, whose notes are `gradient`, `start` and
            the decayed `momentum`.
        epsilon: Float, radius of the L-infinity ball in pixels.
        step_size: Float, in pixels.

    Returns:
        Dict of the new rows, which `Method.update` returns.
    """
    gradient = context.notes["gradient"]
    length = context.sum_over_replicas(tf.reduce_sum(tf.abs(gradient)))
    momentum = (
        tf.math.divide_no_nan(gradient, length) + context.notes["momentum"]
    )
    delta = perturbation.step(
        context.notes["start"], momentum, step_size, context.images, epsilon
    )
    return record(context, delta=delta, momentum=momentum)
