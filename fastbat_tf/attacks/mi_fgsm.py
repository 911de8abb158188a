"""MI-FGSM: iterated FGSM with momentum, the usual attack on a surrogate."""

import numbers
from typing import Unpack

import numpy as np
import tensorflow as tf

from fastbat_tf.attacks.base import Settings
from fastbat_tf.attacks.norms import PIXEL_AXES
from fastbat_tf.attacks.pgd import PGD
from fastbat_tf.errors import InputError


class MIFGSM(PGD):
    """The momentum iterative fast gradient sign method.

    ```
    g_0 = 0,  x_0 = x
    g_{k+1} = momentum * g_k + dL(x_k) / ||dL(x_k)||_1
    x_{k+1} = x + P_C(x_k + (epsilon / steps) * direction(g_{k+1}) - x)
    ```

    where L is the cross-entropy, `direction` the sign for L-infinity and the
    normalized vector for L2, and `P_C` the projection onto the ball and the
    pixel range. The accumulated gradient leaves local maxima of one network,
    so that the images fool others more often: use it in `Transfer`.

    Reference: Dong et al., CVPR 2018 (arXiv 1710.06081), algorithm 1.

    Args:
        epsilon: Float, the radius. Defaults to None, 8/255 for L-infinity and
            128/255 for L2.
        steps: Integer of at least 1. Defaults to 10, as published.
        momentum: Float of at least 0, the decay factor, mu in the paper; 0
            gives the iterated FGSM. Defaults to 1.0, as published.
        loss: `"ce"`, `"margin"` or `"dlr"`. Defaults to `"ce"`.
        target: Integer, the class that the model shall predict; see
            `TargetableAttack`. Defaults to None, any wrong class.
        **settings: `norm`, `batch_size`, `seed` and `jit_compile` of `Attack`.

    Example:

    ```python
    attack = fb.attacks.MIFGSM(8 / 255, steps=10)
    robust_accuracy = attack(model, images, labels).robust.mean()
    transfer = fb.attacks.Transfer(standard_model, "mi-fgsm-10", 8 / 255)
    robust_accuracy = transfer(model, images, labels).robust.mean()
    ```
    """

    name = "mi-fgsm"

    def __init__(
        self,
        epsilon: float | None = None,
        steps: int = 10,
        *,
        momentum: float = 1.0,
        loss: str = "ce",
        target: int | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__(
            epsilon,
            steps,
            loss=loss,
            random_start=False,
            target=target,
            **settings,
        )
        if not (isinstance(momentum, numbers.Real) and 0 <= momentum < np.inf):
            raise InputError(
                "`momentum` is expected to be a number of at least 0. "
                f"Received: momentum={momentum}"
            )
        self.momentum = float(momentum)
        self.relative_step_size = 1 / steps

    def start(self, images, labels, targets, epsilon, generators):
        """Starts from the image, without momentum."""
        problem, state = super().start(
            images, labels, targets, epsilon, generators
        )
        return problem, {**state, "velocity": np.zeros_like(images)}

    def step(self, network, problem, state, epsilon):
        """Evaluates the network at the point, and moves the point."""
        images, point = problem["images"], state["point"]
        answer = self.ask(network, self.loss, problem, point)
        velocity = self.momentum * state["velocity"] + _unit(answer.gradient)
        ascent = self.norm.direction(velocity)
        ascent *= self.relative_step_size * epsilon
        return {
            "fooled": ~answer.correct,
            "found": point,
            "loss": answer.loss,
            **answer.prediction,
            "velocity": velocity,
            "point": self.project(point + ascent - images, images, epsilon),
        }


def _unit(gradient):
    """The gradient over its L1 norm; zero for a gradient of zero."""
    # The sum of large numbers would overflow, that of tiny ones vanish.
    largest = tf.reduce_max(tf.abs(gradient), PIXEL_AXES, keepdims=True)
    scaled = tf.math.divide_no_nan(gradient, largest)
    length = tf.reduce_sum(tf.abs(scaled), PIXEL_AXES, keepdims=True)
    return tf.math.divide_no_nan(scaled, length)
