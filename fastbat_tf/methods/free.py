"""Free-AT: replays each batch, and each pass serves both levels."""

from typing import Literal, get_args

import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.options import option
from fastbat_tf.methods.spec import Paper, Passes, Variant
from fastbat_tf.methods.state import Slot

Start = Literal["carried", "zero"]


class Free(Method):
    """Free adversarial training: m updates on each batch, one pass each.

    ```
    repeat m times on a batch:
        g, d    = gradients of mean loss(x + clip(delta)) to delta, to theta
        delta  <- clip(delta + step_size * sign(g), -epsilon, epsilon)
        theta  <- SGD on d
    ```

    Each update takes one forward pass, and one backward pass to both. The
    number of updates does not depend on m, because the training passes over the
    data `epochs / m` times. The next batch starts from the perturbations of
    this one, image by image.

    Reference: Shafahi, Najibi, Ghiasi, Xu, Dickerson, Studer, Davis, Taylor &
    Goldstein, "Adversarial Training for Free!", NeurIPS 2019 (arXiv
    1904.12843).

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
            Defaults to `8 / 255`.
        step_size: Float, in pixels. Defaults to `epsilon`.
        replays: Integer of at least 1, m. Defaults to 4.
        start: `"carried"`: each batch starts from the perturbation of the
            previous one, as published; `"zero"`: from zero, as in the FastAT
            Benchmark. Defaults to `"carried"`.

    Example:

    >>> fb.Free(epsilon=8 / 255, replays=8).replays
    8
    """

    name = "free"
    summary = "replays each batch; each pass serves both levels"
    paper = Paper(
        "Shafahi et al.", "NeurIPS 2019", "https://arxiv.org/abs/1904.12843"
    )
    passes = Passes(4, 4, 4)
    variants = {"zero": Variant({"start": "zero"})}
    needs_perturbation_gradient = True
    needs_plan = True

    epsilon: float = options.EPSILON
    step_size: float | None = options.step_size()
    replays: int = option(
        4,
        "Number of updates on each batch; it divides the number of epochs.",
        interval="[1, inf)",
    )
    start: Start = option(
        "carried",
        "Start of each batch: the perturbation of the previous one, or zero.",
        choices=get_args(Start),
    )

    def initial_state(self, sizes, draws):
        return {"perturbation": Slot(sizes.image_shape, rows="batch")}

    def solve(self, context):
        kept = context.state["perturbation"]
        if self.start == "zero":
            is_first = tf.equal(context.progress.replay, 0)
            kept = tf.where(is_first, tf.zeros_like(kept), kept)
        kept = tf.cast(kept, context.images.dtype)
        # It may come from a step with a larger radius.
        kept = tf.clip_by_value(kept, -self.epsilon, self.epsilon)
        delta = perturbation.project(kept, context.images, self.epsilon)
        return Solution(delta, kept)

    def correct(self, context, solution, gradients, perturbation_gradient):
        if self.start == "zero":
            moved = perturbation.step(
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
