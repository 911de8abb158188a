"""Counts the outcomes of an evaluation by class."""

from typing import NamedTuple, Self

import numpy as np

from fastbat_tf.experiment.report.measured import Measurement
from fastbat_tf.experiment.report.numbers import NO_CLASS
from fastbat_tf.experiment.report.record import RunRecord


class ClassCounts(NamedTuple):
    """What became of the images of each class.

    Attributes:
        names: List of strings, one for each class.
        examples: int array `(classes,)`, the images of each class.
        clean_count: int array `(classes,)`, those classified correctly.
        robust_count: int array `(classes,)`, those that no attack breaks.
        confusion: int array `(2, classes, classes)`, clean and under attack:
            images of a class (row) predicted as a class (column); None in
            files of earlier versions.
    """

    names: list
    examples: np.ndarray
    clean_count: np.ndarray
    robust_count: np.ndarray
    confusion: np.ndarray | None

    @classmethod
    def read(cls, record: RunRecord, measured: Measurement) -> Self | None:
        """Counts the outcomes of a `Measurement`; None if they are not there.

        Args:
            record: A `RunRecord`.
            measured: A `Measurement` of it.
        """
        found = [
            (outcomes, outcomes.place(row))
            for row in measured.rows
            if (outcomes := record.outcomes(row)) is not None
        ]
        found = [(o, place) for o, place in found if place is not None]
        if not found:
            return None
        first = found[0][0]
        label = first.label.astype(int)
        correct = first.clean_correct
        robust = correct.copy()
        clean, attacked = _predictions(first, label)
        for outcomes, place in found:
            here = outcomes.robust[place]
            if outcomes.adversarial_class is None:
                attacked = None
            elif attacked is not None:
                # The first attack that breaks an image says as what.
                breaks = robust & ~here
                classes = outcomes.adversarial_class[place]
                attacked = np.where(breaks, classes, attacked)
            robust &= here
        names = _names(record, [label, clean, attacked])
        count = len(names)
        if names[-1] == NO_CLASS:
            clean, attacked = (
                np.where(c < 0, count - 1, c) for c in (clean, attacked)
            )
        confusion = None
        if clean is not None and attacked is not None:
            confusion = np.stack(
                [
                    np.bincount(
                        label * count + predicted, minlength=count * count
                    ).reshape(count, count)
                    for predicted in (clean, attacked)
                ]
            )
        return cls(
            names,
            np.bincount(label, minlength=count),
            np.bincount(label[correct], minlength=count),
            np.bincount(label[robust], minlength=count),
            confusion,
        )

    @property
    def clean(self) -> np.ndarray:
        """The clean accuracy of each class; 0 of one without images."""
        return self.clean_count / self.examples.clip(1)

    @property
    def robust(self) -> np.ndarray:
        """The robust accuracy of each class; 0 of one without images."""
        return self.robust_count / self.examples.clip(1)

    @property
    def order(self) -> np.ndarray:
        """The classes that have images, by robust, then clean accuracy."""
        order = np.lexsort((self.clean, self.robust))
        return order[self.examples[order] > 0]

    @property
    def used(self) -> np.ndarray:
        """The classes that have images, or are predicted."""
        used = self.examples > 0
        if self.confusion is not None:
            used = used | (self.confusion.sum(axis=(0, 1)) > 0)
        return np.nonzero(used)[0]


def _predictions(outcomes, label):
    """Returns the clean classes, and those of images that none breaks."""
    if outcomes.clean_class is None:
        return None, None
    clean = outcomes.clean_class.astype(int)
    # An image that is misclassified before stays what it is.
    return clean, np.where(outcomes.clean_correct, label, clean)


def _names(record, classes):
    """Returns the names of the classes, or their numbers.

    If an answer of the network is not a number, the last one is `NO_CLASS`.
    """
    known = [c for c in classes if c is not None]
    highest = max(int(c.max()) for c in known)
    given = record.class_names or []
    names = [str(name).strip() or str(k) for k, name in enumerate(given)]
    names += [str(k) for k in range(len(names), highest + 1)]
    has_none = any(int(c.min()) < 0 for c in known)
    return [*names, NO_CLASS] if has_none else names
