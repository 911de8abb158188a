"""Free-AT: each batch is replayed, and each pass serves both levels."""

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.state import Slot


class Free(Method):
    """Free adversarial training: m updates on each batch, one pass each.

    ```
    repeat m times on a batch:
        g, d    = gradients of mean loss(x + clip(delta)) to delta, to theta
        delta  <- clip(delta + step_size * sign(g), -epsilon, epsilon)
        theta  <- SGD on d
    ```

    One forward and one backward pass to both per update. An epoch of the
    settings is that of m = 1: the data are gone through `epochs / m` times.
    The perturbation goes on to the next batch, image by image.

    Reference: Shafahi, Najibi, Ghiasi, Xu, Dickerson, Studer, Davis, Taylor &
    Goldstein, "Adversarial Training for Free!", NeurIPS 2019 (arXiv
    1904.12843).

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
        step_size: Float, in pixels. Default: `epsilon`.
        replays: Integer of at least 1, m.
        start: `"carried"`: from the batch before, as published; `"zero"`: from
            zero for each batch, as the FastAT Benchmark has it.

    Example:

    >>> Free(epsilon=8 / 255, replays=8).replays
    8
    """

    name = "free"
    needs_perturbation_gradient = True
    needs_plan = True

    def __init__(
        self,
        epsilon=options.EPSILON,
        step_size=None,
        replays=options.REPLAYS,
        start=options.FREE_START,
    ):
        self.set_options(
            epsilon=epsilon,
            step_size=step_size,
            replays=replays,
            start=start,
        )

    def initial_state(self, sizes, draws):
        return {"perturbation": Slot(sizes.image_shape, rows="batch")}

    def solve(self, context):
        kept = context.state["perturbation"]
        if self.start == "zero":
            is_first = tf.equal(context.progress.replay, 0)
            kept = tf.where(is_first, tf.zeros_like(kept), kept)
        kept = tf.cast(kept, context.images.dtype)
        # What is kept may be of a larger radius than that of now.
        kept = tf.clip_by_value(kept, -self.epsilon, self.epsilon)
        delta = perturbation.project(kept, context.images, self.epsilon)
        return Solution(delta, kept)

    def correct(self, context, solution, gradients, perturbation_gradient):
        if self.start == "zero":
            moved = perturbation.signed_step(
                solution.perturbation,
                perturbation_gradient,
                self.step_size,
                context.images,
                self.epsilon,
            )
        else:
            ascent = self.step_size * tf.sign(perturbation_gradient)
            moved = tf.clip_by_value(
                solution.memory + ascent, -self.epsilon, self.epsilon
            )
        context.note(perturbation=moved)
        return gradients

    def update(self, context):
        return {"perturbation": context.notes["perturbation"]}
