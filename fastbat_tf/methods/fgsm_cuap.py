"""FGSM-CUAP: the attack begins at a perturbation of the class."""

from fastbat_tf.methods import options
from fastbat_tf.methods.fgsm_uap import FGSMUAP


class FGSMCUAP(FGSMUAP):
    """FGSM-UAP with one universal perturbation for each class.

    Everything is as in `FGSMUAP`, but an image begins at the perturbation of
    its label, and the mean of its gradients is taken over the images of the
    batch that have that label. Those of absent labels stay.

    Reference: Pan, Li & Yao, "Adversarial Initialization with Universal
    Adversarial Perturbation: A New Approach to Fast Adversarial Training",
    AAAI 2024.

    Args:
        epsilon: As for `FGSMUAP`, as all arguments.
        step_size: Float.
        uap_epsilon: Float.
        coefficient: Float.
        momentum_decay: Float.
        form: String.
    """

    def __init__(
        self,
        epsilon=options.EPSILON,
        step_size=None,
        uap_epsilon=None,
        coefficient=options.LOGIT_COEFFICIENT,
        momentum_decay=options.MOMENTUM_DECAY,
        form=options.PAPER,
    ):
        self.set_options(
            "fgsm_cuap",
            epsilon=epsilon,
            step_size=step_size,
            uap_epsilon=uap_epsilon,
            coefficient=coefficient,
            momentum_decay=momentum_decay,
            form=form,
        )

    def count(self, sizes):
        return sizes.classes

    def choose(self, step):
        return step.label_ids
