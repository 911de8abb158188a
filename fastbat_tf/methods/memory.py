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


def recall(step, name, fresh, reset_epochs=None):
    """The rows of this step's examples.

    Args:
        step: The `Step`.
        name: String, the name of the rows.
        fresh: Tensor like the images, for examples that were not seen since
            the last reset.
        reset_epochs: Integer, after so many epochs all is forgotten; None for
            never.
    """
    since = 0
    if reset_epochs:
        since = step.place.epoch - step.place.epoch % reset_epochs
    remembered = tf.reshape(step.state["written"] >= since, [-1, 1, 1, 1])
    row = tf.cast(step.state[name], step.images.dtype)
    return tf.where(remembered, row, fresh)


def record(step, **rows):
    """What `Method.update` returns to remember rows of this step."""
    epoch = tf.cast(step.place.epoch, tf.int64)
    return {"written": tf.fill(tf.shape(step.images)[:1], epoch), **rows}


def recall_prior(step, epsilon, reset_epochs=None, decay=None):
    """The remembered start of FGSM-PGI and its heirs.

    Args:
        step: The `Step`.
        epsilon: Float; a fresh perturbation is `epsilon` or `-epsilon` in
            each pixel.
        reset_epochs: As for `recall`.
        decay: Float, of the momentum; None if there is none.

    Returns:
        The perturbation, and the decayed momentum or None.
    """
    start = recall(step, "delta", step.signs("start", epsilon), reset_epochs)
    if tf.is_tensor(epsilon):
        # A share of the radius: what is remembered may be of a larger one.
        start = tf.clip_by_value(start, -epsilon, epsilon)
    if decay is None:
        return start, None
    zeros = tf.zeros_like(step.images)
    return start, decay * recall(step, "momentum", zeros, reset_epochs)


def accumulate(step, epsilon, step_size):
    """Moves the remembered perturbation along the momentum.

    ```
    momentum = g / |g|_1 + decayed momentum,   over the batch of all replicas
    delta    = P_C(start + step_size * sign(momentum))
    ```

    Args:
        step: The `Step`, whose notes are `gradient`, `start` and `momentum`,
            the decayed one.
        epsilon: Float.
        step_size: Float.

    Returns:
        What `Method.update` returns.
    """
    gradient = step.notes["gradient"]
    length = step.sum_over_replicas(tf.reduce_sum(tf.abs(gradient)))
    momentum = tf.math.divide_no_nan(gradient, length) + step.notes["momentum"]
    delta = perturbation.signed_step(
        step.notes["start"], momentum, step_size, step.images, epsilon
    )
    return record(step, delta=delta, momentum=momentum)
