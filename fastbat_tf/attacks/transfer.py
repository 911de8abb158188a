"""Transfer: perturbations made on one model, tried on another."""

import tensorflow as tf

import fastbat_tf.attacks
from fastbat_tf.attacks import losses
from fastbat_tf.attacks.base import SteppedAttack


class TransferAttack(SteppedAttack):
    """Attacks a surrogate with all steps, and tests each round on the victim.

    The attack on the surrogate does not stop when the surrogate is wrong: it
    raises the loss to the end. The victim is only asked for its answers to what
    each round reports (the last point of PGD, the best one of APGD), never for
    a gradient. Targets are classes that the victim finds likely.

    Reference: Papernot et al. 2016 (arXiv 1605.07277).

    Args:
        network: As for `Attack`; the victim.
        surrogate: Likewise, the model on which perturbations are made.
        attack: Name of the attack on the surrogate: FGSM, PGD or APGD.
        **kwargs: `norm`, `batch_size` and `jit_compile`, as for `Attack`.
    """

    name = "transfer"
    white_box = False

    def __init__(self, network, surrogate, attack="pgd-50-10", **kwargs):
        super().__init__(network, **kwargs)
        self.attack = fastbat_tf.attacks.get(attack, surrogate, **kwargs)
        self.attack.stops = False
        self.loss_name = self.attack.loss_name
        self.steps = self.attack.steps

    def rounds(self, classes):
        """Those of the attack on the surrogate."""
        return self.attack.rounds(classes)

    def start(self, images, labels, targets, epsilon, generators):
        """That of the attack on the surrogate."""
        return self.attack.start(images, labels, targets, epsilon, generators)

    def step(self, problem, state, epsilon):
        """That of the attack on the surrogate."""
        return self.attack.step(problem, state, epsilon)

    def advance(self, problem, state, epsilon):
        """As the attack on the surrogate; then asks the victim."""
        state = super().advance(problem, state, epsilon)
        ended = state["iteration"] > self.steps

        def ask_victim():
            logits = tf.cast(self.network(state["found"]), tf.float32)
            return ended & ~losses.is_correct(logits, problem["labels"])

        # Only when a round has ended.
        nobody = tf.zeros_like(ended)
        fooled = tf.cond(tf.reduce_any(ended), ask_victim, lambda: nobody)
        return {**state, "fooled": state["fooled"] | fooled}
