"""Standard training, the baseline of every comparison."""

import tensorflow as tf

from fastbat_tf.methods.base import Method, Solution
from fastbat_tf.methods.spec import Passes


class Standard(Method):
    """Trains on the clean images: the perturbation is zero.

    A step takes one forward and one backward pass. The network becomes
    accurate, but not robust.

    Example:

    >>> fb.Standard()
    Standard()
    """

    name = "standard"
    summary = "trains on clean images"
    passes = Passes(1, 1, 1, reach=0)

    def solve(self, context):
        return Solution(tf.zeros_like(context.images))
