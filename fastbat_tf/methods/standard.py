"""Standard training, the baseline of every comparison."""

import tensorflow as tf

from fastbat_tf.methods.base import Method, Solution


class Standard(Method):
    """Trains on the clean images: the perturbation is zero.

    One forward and one backward pass per step. The network that results is
    accurate and not robust at all.
    """

    name = "standard"

    def solve(self, context):
        return Solution(tf.zeros_like(context.images))
