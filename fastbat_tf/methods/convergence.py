"""Smooth convergence: the clean loss may not jump between epochs."""

import tensorflow as tf

from fastbat_tf.methods.relaxation import relaxed
from fastbat_tf.methods.state import Slot


class SmoothConvergence:
    """A mixin for methods with smooth convergence.

    ```
    loss = mean relaxed CE(x + delta*)
           + coefficient sign(l - l') l   if |l - l'| > tolerance
    ```

    where l is the mean relaxed loss of the clean images in this batch, and l'
    is its mean over the previous epoch. The second term is left out up to epoch
    number `stride`, counting from 0, and in the last `stride` epochs.

    The mixin comes before `Method` in the bases of a class. The class declares
    the options. Its `solve` returns the perturbation of the clean images as
    `Solution.memory`.
    """

    coefficient: float
    tolerance: float
    stride: int
    label_factor: float

    needs_plan = True
    batch_wide = True
    reports = {
        "convergence_sign": "mean sign of the term: 1 where the clean loss has "
        "risen too much since the last epoch, -1 where it has fallen, else 0",
    }

    def initial_state(self, sizes, draws):
        return {name: Slot(()) for name in ("previous", "sum", "count")}

    def objective(self, context, solution):
        logits = context.logits(context.images + solution.perturbation)
        clean = context.logits(context.images + solution.memory)
        losses = relaxed(context.losses, logits, self.label_factor)
        clean_losses = relaxed(context.losses, clean, self.label_factor)
        loss = context.reduce(losses) + self.term(context, clean_losses)
        return loss, logits

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
        """Returns the term that penalizes a jump of the clean loss.

        Args:
            context: The `StepContext`; notes `sum` and `count` of the losses.
            losses: `(batch,)`, the losses of the clean images.
        """
        progress = context.progress
        clean_loss = tf.reduce_mean(losses)
        context.note(
            sum=tf.stop_gradient(tf.reduce_sum(losses)),
            count=tf.cast(tf.size(losses), losses.dtype),
        )
        previous = tf.cast(_previous(context), clean_loss.dtype)
        jump = tf.stop_gradient(clean_loss) - previous
        active = tf.logical_and(
            progress.epoch > self.stride,
            progress.epoch < progress.epochs - self.stride,
        )
        active = tf.logical_and(active, tf.abs(jump) > self.tolerance)
        sign = tf.cast(active, jump.dtype) * tf.sign(jump)
        context.report(convergence_sign=sign)
        return self.coefficient * sign * context.reduce(losses)


def _previous(context):
    """Returns the mean clean loss of the previous epoch; 0 in the first."""
    state = context.state
    of_last_epoch = tf.math.divide_no_nan(state["sum"], state["count"])
    is_first = tf.equal(context.progress.batch, 0)
    return tf.where(is_first, of_last_epoch, state["previous"])
