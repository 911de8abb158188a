"""Looks for signs that an evaluation overestimates robustness.

Each check returns warnings; none of them is a proof. They are based on studies
of broken defenses (Athalye et al., ICML 2018, arXiv 1802.00420; Croce & Hein,
ICML 2020, arXiv 2003.01690).
"""

import itertools

import numpy as np
import tensorflow as tf

from fastbat_tf.attacks import losses
from fastbat_tf.attacks.classifier import is_numpy
from fastbat_tf.attacks.sharding import Sharding
from fastbat_tf.layers.pixel_range import PixelRange
from fastbat_tf.runtime import formatting

PROBABILITY_TOLERANCE = 0.02  # As much as half precision rounds ten classes.
DETERMINISM_TOLERANCE = 1e-3  # Relative to the largest logit.
ZERO_GRADIENTS = 0.1  # As a share of the examples.
BLACK_BOX_SHARE = 0.002  # Of the examples, which Square may break in addition.
PGD_GAP = 0.1  # Robust accuracy under PGD above that under AutoAttack.
SIGNIFICANCE = 0.01


def check_network(network, clean, count=250, pixels=None, *, sharding=None):
    """Checks the outputs and gradients of a model before any attack.

    Args:
        network: Callable from images to logits.
        clean: A `Clean`.
        count: Integer, the number of examples to check. Defaults to 250.
        pixels: The `PixelRange` that the model is taken to have. Defaults to
            None, [0, 1].
        sharding: The `Sharding`, whose chief looks for all. Defaults to None:
            one worker.

    Returns:
        A dict of warnings, whose keys are among `"probabilities"`, `"chance"`,
        `"random"` and `"zero_gradients"`.
    """
    sharding = sharding or Sharding()
    found = sharding.on_chief(
        lambda: _check_network(network, clean, count, pixels)
    )
    return sharding.workers.object_from_chief(found)


def _check_network(network, clean, count, pixels):
    found = {
        "probabilities": _probabilities(clean.logits),
        "chance": _chance(clean, pixels or PixelRange()),
        "random": _random(network, clean, count),
        "zero_gradients": _zero_gradients(network, clean, count),
    }
    return {kind: warning for kind, warning in found.items() if warning}


def _probabilities(logits):
    sums = logits.sum(axis=-1)
    if logits.min() >= 0 and np.abs(sums - 1).max() < PROBABILITY_TOLERANCE:
        return (
            "The model's outputs look like probabilities, not logits: "
            "gradients through a softmax vanish, so robustness is "
            "overestimated. Evaluate the model without its final softmax."
        )
    return None


def _chance(clean, pixels):
    classes, accuracy = clean.logits.shape[-1], clean.correct.mean()
    if accuracy <= 1 / classes:
        return (
            f"The clean accuracy, {accuracy:.1%}, is not above chance: does "
            f"the model take pixels in [{pixels.low:g}, {pixels.high:g}], with "
            "its normalization inside?"
        )
    return None


def _random(network, clean, count):
    batch = tf.constant(clean.images[:count])
    ask = tf.function(network, autograph=False).get_concrete_function(batch)
    # The clean logits are from another trace: a model that draws numbers while
    # it is traced, with NumPy for example, draws different ones here.
    known = clean.logits[:count]
    answers = [ask(batch).numpy() for _ in range(2)]
    largest = np.nanmax(np.abs(known), initial=0)
    change = max(
        np.nanmax(np.abs(answer - known), initial=0) for answer in answers
    )
    if change > DETERMINISM_TOLERANCE * largest:
        return (
            "The model is not deterministic (dropout or noise at inference?): "
            f"its outputs for the same images differ by {change:.2g}. "
            "Gradients of single outputs are noisy, and one unlucky output "
            "counts as broken; use autoattack-rand."
        )
    return None


def _zero_gradients(network, clean, count):
    chosen = np.flatnonzero(clean.correct)[:count]
    # A function of NumPy has no gradient, and no attack may ask for one.
    if not len(chosen) or is_numpy(network):
        return None

    @tf.function(autograph=False)
    def gradients(images, labels):
        return losses.ask(
            network,
            losses.cross_entropy,
            images=images,
            labels=labels,
            targets=labels,
        ).gradient

    given = (
        tf.constant(clean.images[chosen]),
        tf.constant(clean.labels[chosen]),
    )
    # A call would let TensorFlow warn of retracing in the fifth evaluation.
    found = gradients.get_concrete_function(*given)(*given)
    share = 1 - found.numpy().any(axis=(1, 2, 3)).mean()
    if share > ZERO_GRADIENTS:
        return (
            "The gradient of the cross-entropy is exactly zero on "
            f"{share:.0%} of the correctly classified images: gradient masking "
            "(logits too large for float32, or an operation without a "
            "gradient). PGD with this loss proves nothing; trust autoattack."
        )
    return None


