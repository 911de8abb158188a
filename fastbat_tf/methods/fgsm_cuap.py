"""FGSM-CUAP: the attack begins at a perturbation of the class."""

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
    """

    name = "fgsm_cuap"

    def count(self, sizes):
        return sizes.classes

    def choose(self, context):
        return context.label_ids
