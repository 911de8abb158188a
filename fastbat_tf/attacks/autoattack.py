"""AutoAttack: the ensemble that is the standard measure of robustness."""

from collections.abc import Sequence
from typing import Any, Unpack

from fastbat_tf.attacks import registry
from fastbat_tf.attacks.base import Attack, Settings, SteppedAttack
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
        epsilon: Float, the radius. Defaults to None, 8/255 for L-infinity and
            128/255 for L2.
        version: `"standard"`, `"rand"` or `"custom"`. Defaults to
            `"standard"`.
        attacks: For `custom`, names that `fastbat_tf.attacks.get` takes.
            Defaults to none.
        **settings: `norm`, `batch_size`, `seed` and `jit_compile` of `Attack`.

    Raises:
        InputError: If the version is unknown, or `attacks` and the version do
            not go together.

    Example:

    ```python
    attack = fb.attacks.AutoAttack(8 / 255)
    robust_accuracy = attack(model, images, labels).robust.mean()
    ```
    """

    name = "autoattack"

    def __init__(
        self,
        epsilon: float | None = None,
        *,
        version: str = "standard",
        attacks: Sequence[str] = (),
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__(epsilon, **settings)
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
        self._stages: list[Any] = [
            registry.build(name, **settings)
            for name in VERSIONS.get(version, attacks)
        ]
        self.white_box = any(stage.white_box for stage in self._stages)

    def stages(self) -> list[SteppedAttack]:
        """The attacks of the ensemble, in order."""
        return self._stages
