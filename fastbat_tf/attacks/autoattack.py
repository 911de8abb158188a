"""AutoAttack: the ensemble that is the standard measure of robustness."""

from fastbat_tf.attacks import registry
from fastbat_tf.attacks.base import Attack
from fastbat_tf.errors import InputError

VERSIONS = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "rand": ("apgd-ce-rand", "apgd-dlr-rand"),
}


class AutoAttack(Attack):
    """Runs several attacks in order, each on what the previous ones left.

    The version `standard` consists of APGD on the cross-entropy, targeted APGD
    on the DLR loss, targeted FAB, and Square. The version `rand`, for models
    with random outputs, consists of APGD on the cross-entropy and on the DLR
    loss, with 20 evaluations averaged for each gradient (expectation over
    transformation). The version `custom` is any list of attacks.

    Reference: Croce & Hein, ICML 2020 (arXiv 2003.01690).

    Args:
        network: Any callable from float32 images `(batch, height, width,
            channels)` in [0, 1] to logits `(batch, classes)`.
        version: `"standard"`, `"rand"` or `"custom"`. Defaults to
            `"standard"`.
        attacks: For `custom`, names that `fastbat_tf.attacks.get` takes.
            Defaults to none.
        **kwargs: `norm`, `batch_size` and `jit_compile` of `Attack`.

    Raises:
        InputError: If the version is unknown, or `attacks` and the version do
            not go together.

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
                "`attacks` and the version custom are expected together. "
                f"Received: version={version}, attacks={attacks}"
            )
        self._stages = [
            registry.get(name, network, **kwargs)
            for name in VERSIONS.get(version, attacks)
        ]

    def stages(self):
        """The attacks of the ensemble, in order."""
        return self._stages
