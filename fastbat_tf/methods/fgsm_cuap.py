"""FGSM-CUAP: the attack starts at a universal perturbation of the class."""

from fastbat_tf.methods.fgsm_uap import FGSMUAP
from fastbat_tf.methods.spec import Passes, Variant


class FGSMCUAP(FGSMUAP):
    """FGSM-UAP with one universal perturbation for each class.

    The step is the same as in `FGSMUAP`, except that an image starts at the
    perturbation of its label, and gradients are averaged over the images of the
    batch with this label. The perturbations of labels that do not occur in the
    batch are not changed.

    Reference: Pan, Li & Yao, "Adversarial Initialization with Universal
    Adversarial Perturbation: A New Approach to Fast Adversarial Training",
    AAAI 2024.

    Args:
        epsilon: Float in [0, 1], radius of the L-infinity ball in pixels.
            Defaults to `8 / 255`.
        step_size: Float, in pixels. Defaults to `epsilon`.
        uap_epsilon: Float in [0, 1], the radius of the universal
            perturbations. Defaults to `min(1.25 * epsilon, 1.0)`.
        coefficient: Float, the weight of the distance of the logits. Defaults
            to 10.
        momentum_decay: Float in [0, 1), the decay of the momentum. Defaults to
            0.3.
        form: `"paper"` or `"benchmark"`, which `FGSMUAP` describes. Defaults to
            `"paper"`.

    Example:

    >>> fb.FGSMCUAP(epsilon=8 / 255).uap_epsilon * 255
    10.0
    """

    name = "fgsm_cuap"
    summary = "starts at a universal perturbation of the class"
    variants = {"benchmark": Variant({"form": "benchmark"}, Passes(2, 4, 2))}

    def count(self, sizes):
        return sizes.classes

    def choose(self, context):
        return context.label_ids
