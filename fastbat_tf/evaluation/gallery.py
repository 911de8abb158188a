"""Chooses a few examples of an evaluation, and attacks them for pictures."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fastbat_tf.attacks import DEFAULT_EPSILON, registry
from fastbat_tf.attacks.classifier import is_numpy
from fastbat_tf.attacks.records import Clean, predict
from fastbat_tf.evaluation.runner import AttackOutcome

FIXED, FRAGILE, ROBUST = 8, 4, 4
ATTACK = "pgd-10-1"
WITHOUT_GRADIENT = "square-100"  # For a function of NumPy arrays.

Outcomes = Mapping[float, Sequence[AttackOutcome]]


def make(
    network: Callable[[Any], Any],
    clean: Clean,
    outcomes: Outcomes,
    index: np.ndarray,
    *,
    norm: str,
    seed: int,
) -> dict[str, Any]:
    """Attacks the chosen examples once more.

    Args:
        network: Callable from images in [0, 1] to logits.
        clean: The `Clean` examples.
        outcomes: Dict from each radius to the list of its `AttackOutcome`s.
        index: Integer array `(examples,)`, the places of the examples in the
            data set.
        norm: `"linf"` or `"l2"`.
        seed: Integer, the seed of the attack.

    Returns:
        The content of `gallery.npz`, a dict of arrays with a row for each
        chosen example, and of scalars. An example may be of several kinds.
    """
    chosen = choose(clean, outcomes)
    rows = np.array([row for rows in chosen.values() for row in rows], int)
    kinds = [kind for kind, rows in chosen.items() for _ in rows]
    # An example of several kinds has one adversarial image.
    different, places = np.unique(rows, return_inverse=True)
    few = Clean(
        clean.images[different],
        clean.labels[different],
        clean.logits[different],
    )
    epsilon = nearest(outcomes, DEFAULT_EPSILON[norm])
    name = WITHOUT_GRADIENT if is_numpy(network) else ATTACK
    # Compiling takes longer than ten steps with a few images.
    attack = registry.get(
        name, network, norm=norm, batch_size=len(few.labels), jit_compile=False
    )
    found = attack.attack_clean(few, epsilon, seed=seed)
    adversarial = np.clip(few.images + found.perturbation, 0.0, 1.0)
    after = predict(attack.classify(adversarial, few.labels).logits)
    by_example = {
        "index": index[different],
        "label": few.labels,
        "image": few.images,
        "adversarial": adversarial,
        "clean_class": few.prediction.predicted,
        "clean_confidence": few.prediction.confidence,
        "adversarial_class": after.predicted,
        "adversarial_confidence": after.confidence,
    }
    return {
        **{name: values[places] for name, values in by_example.items()},
        "kind": np.array(kinds),
        "attack": np.array(name),
        "epsilon": np.array(epsilon),
        "norm": np.array(norm),
    }


def nearest(radii: Mapping[float, Any], wanted: float) -> float:
    """The radius nearest to a wanted one; of two, the smaller."""
    return min(sorted(radii), key=lambda radius: abs(radius - wanted))


def choose(clean: Clean, outcomes: Outcomes) -> dict[str, np.ndarray]:
    """Chooses examples of three kinds; ties go to the first example.

    Args:
        clean: The `Clean` examples.
        outcomes: Dict from each radius to the list of its `AttackOutcome`s.

    Returns:
        A dict of arrays of row numbers:

        * `fixed`: the first correctly classified example of each class, class
          by class; then the second ones, and at last those misclassified;
        * `fragile`: those that the smallest radii break, and of these the ones
          of the lowest confidence;
        * `robust`: those that withstand the most radii, from the smallest on,
          and of these the ones of the highest confidence under attack.
    """
    radii = sorted(outcomes)
    robust = [np.all([o.robust for o in outcomes[r]], axis=0) for r in radii]
    # How many radii an example withstands before the first that breaks it.
    withstood = np.cumprod(robust, axis=0).sum(axis=0)
    under_attack = np.array(
        [
            np.min([o.prediction.confidence for o in outcomes[r]], axis=0)
            for r in radii
        ]
    )
    examples = np.arange(len(clean.labels))
    last = under_attack[np.maximum(withstood, 1) - 1, examples]
    confidence = clean.prediction.confidence
    fragile = np.flatnonzero(clean.correct & (withstood < len(radii)))
    robust = np.flatnonzero(withstood)
    # The last key of a lexsort counts first.
    fragile = fragile[np.lexsort((confidence[fragile], withstood[fragile]))]
    robust = robust[np.lexsort((-last[robust], -withstood[robust]))]
    return {
        "fixed": _fixed(clean)[:FIXED],
        "fragile": fragile[:FRAGILE],
        "robust": robust[:ROBUST],
    }


def _fixed(clean):
    """All examples, the correct ones first, in turn from each class."""
    found = []
    for group in (clean.correct, ~clean.correct):
        members = np.flatnonzero(group)
        labels = clean.labels[members]
        turn = np.zeros(len(members), int)
        for label in np.unique(labels):
            same = labels == label
            turn[same] = np.arange(same.sum())
        found.append(members[np.lexsort((labels, turn))])
    return np.concatenate(found)
