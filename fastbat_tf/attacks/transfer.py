"""Transfer: perturbations made on one model, tested on another."""

import copy
from typing import Any, Unpack

import tensorflow as tf

from fastbat_tf.attacks import losses, mean_logits, registry, surrogates
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
            surrogate in that of the attacked model. Of a list of models, the
            mean of the logits is attacked, with equal weights (Dong et al.,
            CVPR 2018, arXiv 1710.06081, section 3.3).
        attack: Name of the attack on the surrogate, of the family of FGSM, PGD
            or APGD, such as `"mi-fgsm-10"` or `"pgd-50-10-target-3"`. Defaults
            to `"pgd-50-10"`.
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
        self._models = surrogates.as_surrogates(surrogate)
        self._use(registry.build(attack, **settings))

    def _use(self, attack: Any) -> None:
        attack.stops = False
        self.attack = attack
        self.steps, self.loss_name = attack.steps, attack.loss_name
        self.target, self.is_targeted = attack.target, attack.is_targeted

    def _with(self, attack):
        """A copy, with another attack on the surrogate."""
        copied = copy.copy(self)
        copied._use(attack)
        return copied

    def on(
        self, network: Any, pixel_range: PixelRange | None = None
    ) -> BoundAttack:
        """Binds the attack to a network, and to the surrogate beside it."""
        attack = self._with(self.attack)
        pixel_range = pixel_range or PixelRange()
        networks = [
            as_network(model, default=pixel_range)[0] for model in self._models
        ]
        for each in networks:
            check_pixel_range(each)
        attack.surrogate = mean_logits.together(networks)
        return BoundAttack(attack, network)

    def toward_each(self):
        """Returns this attack for calls that give the targets."""
        return self._with(self.attack.toward_each())

    def traced(self):
        """The layers of a surrogate may be others in the next call."""
        return [
            id(variable)
            for model in self._models
            for variable in getattr(model, "variables", ())
        ]

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
            prediction = losses.predict(logits)
            succeeds = ~losses.is_correct(logits, problem["labels"])
            if self.is_targeted:
                succeeds = prediction["predicted"] == problem["targets"]
            return {"fooled": ended & succeeds, **prediction}

        def ask_nobody():
            kept = {name: state[name] for name in ("predicted", "confidence")}
            return {"fooled": tf.zeros_like(ended), **kept}

        # The victim is asked only when a round has ended.
        asked = tf.cond(tf.reduce_any(ended), ask_victim, ask_nobody)
        fooled = state["fooled"] | asked.pop("fooled")
        return {**state, **asked, "fooled": fooled}