def check_outcomes(outcomes):
    """Compares the attacks at one radius.

    Args:
        outcomes: List of `AttackOutcome`s of the same examples.

    Returns:
        A list of warnings.
    """
    white = [
        _by_gradients(outcome)
        for outcome in outcomes
        # One that leads toward a class misses what is nearer.
        if outcome.white_box
        and outcome.reached is None
        and (not outcome.stages or outcome.stages[0].white_box)
    ]
    warnings = []
    for outcome in outcomes:
        if white and not outcome.white_box:
            warnings += _compare_with_gradients(outcome, np.all(white, axis=0))
        warnings += _compare_stages(outcome)
    return warnings + _compare_with_autoattack(outcomes)


def _compare_with_gradients(outcome, robust):
    """Warns if a black-box attack breaks what no white-box attack breaks."""
    only = int((robust & ~outcome.robust).sum())
    missed = int((~robust & outcome.robust).sum())
    if not _is_significant(only, missed):
        return []
    return [
        f"{outcome.name}, which uses no gradient of the model, breaks {only} "
        f"images that no white-box attack breaks (and misses {missed}): "
        "gradient masking. Do not trust the white-box numbers."
    ]


def _compare_stages(outcome):
    """Warns if a black-box stage breaks what the stages before it left."""
    warnings = []
    for before, stage in itertools.pairwise(outcome.stages):
        broken = int((before.robust & ~stage.robust).sum())
        limit = max(2, BLACK_BOX_SHARE * len(stage.robust))
        if not stage.white_box and broken >= limit:
            warnings.append(
                f"{stage.name}, which uses no gradient of the model, breaks "
                f"{broken} images that the earlier attacks of {outcome.name} "
                "do not break: gradient masking. Adaptive attacks may break "
                "more."
            )
    return warnings


def _compare_with_autoattack(outcomes):
    """Warns if PGD leaves far more images robust than AutoAttack."""
    standard = [o for o in outcomes if o.name == "autoattack"]
    warnings = []
    for outcome in outcomes:
        is_pgd = outcome.name.startswith("pgd") and outcome.reached is None
        if is_pgd and standard:
            gap = outcome.robust.mean() - standard[0].robust.mean()
            if gap > PGD_GAP:
                warnings.append(
                    f"{outcome.name} is {100 * gap:.1f} points above "
                    "autoattack: it overestimates the robustness."
                )
    return warnings


def _by_gradients(outcome):
    """What is robust before the first black-box part of an ensemble."""
    robust = outcome.robust
    for stage in outcome.stages:
        if not stage.white_box:
            break
        robust = stage.robust
    return robust


def check_radii(robust, norm="linf"):
    """Looks for attacks that break less in a larger ball.

    Args:
        robust: Dict from attack names to dicts from radii to bool arrays
            `(examples,)`.
        norm: `"linf"` or `"l2"`, that of the radii. Defaults to `"linf"`.

    Returns:
        A list of warnings.
    """
    warnings = []
    for name, by_radius in robust.items():
        for small, large in itertools.pairwise(sorted(by_radius)):
            more = int((by_radius[large] & ~by_radius[small]).sum())
            fewer = int((by_radius[small] & ~by_radius[large]).sum())
            if _is_significant(more, fewer):
                warnings.append(
                    f"{name} breaks fewer images at epsilon "
                    f"{formatting.radius(large, norm)} than at "
                    f"{formatting.radius(small, norm)}, though the ball is "
                    "larger: the attack fails."
                )
    return warnings


def _is_significant(more, fewer):
    """Whether chance would rarely give so large a majority (sign test)."""
    from scipy import stats  # Takes a second to import.

    if more <= fewer:
        return False
    test = stats.binomtest(more, more + fewer, alternative="greater")
    return bool(test.pvalue < SIGNIFICANCE)
