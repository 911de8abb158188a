"""Perturbations that are remembered, one per training image."""

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods.state import Slot


def slots(sizes, *names):
    """State with image-shaped rows of every example, nothing written yet.

    Args:
        sizes: The `Sizes` of the run.
        *names: Names of the rows.
    """
    rows = {name: Slot(sizes.image_shape, rows="examples") for name in names}
    # TensorFlow keeps int32 variables out of a GPU, where XLA needs them.
    return {"written": Slot((), -1, "examples", "int64"), **rows}


def recall(context, name, fresh, reset_epochs=None):
    """The rows of this step's examples.

    Args:
        context: The `StepContext`.
        name: String, the name of the rows.
        fresh: Tensor like the images, for examples that were not seen since
            the last reset.
        reset_epochs: Integer, after so many epochs all is forgotten; None for
            never.
    """
    since = 0
    if reset_epochs:
        since = context.progress.epoch - context.progress.epoch % reset_epochs
    remembered = tf.reshape(context.state["written"] >= since, [-1, 1, 1, 1])
    row = tf.cast(context.state[name], context.images.dtype)
    return tf.where(remembered, row, fresh)


def record(context, **rows):
    """What `Method.update` returns to remember rows of this step."""
    epoch = tf.cast(context.progress.epoch, tf.int64)
    return {"written": tf.fill(tf.shape(context.images)[:1], epoch), **rows}


def recall_prior(context, epsilon, reset_epochs=None, decay=None):
    """The remembered start of FGSM-PGI and its heirs.

    Args:
        context: The `StepContext`.
        epsilon: Float; a fresh perturbation is `epsilon` or `-epsilon` in
            each pixel.
        reset_epochs: As for `recall`.
        decay: Float, of the momentum; None if there is none.

    Returns:
        The perturbation, and the decayed momentum or None.
    """
    start = recall(
        context, "delta", context.signs("start", epsilon), reset_epochs
    )
    if tf.is_tensor(epsilon):
        # A share of the radius: what is remembered may be of a larger one.
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
        context: The `StepContext`, whose notes are `gradient`, `start` and `momentum`,
            the decayed one.
        epsilon: Float.
        step_size: Float.

    Returns:
        What `Method.update` returns.
    """
    gradient = context.notes["gradient"]
    length = context.sum_over_replicas(tf.reduce_sum(tf.abs(gradient)))
    momentum = (
        tf.math.divide_no_nan(gradient, length) + context.notes["momentum"]
    )
    delta = perturbation.signed_step(
        context.notes["start"], momentum, step_size, context.images, epsilon
    )
    return record(context, delta=delta, momentum=momentum)
