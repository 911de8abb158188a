"""Signs that an evaluation overestimates robustness.

Each check gives warnings, one sentence each; none is proof. They follow what is
known of defenses that did not hold (Athalye et al., ICML 2018, arXiv
1802.00420; Croce & Hein, ICML 2020, arXiv 2003.01690).
"""

import math

import numpy as np
import tensorflow as tf

from fastbat_tf.attacks import losses

PROBABILITY_TOLERANCE = 1e-3
DETERMINISM_TOLERANCE = 1e-3  # Of the largest logit.
ZERO_GRADIENTS = 0.1  # Share of the examples.
BLACK_BOX_SHARE = 0.002  # Share of the examples that Square may add.
PGD_GAP = 0.1  # Robust accuracy of PGD over that of AutoAttack.
SIGNIFICANCE = 0.01


def check_network(network, clean, count=250):
    """Looks at the model's answers and gradients before any attack.

    Args:
        network: Callable from images to logits.
        clean: A `Clean`.
        count: Integer, so many examples are looked at.

    Returns:
        A dict of strings: of `"probabilities"`, `"chance"`, `"random"` and
        `"zero_gradients"` those that are to be warned of.
    """
    found = {
        "probabilities": _probabilities(clean.logits),
        "chance": _chance(clean),
        "random": _random(network, clean, count),
        "zero_gradients": _zero_gradients(network, clean, count),
    }
    return {kind: warning for kind, warning in found.items() if warning}


def _probabilities(logits):
    sums = logits.sum(axis=-1)
    if logits.min() >= 0 and np.abs(sums - 1).max() < PROBABILITY_TOLERANCE:
        return (
            "The model's outputs look like probabilities, not logits: "
            "gradients through a softmax vanish, and robustness is "
            "overestimated. Evaluate the model without its last softmax."
        )
    return None


def _chance(clean):
    classes, accuracy = clean.logits.shape[-1], clean.correct.mean()
    if accuracy <= 1 / classes:
        return (
            f"The clean accuracy, {accuracy:.1%}, is not above chance: does "
            "the model take pixels in [0, 1], with its normalization inside?"
        )
    return None


def _random(network, clean, count):
    batch = tf.constant(clean.images[:count])
    ask = tf.function(network, autograph=False)
    # The classification was traced by itself: what draws numbers while it is
    # traced, as NumPy does, draws others here.
    known = clean.logits[:count]
    answers = [ask(batch).numpy() for _ in range(2)]
    largest = np.nanmax(np.abs(known), initial=0)
    change = max(
        np.nanmax(np.abs(answer - known), initial=0) for answer in answers
    )
    if change > DETERMINISM_TOLERANCE * largest:
        return (
            "The model is not deterministic (dropout or noise at inference?): "
            f"two answers to the same images differ by {change:.2g}. "
            "Gradients of single answers are weak, and one unlucky answer "
            "counts as broken; use autoattack-rand."
        )
    return None


def _zero_gradients(network, clean, count):
    chosen = np.flatnonzero(clean.correct)[:count]
    if not len(chosen):
        return None

    @tf.function(autograph=False)
    def gradients(images, labels):
        return losses.ask(
            network, losses.cross_entropy, images, labels, labels
        ).gradient

    found = gradients(
        tf.constant(clean.images[chosen]), tf.constant(clean.labels[chosen])
    )
    share = 1 - found.numpy().any(axis=(1, 2, 3)).mean()
    if share > ZERO_GRADIENTS:
        return (
            "The gradient of the cross-entropy is exactly zero on "
            f"{share:.0%} of the correctly classified images: gradient masking "
            "(logits too large for float32, or an operation without "
            "gradient). PGD on it proves nothing; trust autoattack."
        )
    return None


def check_outcomes(outcomes):
    """Compares the attacks at one radius.

    Args:
        outcomes: List of `AttackOutcome`s of the same examples.

    Returns:
        A list of strings.
    """
    warnings = []
    white = [
        _by_gradients(o)
        for o in outcomes
        if o.white_box and (not o.stages or o.stages[0].white_box)
    ]
    for outcome in outcomes:
        if not outcome.white_box and white:
            robust = np.all(white, axis=0)
            only = int((robust & ~outcome.robust).sum())
            missed = int((~robust & outcome.robust).sum())
            if only > missed and _sign_test(only, missed) < SIGNIFICANCE:
                warnings.append(
                    f"{outcome.name}, which uses no gradient of the model, "
                    f"breaks {only} images that no white-box attack breaks "
                    f"(and misses {missed}): gradient masking. "
                    "The white-box numbers are not to be trusted."
                )
        for before, stage in zip(
            outcome.stages, outcome.stages[1:], strict=False
        ):
            broken = int((before.robust & ~stage.robust).sum())
            limit = max(2, BLACK_BOX_SHARE * len(stage.robust))
            if not stage.white_box and broken >= limit:
                warnings.append(
                    f"{stage.name}, which uses no gradient of the model, "
                    f"breaks {broken} images that {outcome.name} had left "
                    "standing: gradient masking. More adaptive attacks may "
                    "break more."
                )
    standard = [o for o in outcomes if o.name == "autoattack"]
    for outcome in outcomes:
        if outcome.name.startswith("pgd") and standard:
            gap = outcome.robust.mean() - standard[0].robust.mean()
            if gap > PGD_GAP:
                warnings.append(
                    f"{outcome.name} is {100 * gap:.1f} points above "
                    "autoattack: it overestimates the robustness."
                )
    return warnings


def _by_gradients(outcome):
    """What stands before an ensemble comes to its first black-box part."""
    robust = outcome.robust
    for stage in outcome.stages:
        if not stage.white_box:
            break
        robust = stage.robust
    return robust


def check_radii(robust):
    """Looks whether an attack breaks less in a larger ball.

    Args:
        robust: Dict of dicts: by attack, by radius, bool arrays `(examples,)`.

    Returns:
        A list of strings.
    """
    warnings = []
    for name, by_radius in robust.items():
        radii = sorted(by_radius)
        for small, large in zip(radii, radii[1:], strict=False):
            more = int((by_radius[large] & ~by_radius[small]).sum())
            fewer = int((by_radius[small] & ~by_radius[large]).sum())
            if more > fewer and _sign_test(more, fewer) < SIGNIFICANCE:
                warnings.append(
                    f"{name} leaves more standing at epsilon {large:.4g} than "
                    f"at {small:.4g}, though the ball is larger: the attack "
                    "fails."
                )
    return warnings


def _sign_test(more, less):
    """How likely a fair coin gives so many heads, or more."""
    total = more + less
    heads = sum(math.comb(total, count) for count in range(more, total + 1))
    return heads / 2**total
