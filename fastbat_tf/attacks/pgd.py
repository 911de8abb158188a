"""PGD with restarts: the attack of most published tables."""

import numpy as np

from fastbat_tf.attacks import losses
from fastbat_tf.attacks.base import SteppedAttack
from fastbat_tf.attacks.inputs import check_positive


class PGDAttack(SteppedAttack):
    """Projected gradient ascent, from random starts.

    ```
    delta_0     = U(ball of radius epsilon), clipped to the pixels
    delta_{k+1} = P_C(delta_k + step_size * direction(d L(x + delta_k)))
    ```

    with the sign of the gradient as direction for L-infinity, and the gradient
    over its norm for L2. PGD-50-10 of the Fast-BAT paper is `steps=50,
    restarts=10` with the step size `epsilon / 4` and the cross-entropy. An
    example counts as broken as soon as one iterate of one restart is
    misclassified.

    Reference: Madry et al., ICLR 2018 (arXiv 1706.06083).

    Args:
        network: As for `Attack`.
        steps: Integer of at least 1.
        restarts: Integer of at least 1.
        relative_step_size: Float, the step size over epsilon.
        loss: `"ce"`, `"margin"` or `"dlr"`.
        random_start: Whether it starts at random or at the image.
        **kwargs: `norm`, `batch_size` and `jit_compile`, as for `Attack`.

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
        """One per restart."""
        return self.restarts

    def start(self, images, labels, targets, epsilon, generators):
        """A random point of the ball, or the image."""
        if not self.random_start:
            return {}, {"point": images}
        shape = images.shape[1:]
        delta = np.stack([self.norm.uniform(g, shape) for g in generators])
        return {}, {"point": self.place(epsilon * delta, images, epsilon)}

    def step(self, problem, state, epsilon):
        """Asks at the point, and moves it."""
        images, point = problem["images"], state["point"]
        answer = self.ask(self.loss, problem, point)
        ascent = self.norm.direction(answer.gradient)
        ascent *= self.relative_step_size * epsilon
        return {
            "fooled": ~answer.correct,
            "found": point,
            "loss": answer.loss,
            "point": self.place(point + ascent - images, images, epsilon),
        }
