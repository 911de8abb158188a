"""Transfer: perturbations made on one model, tested on another."""

import tensorflow as tf

from fastbat_tf.attacks import losses, registry
from fastbat_tf.attacks.base import SteppedAttack


class TransferAttack(SteppedAttack):
    """Attacks a surrogate, and tests the result of each round on the victim.

    The attack on the surrogate takes all its steps, even after the surrogate
    is fooled. The victim only classifies what each round reports (the last
    point of PGD, the best one of APGD); its gradients are never used. Target
    classes are those that the victim finds likely.

    Reference: Papernot et al. 2016 (arXiv 1605.07277).

    Args:
        network: The victim: any callable from float32 images `(batch, height,
            width, channels)` in [0, 1] to logits `(batch, classes)`.
        surrogate: The model on which the perturbations are made, a callable
            like `network`.
        attack: Name of the attack on the surrogate, of the family of FGSM, PGD
            or APGD. Defaults to `"pgd-50-10"`.
        **kwargs: `norm`, `batch_size` and `jit_compile` of `Attack`.
    """

    name = "transfer"
    white_box = False

    def __init__(self, network, surrogate, attack="pgd-50-10", **kwargs):
        super().__init__(network, **kwargs)
        self.attack = registry.get(attack, surrogate, **kwargs)
        self.attack.stops = False
        self.loss_name = self.attack.loss_name
        self.steps = self.attack.steps

    def rounds(self, classes):
        """The number of rounds of the attack on the surrogate."""
        return self.attack.rounds(classes)

    def start(self, images, labels, targets, epsilon, generators):
        """Starts the attack on the surrogate."""
        return self.attack.start(images, labels, targets, epsilon, generators)

    def step(self, problem, state, epsilon):
        """Takes a step of the attack on the surrogate."""
        return self.attack.step(problem, state, epsilon)

    def advance(self, problem, state, epsilon):
        """Advances the attack on the surrogate, then asks the victim."""
        state = super().advance(problem, state, epsilon)
        ended = state["iteration"] > self.steps

        def ask_victim():
            logits = tf.cast(self.network(state["found"]), tf.float32)
            return ended & ~losses.is_correct(logits, problem["labels"])

        # The victim is asked only when a round has ended.
        nobody = tf.zeros_like(ended)
        fooled = tf.cond(tf.reduce_any(ended), ask_victim, lambda: nobody)
        return {**state, "fooled": state["fooled"] | fooled}
