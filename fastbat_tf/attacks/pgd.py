"""PGD with restarts, the attack of most published tables."""

from typing import Unpack

import numpy as np

from fastbat_tf.attacks.base import Settings
from fastbat_tf.attacks.inputs import check_above_zero, check_positive
from fastbat_tf.attacks.targetable import TargetableAttack


class PGD(TargetableAttack):
    """Projected gradient ascent from random starts.

    ```
    delta_0     ~ U(ball of radius epsilon), clipped to the pixel range
    delta_{k+1} = P_C(delta_k + step_size * direction(d L(x + delta_k)))
    ```

    where `direction` is the sign of the gradient for L-infinity and the
    normalized gradient for L2, and `P_C` the projection onto the ball and the
    pixel range. PGD-50-10 of the Fast-BAT paper is `steps=50, restarts=10` with
    the step size `epsilon / 4` and the cross-entropy. An example counts as
    broken as soon as any iterate of any restart is misclassified.

    Reference: Madry et al., ICLR 2018 (arXiv 1706.06083).

    Args:
        epsilon: Float, the radius. Defaults to None, 8/255 for L-infinity and
            128/255 for L2.
        steps: Integer of at least 1. Defaults to 10.
        restarts: Integer of at least 1. Defaults to 1.
        relative_step_size: Float above 0, the step size divided by epsilon.
            Defaults to 0.25.
        loss: `"ce"`, `"margin"` or `"dlr"`. Defaults to `"ce"`.
        random_start: Whether to start from a random point rather than from the
            image. Defaults to True.
        target: Integer, the class that the model shall predict; see
            `TargetableAttack`. Defaults to None, any wrong class.
        **settings: `norm`, `batch_size`, `seed` and `jit_compile` of `Attack`.

    Example:

    ```python
    attack = fb.attacks.PGD(epsilon=8 / 255, steps=50, restarts=10)
    robust_accuracy = attack(model, images, labels).robust.mean()
    ```
    """

    name = "pgd"

    def __init__(
        self,
        epsilon: float | None = None,
        steps: int = 10,
        restarts: int = 1,
        *,
        relative_step_size: float = 0.25,
        loss: str = "ce",
        random_start: bool = True,
        target: int | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__(epsilon, **settings)
        check_positive(steps=steps, restarts=restarts)
        check_above_zero(relative_step_size=relative_step_size)
        self.steps = steps
        self.restarts = restarts
        self.relative_step_size = relative_step_size
        self.choose(loss, target)
        self.random_start = random_start

    def rounds(self, classes):
        """The number of restarts."""
        return self.restarts

    def start(self, images, labels, targets, epsilon, generators):
        """Starts from a random point of the ball, or from the image."""
        if not self.random_start:
            return {}, {"point": images}
        shape = images.shape[1:]
        delta = np.stack([self.norm.uniform(g, shape) for g in generators])
        return {}, {"point": self.project(epsilon * delta, images, epsilon)}

    def step(self, network, problem, state, epsilon):
        """Evaluates the network at the point, and moves the point."""
        images, point = problem["images"], state["point"]
        answer = self.ask(network, self.loss, problem, point)
        ascent = self.norm.direction(answer.gradient)
        ascent *= self.relative_step_size * epsilon
        return {
            "fooled": ~answer.correct,
            "found": point,
            "loss": answer.loss,
            **answer.prediction,
            "point": self.project(point + ascent - images, images, epsilon),
        }
