"""Smooth convergence: the benign loss may not jump between epochs."""

import tensorflow as tf

from fastbat_tf.methods.state import Slot

SLOTS = {name: Slot(()) for name in ("previous", "sum", "count")}


def term(step, losses, tolerance, coefficient, stride):
    """What is added to the loss when the benign loss has jumped.

    ```
    coefficient sign(l - l') l   if |l - l'| > tolerance, else 0
    ```

    with l the mean benign loss of this batch and l' that of the epoch before.
    It is left out in the first epochs up to number `stride`, counting from 0,
    and in the last `stride`.

    Args:
        step: The `Step`; `sum` and `count` of the losses are noted.
        losses: Benign losses of the examples.
        tolerance: Float.
        coefficient: Float.
        stride: Integer.
    """
    place = step.place
    benign = tf.reduce_mean(losses)
    step.note(
        sum=tf.stop_gradient(tf.reduce_sum(losses)),
        count=tf.cast(tf.size(losses), losses.dtype),
    )
    jump = tf.stop_gradient(benign) - tf.cast(_previous(step), benign.dtype)
    active = tf.logical_and(
        place.epoch > stride, place.epoch < place.epochs - stride
    )
    active = tf.logical_and(active, tf.abs(jump) > tolerance)
    sign = tf.cast(active, jump.dtype) * tf.sign(jump)
    step.report(convergence_sign=sign)
    return coefficient * sign * benign


def update(step):
    """What `Method.update` returns to remember the losses of this step."""
    is_first = tf.equal(step.place.batch, 0)
    new = {"previous": _previous(step)}
    for name in ("sum", "count"):
        old = step.state[name]
        added = tf.cast(step.sum_over_replicas(step.notes[name]), old.dtype)
        new[name] = tf.where(is_first, tf.zeros_like(old), old) + added
    return new


def _previous(step):
    """The mean benign loss of the epoch before; 0 in the first."""
    state = step.state
    of_last_epoch = tf.math.divide_no_nan(state["sum"], state["count"])
    is_first = tf.equal(step.place.batch, 0)
    return tf.where(is_first, of_last_epoch, state["previous"])
