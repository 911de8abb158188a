"""FGSM: a single step, the oldest and weakest attack."""

from typing import Unpack

from fastbat_tf.attacks.base import Settings
from fastbat_tf.attacks.pgd import PGD


class FGSM(PGD):
    """The fast gradient sign method: one step of size epsilon.

    ```
    delta = P_C(epsilon * direction(d CE(x) / dx))
    ```

    where CE is the cross-entropy, `direction` the sign for L-infinity and the
    normalized gradient for L2, and `P_C` the projection onto the ball and the
    pixel range.

    Reference: Goodfellow et al., ICLR 2015 (arXiv 1412.6572).

    Args:
        epsilon: Float, the radius. Defaults to None, 8/255 for L-infinity and
            128/255 for L2.
        target: Integer, the class that the model shall predict; see
            `TargetableAttack`. Defaults to None, any wrong class.
        **settings: `norm`, `batch_size`, `seed` and `jit_compile` of `Attack`.

    Example:

    ```python
    adversarial = fb.attacks.FGSM(8 / 255)(model, images, labels)
    ```
    """

    name = "fgsm"

    def __init__(
        self,
        epsilon: float | None = None,
        *,
        target: int | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__(
            epsilon,
            steps=1,
            relative_step_size=1.0,
            random_start=False,
            target=target,
            **settings,
        )
