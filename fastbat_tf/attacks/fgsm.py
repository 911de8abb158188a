"""FGSM: one step, the oldest attack and the weakest here."""

from fastbat_tf.attacks.pgd import PGDAttack


class FGSMAttack(PGDAttack):
    """One step of size epsilon along the gradient of the cross-entropy.

    ```
    delta = P_C(epsilon * direction(d CE(x) / dx))
    ```

    Reference: Goodfellow et al., ICLR 2015 (arXiv 1412.6572).

    Args:
        network: As for `Attack`.
        **kwargs: `norm`, `batch_size` and `jit_compile`, as for `Attack`.
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
