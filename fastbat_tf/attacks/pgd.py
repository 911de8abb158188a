"""PGD with restarts, the attack of most published tables."""

import numpy as np

from fastbat_tf.attacks import losses
from fastbat_tf.attacks.base import SteppedAttack
from fastbat_tf.attacks.inputs import check_positive


class PGDAttack(SteppedAttack):
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
        network: Any callable from float32 images `(batch, height, width,
            channels)` in [0, 1] to logits `(batch, classes)`.
        steps: Integer of at least 1. Defaults to 10.
        restarts: Integer of at least 1. Defaults to 1.
        relative_step_size: Float, the step size divided by epsilon. Defaults
            to 0.25.
        loss: `"ce"`, `"margin"` or `"dlr"`. Defaults to `"ce"`.
        random_start: Whether to start from a random point rather than from the
            image. Defaults to True.
        **kwargs: `norm`, `batch_size` and `jit_compile` of `Attack`.

    Example:

    ```python
    attack = PGDAttack(functools.partial(model, training=False), steps=50)
    robust_accuracy = attack(images, labels, epsilon=8 / 255).robust.mean()
    ```
    """

    name = "pgd"

    def __init__(
        self,
        network,
        steps=10,
        restarts=1,
        *,
        relative_step_size=0.25,
        loss="ce",
        random_start=True,
        **kwargs,
    ):
        super().__init__(network, **kwargs)
        check_positive(steps=steps, restarts=restarts)
        self.steps = steps
        self.restarts = restarts
        self.relative_step_size = relative_step_size
        self.loss_name = loss
        self.loss = losses.get(loss)
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

    def step(self, problem, state, epsilon):
        """Evaluates the network at the point, and moves the point."""
        images, point = problem["images"], state["point"]
        answer = self.ask(self.loss, problem, point)
        ascent = self.norm.direction(answer.gradient)
        ascent *= self.relative_step_size * epsilon
        return {
            "fooled": ~answer.correct,
            "found": point,
            "loss": answer.loss,
            "point": self.project(point + ascent - images, images, epsilon),
        }
