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

    def objective(self, context, solution):
        logits = context.logits(context.images + solution.perturbation)
        benign = context.logits(context.images + solution.memory)
        losses = relaxed(context.losses, logits, self.label_factor)
        benign_losses = relaxed(context.losses, benign, self.label_factor)
        return tf.reduce_mean(losses) + self.term(
            context, benign_losses
        ), logits

    def update(self, context):
        is_first = tf.equal(context.progress.batch, 0)
        new = {"previous": _previous(context)}
        for name in ("sum", "count"):
            old = context.state[name]
            added = tf.cast(
                context.sum_over_replicas(context.notes[name]), old.dtype
            )
            new[name] = tf.where(is_first, tf.zeros_like(old), old) + added
        return new

    def term(self, context, losses):
        """What is added to the loss if the benign loss has jumped.

        Args:
            context: The `StepContext`; `sum` and `count` of the losses are noted.
            losses: Those of the benign images, per example.
        """
        progress = context.progress
        benign = tf.reduce_mean(losses)
        context.note(
            sum=tf.stop_gradient(tf.reduce_sum(losses)),
            count=tf.cast(tf.size(losses), losses.dtype),
        )
        jump = tf.stop_gradient(benign) - tf.cast(
            _previous(context), benign.dtype
        )
        active = tf.logical_and(
            progress.epoch > self.stride,
            progress.epoch < progress.epochs - self.stride,
        )
        active = tf.logical_and(active, tf.abs(jump) > self.tolerance)
        sign = tf.cast(active, jump.dtype) * tf.sign(jump)
        context.report(convergence_sign=sign)
        return self.coefficient * sign * benign


def _previous(context):
    """The mean benign loss of the epoch before; 0 in the first."""
    state = context.state
    of_last_epoch = tf.math.divide_no_nan(state["sum"], state["count"])
    is_first = tf.equal(context.progress.batch, 0)
    return tf.where(is_first, of_last_epoch, state["previous"])
