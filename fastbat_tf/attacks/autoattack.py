"""AutoAttack: the ensemble that the field measures robustness by."""

import fastbat_tf.attacks
from fastbat_tf.attacks.base import Attack
from fastbat_tf.errors import InputError

VERSIONS = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "rand": ("apgd-ce-rand", "apgd-dlr-rand"),
}


class AutoAttack(Attack):
    """Several attacks in order, each on what the others have left.

    `standard` is APGD on the cross-entropy, targeted APGD on the DLR loss,
    targeted FAB and Square. `rand` is APGD on both losses with 20 questions for
    each gradient (expectation over transformation), for models that draw at
    random. `custom` is any list.

    Reference: Croce & Hein, ICML 2020 (arXiv 2003.01690).

    Args:
        network: As for `Attack`.
        version: `"standard"`, `"rand"` or `"custom"`.
        attacks: For `custom`, names as `fastbat_tf.attacks.get` takes them.
        **kwargs: `norm`, `batch_size` and `jit_compile`, as for `Attack`.

    Example:

    ```python
    attack = AutoAttack(functools.partial(model, training=False))
    robust_accuracy = attack(images, labels, epsilon=8 / 255).robust.mean()
    ```
    """

    name = "autoattack"

    def __init__(self, network, version="standard", attacks=(), **kwargs):
        super().__init__(network, **kwargs)
        if version not in (*VERSIONS, "custom"):
            raise InputError(
                "Unknown version. Expected one of "
                f"{', '.join(VERSIONS)}, custom. Received: version={version}"
            )
        if (version == "custom") != bool(attacks):
            raise InputError(
                "`attacks` is expected with the version custom, and with no "
                f"other. Received: version={version}, attacks={attacks}"
            )
        self._stages = [
            fastbat_tf.attacks.get(name, network, **kwargs)
            for name in VERSIONS.get(version, attacks)
        ]

    def stages(self):
        """The attacks, in order."""
        return self._stages
