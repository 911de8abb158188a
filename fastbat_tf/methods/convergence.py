"""Smooth convergence: the benign loss may not jump between epochs."""

import tensorflow as tf

from fastbat_tf.methods.base import Method
from fastbat_tf.methods.relaxation import relaxed
from fastbat_tf.methods.state import Slot


class SmoothConvergence(Method):
    """A method whose benign loss may not jump between epochs.

    ```
    loss = mean relaxed CE(x + delta*)
           + coefficient sign(l - l') l   if |l - l'| > tolerance
    ```

    with l the mean relaxed loss of the benign images in this batch, and l'
    that of the epoch before. The second term is left out in the first epochs
    up to number `stride`, counting from 0, and in the last `stride`.

    `solve` gives the perturbation of the benign images as
    `Solution.memory`; `coefficient`, `tolerance`, `stride` and `label_factor`
    are options.
    """

    needs_plan = True
    reports = ("convergence_sign",)

    def initial_state(self, sizes, draws):
        return {name: Slot(()) for name in ("previous", "sum", "count")}

    def objective(self, step, solution):
        logits = step.logits(step.images + solution.perturbation)
        benign = step.logits(step.images + solution.memory)
        losses = relaxed(step.losses, logits, self.label_factor)
        benign_losses = relaxed(step.losses, benign, self.label_factor)
        return tf.reduce_mean(losses) + self.term(step, benign_losses), logits

    def update(self, step):
        is_first = tf.equal(step.place.batch, 0)
        new = {"previous": _previous(step)}
        for name in ("sum", "count"):
            old = step.state[name]
            added = tf.cast(step.sum_over_replicas(step.notes[name]), old.dtype)
            new[name] = tf.where(is_first, tf.zeros_like(old), old) + added
        return new

    def term(self, step, losses):
        """What is added to the loss if the benign loss has jumped.

        Args:
            step: The `Step`; `sum` and `count` of the losses are noted.
            losses: Those of the benign images, per example.
        """
        place = step.place
        benign = tf.reduce_mean(losses)
        step.note(
            sum=tf.stop_gradient(tf.reduce_sum(losses)),
            count=tf.cast(tf.size(losses), losses.dtype),
        )
        jump = tf.stop_gradient(benign) - tf.cast(_previous(step), benign.dtype)
        active = tf.logical_and(
            place.epoch > self.stride, place.epoch < place.epochs - self.stride
        )
        active = tf.logical_and(active, tf.abs(jump) > self.tolerance)
        sign = tf.cast(active, jump.dtype) * tf.sign(jump)
        step.report(convergence_sign=sign)
        return self.coefficient * sign * benign


def _previous(step):
    """The mean benign loss of the epoch before; 0 in the first."""
    state = step.state
    of_last_epoch = tf.math.divide_no_nan(state["sum"], state["count"])
    is_first = tf.equal(step.place.batch, 0)
    return tf.where(is_first, of_last_epoch, state["previous"])
