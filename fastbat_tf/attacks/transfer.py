"""Transfer: perturbations made on one model, tested on another."""

import copy
from typing import Any, Unpack

import tensorflow as tf

from fastbat_tf.attacks import losses, registry
from fastbat_tf.attacks.base import Settings, SteppedAttack
from fastbat_tf.attacks.bound import BoundAttack
from fastbat_tf.attacks.inputs import check_pixel_range
from fastbat_tf.attacks.models import as_network
from fastbat_tf.layers.pixel_range import PixelRange


class Transfer(SteppedAttack):
    """Attacks a surrogate, and tests the result of each round on the victim.

    The attack on the surrogate takes all its steps, even after the surrogate
    is fooled. The victim only classifies what each round reports (the last
    point of PGD, the best one of APGD); its gradients are never used. Target
    classes are those that the victim finds likely.

    Reference: Papernot et al. 2016 (arXiv 1605.07277).

    Args:
        surrogate: The model on which the perturbations are made, in any form
            that the attacked model may have, with gradients. A
            `RobustClassifier` takes pixels in its own range, any other
            surrogate in that of the attacked model.
        attack: Name of the attack on the surrogate, of the family of FGSM, PGD
            or APGD. Defaults to `"pgd-50-10"`.
        epsilon: Float, the radius. Defaults to None, 8/255 for L-infinity and
            128/255 for L2.
        **settings: `norm`, `batch_size`, `seed` and `jit_compile` of `Attack`.

    Example:

    ```python
    attack = fb.attacks.Transfer(standard_model, "pgd-20-1")
    robust_accuracy = attack(model, images, labels).robust.mean()
    ```
    """

    name = "transfer"
    white_box = False

    def __init__(
        self,
        surrogate: Any,
        attack: str = "pgd-50-10",
        epsilon: float | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__(epsilon, **settings)
        self.surrogate = surrogate
        self._traced: list = []
        self.attack: Any = registry.build(attack, **settings)
        self.attack.stops = False
        self.loss_name = self.attack.loss_name
        self.steps = self.attack.steps

    def on(
        self, network: Any, pixel_range: PixelRange | None = None
    ) -> BoundAttack:
        """Binds the attack to a network, and to the surrogate beside it."""
        attack = copy.copy(self)
        attack.surrogate, _ = as_network(
            self.surrogate, default=pixel_range or PixelRange()
        )
        check_pixel_range(attack.surrogate)
        return BoundAttack(attack, network)

    def _bind(self, model, pixel_range, shape):
        """Forgets what is known of a surrogate whose layers are others now."""
        variables = getattr(self.surrogate, "variables", ())
        traced = [id(variable) for variable in variables]
        if traced != self._traced:
            self._bound.clear()
            self._traced = traced
        return super()._bind(model, pixel_range, shape)

    def differentiates(self, network):
        """The surrogate."""
        return self.surrogate

    def rounds(self, classes):
        """The number of rounds of the attack on the surrogate."""
        return self.attack.rounds(classes)

    def start(self, images, labels, targets, epsilon, generators):
        """Starts the attack on the surrogate."""
        return self.attack.start(images, labels, targets, epsilon, generators)

    def step(self, network, problem, state, epsilon):
        """Takes a step of the attack on the surrogate."""
        return self.attack.step(self.surrogate, problem, state, epsilon)

    def advance(self, network, problem, state, epsilon):
        """Advances the attack on the surrogate, then asks the victim."""
        state = super().advance(network, problem, state, epsilon)
        ended = state["iteration"] > self.steps

        def ask_victim():
            logits = tf.cast(network(state["found"]), tf.float32)
            fooled = ended & ~losses.is_correct(logits, problem["labels"])
            return {"fooled": fooled, **losses.predict(logits)}

        def ask_nobody():
            kept = {name: state[name] for name in ("predicted", "confidence")}
            return {"fooled": tf.zeros_like(ended), **kept}

        # The victim is asked only when a round has ended.
        asked = tf.cond(tf.reduce_any(ended), ask_victim, ask_nobody)
        fooled = state["fooled"] | asked.pop("fooled")
        return {**state, **asked, "fooled": fooled}
