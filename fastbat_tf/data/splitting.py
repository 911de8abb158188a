"""Which training images become the validation split."""

import numpy as np

from fastbat_tf.errors import InputError

SEED = 0  # Of the rule, not of the run: all runs validate on the same images.


def last(count, share):
    """The last part.

    Args:
        count: Integer, the number of training images.
        share: Float in (0, 1).

    Returns:
        How many images of the beginning stay in the training split.
    """
    kept = count - round(share * count)
    if not 0 < kept < count:
        raise _empty(share)
    return kept


def balanced(labels, share, groups=None):
    """A part of each class, rounded: at least one group, but never all.

    Args:
        labels: Sequence of integers.
        share: Float in (0, 1).
        groups: Sequence of hashable values like `labels`: images of one group
            stay together. Each image is one by itself if None.

    Returns:
        Two integer arrays, the places of the training and of the validation
        split, each in a random order: any part of them holds many classes.

    Raises:
        InputError: If one of the two would be empty.
    """
    generator = np.random.default_rng(SEED)
    labels = np.asarray(labels)
    members = {}  # By label and group, in their order.
    for place, label in enumerate(labels.tolist()):
        group = place if groups is None else groups[place]
        members.setdefault(label, {}).setdefault(group, []).append(place)
    chosen = np.zeros(len(labels), bool)
    for label in sorted(members):
        every = list(members[label].values())
        count = min(max(round(share * len(every)), 1), len(every) - 1)
        for number in generator.permutation(len(every))[:count]:
            chosen[every[number]] = True
    if chosen.all() or not chosen.any():
        raise _empty(share)
    return tuple(
        generator.permutation(np.flatnonzero(part))
        for part in (~chosen, chosen)
    )


def _empty(share):
    return InputError(
        "`validation_share` leaves no image in one of the splits. "
        f"Received: validation_share={share}"
    )
