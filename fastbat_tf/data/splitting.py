"""Selects parts of the training images, such as the validation split."""

import numpy as np

from fastbat_tf.errors import InputError

SEED = 0  # Fixed, so that all runs validate on the same images.


def last(count, share):
    """Selects the last part of the images.

    Args:
        count: Integer, the number of training images.
        share: Float in (0, 1), the share of the validation split.

    Returns:
        Integer, the number of first images that stay in the training split.

    Raises:
        InputError: If one of the two splits would be empty.
    """
    kept = count - round(share * count)
    if not 0 < kept < count:
        raise _empty(share)
    return kept


def balanced(labels, share, groups=None):
    """Selects a share of each class, rounded.

    At least one group of each class is selected, but never all.

    Args:
        labels: Sequence of integers.
        share: Float in (0, 1), the share of the validation split.
        groups: Sequence of hashable values, one per label; images of the same
            group stay together. Defaults to None: each image is a group.

    Returns:
        Two integer arrays, the indices of the training and the validation
        split. Each is in random order, so that any part holds many classes.

    Raises:
        InputError: If one of the two splits would be empty.
    """
    generator = np.random.default_rng(SEED)
    labels = np.asarray(labels)
    members = {}  # Indices by label and group, in order of appearance.
    for index, label in enumerate(labels.tolist()):
        group = index if groups is None else groups[index]
        members.setdefault(label, {}).setdefault(group, []).append(index)
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


def sample(labels, count):
    """Selects the first images of each class, of each class as many.

    Args:
        labels: Sequence of integers.
        count: Integer, how many images at most.

    Returns:
        Integer array, their indices in ascending order.

    Example:

    >>> sample([0, 0, 0, 1, 1], 4)
    array([0, 1, 3, 4])
    """
    labels = np.asarray(labels)
    turns = np.empty(len(labels), int)  # Of each image in its class.
    for label in np.unique(labels):
        own = labels == label
        turns[own] = np.arange(own.sum())
    return np.sort(np.lexsort((labels, turns))[:count])


def _empty(share):
    return InputError(
        "`validation_share` leaves one of the splits empty. "
        f"Received: validation_share={share}"
    )
