"""Shows what an attack did: images, adversarial images, perturbations."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastbat_tf.attacks.inputs import as_count, as_pixels
from fastbat_tf.attacks.records import AdversarialExamples
from fastbat_tf.data.classes import as_classes
from fastbat_tf.data.examples import as_array, describe
from fastbat_tf.errors import InputError
from fastbat_tf.layers.pixel_range import PixelRange
from fastbat_tf.runtime.captions import Caption, ClassNames, ExampleRow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Outputs whose rows are no closer to a sum of 1 are logits.
SUM_TOLERANCE = 1e-3
# A change of a pixel that rounding explains.
ROUNDING = 1e-6


def plot_adversarial(
    images: Any,
    adversarial: Any,
    labels: Any = None,
    *,
    predictions: Any = None,
    clean_predictions: Any = None,
    class_names: Sequence[str] | np.ndarray | None = None,
    pixel_range: Sequence[float] = (0, 1),
    index: Sequence[int] | np.ndarray | None = None,
    max_examples: int = 8,
) -> "Figure":
    """Shows images beside their adversarial images and the perturbations.

    Each image comes with its true class and the class that is predicted for it,
    before and after the attack, with a check mark if that is the true class, or
    without labels, if the attack has not changed it. Perturbations are
    magnified, all of them by the same factor, and a key below shows by how
    much; their sizes are fractions of the pixel range, as epsilon is. What an
    attack returns knows its predictions, so that images, this, and labels are
    all that is needed.

    Args:
        images: Array or tensor `(examples, height, width, channels)` in
            `pixel_range`, or uint8 gray levels; of 1 or 3 channels.
        adversarial: What an attack has returned for these images, or an array
            like `images`.
        labels: The true classes, in any form that `evaluate_robustness` takes.
            Defaults to None, not shown.
        predictions: The predictions for the adversarial images: classes
            `(examples,)`, or logits or probabilities `(examples, classes)`, of
            which the probability of the class is shown, too. Defaults to None,
            those that the attack has returned.
        clean_predictions: The predictions for `images`, like `predictions`.
            Defaults to None, what labels and the result of the attack tell.
        class_names: Sequence of strings, one for each class. Defaults to None,
            numbers.
        pixel_range: Pair of floats, the range of the pixels. Defaults to
            `(0, 1)`.
        index: Sequence of integers, the examples to show. Defaults to None: at
            most `max_examples` of them, first those that the attack breaks,
            then those that resist, then those that were misclassified before.
        max_examples: Integer, the most examples that are shown if `index` is
            None. Defaults to 8.

    Returns:
        A `matplotlib.figure.Figure` without any state of pyplot: the last line
        of a cell of a notebook shows it, `savefig` writes it to a file.

    Raises:
        InputError: If the arguments do not fit each other.

    Example:

    ```python
    result = fb.attacks.PGD(epsilon=8 / 255)(model, images, labels)
    figure = fb.plot_adversarial(images, result, labels)
    figure.savefig("adversarial.png")
    ```
    """
    pixels = PixelRange.parse(pixel_range)
    clean = _as_images("images", images, pixels)
    result = None
    if isinstance(adversarial, AdversarialExamples):
        result, adversarial = adversarial, adversarial.images
    attacked = _as_images("adversarial", adversarial, pixels)
    if clean.shape != attacked.shape:
        raise InputError(
            "Images and adversarial images are expected in pairs. Received: "
            f"images.shape={clean.shape}, adversarial.shape={attacked.shape}"
        )
    if labels is not None:
        labels = as_classes(labels, len(clean)).labels
    if predictions is None and result is not None:
        predictions = result.predictions
    before = _as_predictions("clean_predictions", clean_predictions, len(clean))
    after = _as_predictions("predictions", predictions, len(clean))
    if before is None and result is not None and labels is not None:
        before = _infer(clean, attacked, result, labels)
    outcomes = _Outcomes(labels, before, after)
    shown = _choose(index, max_examples, outcomes, len(clean))
    names = ClassNames(class_names)
    rows = [
        ExampleRow(
            int(number),
            clean[number],
            attacked[number],
            None if labels is None else names.heading(labels[number]),
            _caption(number, before, labels, names),
            _caption(number, after, outcomes.reference, names),
        )
        for number in shown
    ]
    from fastbat_tf.runtime import figures  # Imports matplotlib.

    return figures.draw(rows, outcomes.summary(len(rows), len(clean)))


class _Predictions(NamedTuple):
    """Predicted classes and their probabilities, `(examples,)`, or None."""

    classes: np.ndarray
    probabilities: np.ndarray | None = None


class _Outcomes(NamedTuple):
    """What became of the examples, as far as it is known."""

    labels: np.ndarray | None
    before: _Predictions | None
    after: _Predictions | None

    @property
    def reference(self):
        """The classes from which an attack is to turn predictions away."""
        if self.labels is not None or self.before is None:
            return self.labels
        return self.before.classes

    @property
    def order(self):
        """0 for broken, 1 for robust, 2 for wrong before; None if unknown."""
        if self.reference is None or self.after is None:
            return None
        broken = self.after.classes != self.reference
        order = np.where(broken, 0, 1)
        if self.labels is not None and self.before is not None:
            order[self.before.classes != self.labels] = 2
        return order

    def summary(self, shown, count):
        """A sentence about all examples, or None if all are shown."""
        if shown == count:
            return None
        text = f"{shown} of {count} images."
        if self.order is not None:
            broken, robust = ((self.order == k).sum() for k in (0, 1))
            text += f" The attack breaks {broken} of {broken + robust}"
            wrong = count - broken - robust
            verb = "was" if wrong == 1 else "were"
            text += f"; {wrong} {verb} misclassified before." if wrong else "."
        return text


def _as_images(name, images, pixels):
    images = as_pixels(pixels.to_unit_array(as_array(name, images)))
    if images.shape[-1] not in (1, 3):
        raise InputError(
            "Images of 1 channel (gray) or 3 (RGB) are expected. "
            f"Received: {name}.shape={images.shape}"
        )
    return images


def _as_predictions(name, values, count):
    if values is None:
        return None
    values = as_array(name, values)
    if values.dtype.kind in "iu" and values.shape in ((count,), (count, 1)):
        return _Predictions(values.reshape(count))
    is_float = values.dtype.kind == "f" or values.dtype.name == "bfloat16"
    if not is_float or values.ndim != 2 or values.shape[1] < 2:
        raise InputError(
            f"`{name}` is expected as classes ({count},), or as logits or "
            f"probabilities ({count}, classes). "
            f"Received: {describe(values)}, dtype={values.dtype}"
        )
    if len(values) != count:
        raise InputError(
            f"`{name}` is expected for {count} images. "
            f"Received: {name}.shape={values.shape}"
        )
    values = values.astype(np.float64)
    sums = values.sum(axis=1)
    if values.min() < 0 or abs(sums - 1).max() > SUM_TOLERANCE:  # Logits.
        values = np.exp(values - values.max(axis=1, keepdims=True))
        values /= values.sum(axis=1, keepdims=True)
    return _Predictions(values.argmax(axis=1), values.max(axis=1))


def _infer(clean, attacked, result, labels):
    """The predictions before the attack.

    It attacks only images that are classified correctly; the others are
    returned as they are.
    """
    moved = abs(attacked - clean).max(axis=(1, 2, 3)) > ROUNDING
    was_right = np.asarray(result.robust) | moved
    return _Predictions(np.where(was_right, labels, result.predictions))


def _choose(index, max_examples, outcomes, count):
    """Returns the indices of the examples that are shown."""
    if index is not None:
        chosen = np.asarray(index)
        if chosen.ndim == 1 and chosen.size and chosen.dtype.kind in "iu":
            if 0 <= chosen.min() <= chosen.max() < count:
                return chosen
        raise InputError(
            f"`index` is expected to hold integers in [0, {count}). "
            f"Received: index={describe(index)}"
        )
    max_examples = as_count("max_examples", max_examples)
    if outcomes.order is None:
        return np.arange(min(count, max_examples))
    return np.sort(np.argsort(outcomes.order, kind="stable")[:max_examples])


def _caption(number, predictions, reference, names):
    if predictions is None:
        return Caption("", None)
    predicted = predictions.classes[number]
    probability = None
    if predictions.probabilities is not None:
        probability = predictions.probabilities[number]
    is_right = None
    if reference is not None:
        is_right = bool(predicted == reference[number])
    return names.caption(predicted, probability, is_right)
