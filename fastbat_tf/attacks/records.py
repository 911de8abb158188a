"""What attacks start from, and what they leave."""

import dataclasses
from typing import NamedTuple

import numpy as np


class Clean(NamedTuple):
    """Examples and what the network says of them unperturbed.

    Attributes:
        images: float32 array `(examples, height, width, channels)` in [0, 1].
        labels: int32 array `(examples,)`.
        logits: float32 array `(examples, classes)`.
    """

    images: np.ndarray
    labels: np.ndarray
    logits: np.ndarray

    @property
    def correct(self):
        """bool array `(examples,)`: classified correctly."""
        # As `losses.is_correct`: NaN classifies nothing.
        known = ~np.isnan(self.logits).any(axis=-1)
        return known & (self.logits.argmax(axis=-1) == self.labels)


class AttackResult(NamedTuple):
    """What an attack left.

    Attributes:
        clean_correct: bool array `(examples,)`, classified correctly without
            any perturbation.
        robust: bool array `(examples,)`, still correct after the attack.
        perturbation: float32 array like the images: per example the first that
            was misclassified, else that of the round with the highest loss (of
            the last attack in an ensemble that reports one); zero where the
            clean image is misclassified.
    """

    clean_correct: np.ndarray
    robust: np.ndarray
    perturbation: np.ndarray


@dataclasses.dataclass
class Record:
    """What an attack has found so far; an interrupted one goes on from it.

    Attributes:
        robust: bool array `(examples,)`, standing.
        rounds: int32 array `(examples,)`, rounds that have ended.
        loss: float32 array `(examples,)`, the highest of these rounds.
        perturbation: float32 array like the images, as in `AttackResult`;
            None if nobody wants it.
    """

    robust: np.ndarray
    rounds: np.ndarray
    loss: np.ndarray
    perturbation: np.ndarray | None

    @classmethod
    def start(cls, standing, images, keeps_perturbation=True):
        """The record of an attack on the examples that are standing."""
        count = len(images)
        return cls(
            standing.copy(),
            np.zeros(count, np.int32),
            np.full(count, -np.inf, np.float32),
            np.zeros_like(images) if keeps_perturbation else None,
        )

    def update(self, found):
        """Puts the perturbations of this record in those `found` before.

        What was attacked and gave nothing to report keeps the earlier one.
        """
        tried = np.isfinite(self.loss)
        found[tried] = self.perturbation[tried]
