"""FGSM: a single step, the oldest and weakest attack."""

from fastbat_tf.attacks.pgd import PGDAttack


class FGSMAttack(PGDAttack):
    """The fast gradient sign method: one step of size epsilon.

    ```
    delta = P_C(epsilon * direction(d CE(x) / dx))
    ```

    where CE is the cross-entropy, `direction` the sign for L-infinity and the
    normalized gradient for L2, and `P_C` the projection onto the ball and the
    pixel range.

    Reference: Goodfellow et al., ICLR 2015 (arXiv 1412.6572).

    Args:
        network: Any callable from float32 images `(batch, height, width,
            channels)` in [0, 1] to logits `(batch, classes)`.
        **kwargs: `norm`, `batch_size` and `jit_compile` of `Attack`.
    """

    name = "fgsm"

    def __init__(self, network, **kwargs):
        super().__init__(
            network,
            steps=1,
            relative_step_size=1.0,
            random_start=False,
            **kwargs,
        )
