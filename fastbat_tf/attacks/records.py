"""The input, the state and the result of an attack."""

import dataclasses
from typing import NamedTuple

import numpy as np


class Prediction(NamedTuple):
    """What a network predicts.

    Attributes:
        predicted: int32 array `(examples,)`, the class of the highest logit;
            -1 if a logit is NaN.
        confidence: float32 array `(examples,)`, the softmax probability of
            that class; 0 if a logit is NaN.
    """

    predicted: np.ndarray
    confidence: np.ndarray


def predict(logits):
    """Returns the `Prediction` of logits, a float32 array.

    Example:

    >>> predict(np.float32([[0, 2], [-1e9, -1e9]])).confidence.round(3)
    array([0.881, 0.5  ], dtype=float32)
    """
    unknown = np.isnan(logits).any(axis=-1)
    known = np.where(unknown[:, np.newaxis], 0, logits).astype(np.float32)
    highest = known.max(axis=-1, keepdims=True)
    # The difference of two infinite logits would be NaN.
    below = np.subtract(
        known, highest, np.zeros_like(known), where=known != highest
    )
    confidence = 1 / np.exp(below).sum(axis=-1)
    return Prediction(
        np.where(unknown, -1, known.argmax(axis=-1)).astype(np.int32),
        np.where(unknown, 0, confidence).astype(np.float32),
    )


class Clean(NamedTuple):
    """The examples, and the logits of the network on clean images.

    Attributes:
        images: float32 array `(examples, height, width, channels)` in [0, 1].
        labels: int32 array `(examples,)`.
        logits: float32 array `(examples, classes)`.
        targets: int32 array `(examples,)`, the classes to reach, if the call
            of an attack gives them. Defaults to None.
    """

    images: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    targets: np.ndarray | None = None

    @property
    def correct(self):
        """bool array `(examples,)`, whether the label is predicted."""
        # Like `losses.is_correct`: an image with a NaN logit is not correct.
        known = ~np.isnan(self.logits).any(axis=-1)
        return known & (self.logits.argmax(axis=-1) == self.labels)

    @property
    def prediction(self):
        """The `Prediction` of the clean images."""
        return predict(self.logits)


class AdversarialExamples(NamedTuple):
    """What an attack returns, three NumPy arrays.

    * An image that the attack breaks comes with its first misclassified
      perturbation; `TargetableAttack` says what a target changes.
    * An image that resists comes with the perturbation of the highest loss
      that was found, which is not misclassified: the closest attempt. It is
      zero if the attack has none, as FAB.
    * An image that was misclassified before is not attacked: it is returned
      without a perturbation, and counts as not robust.

    Attributes:
        images: float32 array `(examples, height, width, channels)` in the
            pixel range of the model.
        predictions: int32 array `(examples,)`, the class of each of these
            images.
        robust: bool array `(examples,)`, whether the image is classified
            correctly, before and after the attack. Robust accuracy is
            `robust.mean()`.

    Example:

    ```python
    found = fb.attacks.FGSM(8 / 255)(model, images, labels)
    fooled = found.images[~found.robust]
    ```
    """

    images: np.ndarray
    predictions: np.ndarray
    robust: np.ndarray

    def __repr__(self) -> str:
        # A shell shows what a call returns: not millions of pixels.
        return (
            f"<AdversarialExamples: images {self.images.shape}, "
            f"{int(np.sum(self.robust))} of {len(self.robust)} robust>"
        )


class AttackResult(NamedTuple):
    """The result of an attack.

    Attributes:
        clean_correct: bool array `(examples,)`, whether the clean image is
            classified correctly.
        robust: bool array `(examples,)`, whether it still is after the attack.
        perturbation: float32 array like the images: the first perturbation
            that the network misclassifies; for robust examples, that of the
            round with the highest loss (in an ensemble, of the last attack
            that reports one); zero if the clean image is misclassified.
    """

    clean_correct: np.ndarray
    robust: np.ndarray
    perturbation: np.ndarray


@dataclasses.dataclass
class Record:
    """What an attack has found so far, from which it can be resumed.

    Attributes:
        robust: bool array `(examples,)`, still classified correctly.
        rounds: int32 array `(examples,)`, the number of finished rounds.
        loss: float32 array `(examples,)`, the highest loss of these rounds.
        predicted: int32 array `(examples,)`, the class that the network
            predicts for the image with that perturbation; see `Prediction`.
        confidence: float32 array `(examples,)`, its probability.
        perturbation: float32 array, defined like `AttackResult.perturbation`;
            None if it is not kept.
    """

    robust: np.ndarray
    rounds: np.ndarray
    loss: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    perturbation: np.ndarray | None

    @classmethod
    def start(cls, robust, clean, keeps_perturbation=True):
        """Creates the record of a new attack.

        Args:
            robust: bool array `(examples,)`, the examples to attack.
            clean: The `Clean` examples.
            keeps_perturbation: Whether perturbations are kept. Defaults to
                True.

        Returns:
            A `Record`.
        """
        count = len(clean.images)
        return cls(
            robust.copy(),
            np.zeros(count, np.int32),
            np.full(count, -np.inf, np.float32),
            clean.prediction.predicted,
            clean.prediction.confidence,
            np.zeros_like(clean.images) if keeps_perturbation else None,
        )

    def update(self, **found):
        """Writes attributes of this record to arrays of earlier attacks.

        Examples for which this attack reports no perturbation keep what they
        have.

        Args:
            **found: Arrays like `perturbation`, `predicted` or `confidence`,
                by these names.
        """
        broken = (self.rounds > 0) & ~self.robust
        # The loss of a broken example may be infinite or NaN.
        reported = np.isfinite(self.loss) | broken
        for name, values in found.items():
            values[reported] = getattr(self, name)[reported]
