"""Shows TensorBoard the same images under attack after each epoch."""

import os
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from fastbat_tf.attacks.inputs import as_count, as_pixels
from fastbat_tf.errors import InputError
from fastbat_tf.runtime.captions import ClassNames, ExampleRow
from fastbat_tf.training.callbacks.tensorboard import Curves
from fastbat_tf.training.callbacks.validation import RobustAccuracy

TAG = "clean, perturbed, difference"


class PerturbationPanel(keras.callbacks.Callback):
    """Writes clean and perturbed images, and their difference.

    The panel shows the same validation images after each epoch, whether they
    are classified correctly or not, of as many classes as possible. Each comes
    with its true class, with the perturbation that the validation found, and
    with the predictions before and after the attack and their probabilities.
    Differences are magnified, all of them by the same factor, and a key below
    shows by how much. An image that is misclassified without a perturbation is
    not attacked: it has none.

    List this callback after `RobustAccuracy`.

    Args:
        validation: The `RobustAccuracy` whose images and perturbations are
            shown: images of 1 channel (gray) or 3 (RGB).
        target: A `Curves`, whose validation run then shows the images, or the
            path of a TensorBoard directory for a run of its own.
        max_examples: Integer, the most images that are shown. Defaults to 8.
        class_names: Sequence of strings, one for each class. Defaults to None,
            numbers.

    Raises:
        InputError: If an argument is not as described. When `fit` begins, if
            there are fewer names than classes. At the end of an epoch, if
            `validation` has not measured it.

    Example:

    ```python
    robust_accuracy = fb.RobustAccuracy(validation, fb.attacks.PGD(8 / 255))
    digits = [f"digit {k}" for k in range(10)]
    panel = PerturbationPanel(robust_accuracy, "logs", class_names=digits)
    robust.fit(data, epochs=20, callbacks=[robust_accuracy, panel])
    ```
    """

    def __init__(
        self,
        validation: RobustAccuracy,
        target: Curves | str | os.PathLike[str],
        max_examples: int = 8,
        *,
        class_names: Sequence[str] | np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.validation = validation
        self.target = target
        self.max_examples = as_count("max_examples", max_examples)
        self._names = ClassNames(class_names)

    def on_train_begin(self, logs=None):
        images = self.validation.examples.images
        channels = images.shape[-1]
        if channels not in (1, 3):
            raise InputError(
                "`PerturbationPanel` expects images of 1 channel (gray) or 3 "
                f"(RGB). Received: {channels} channels"
            )
        self._names.check(self.validation.probabilities(images[:1]).shape[-1])
        # TensorBoard cannot follow two growing files of one run.
        if isinstance(self.target, Curves):
            self._writer = self.target.validation_writer
        else:
            self._writer = tf.summary.create_file_writer(str(self.target))

    def on_train_end(self, logs=None):
        if not isinstance(self.target, Curves):
            self._writer.close()

    def on_epoch_end(self, epoch, logs=None):
        if self.validation.result is None:
            raise InputError(
                "`PerturbationPanel` shows what its `RobustAccuracy` has "
                "found; expected that before it in the list of callbacks. "
                "Received: result=None"
            )
        from fastbat_tf.runtime import figures  # Imports matplotlib.

        # TensorBoard first shows pictures as wide as three images are.
        figure = figures.draw(self._rows(), columns=1)
        picture = figures.as_pixels(figure)
        with self._writer.as_default():
            tf.summary.image(TAG, picture[np.newaxis], epoch + 1)
        self._writer.flush()

    def _rows(self):
        images, labels = self.validation.examples
        shown = of_distinct_classes(labels, self.max_examples)
        labels = labels[shown]
        clean = as_pixels(images[shown])
        adversarial = clean + self.validation.result.perturbation[shown]
        adversarial = np.clip(adversarial, 0, 1)  # Of rounding.
        before, after = (
            self._captions(pixels, labels) for pixels in (clean, adversarial)
        )
        headings = map(self._names.heading, labels)
        parts = shown, clean, adversarial, headings, before, after
        return [ExampleRow(*row) for row in zip(*parts, strict=True)]

    def _captions(self, images, labels):
        probabilities = self.validation.probabilities(images)
        return [
            self._names.caption(
                int(each.argmax()), each.max(), bool(each.argmax() == label)
            )
            for each, label in zip(probabilities, labels, strict=True)
        ]


def of_distinct_classes(labels: np.ndarray, count: int) -> np.ndarray:
    """Chooses examples: the first of each class, then the second, and so on.

    Args:
        labels: Integer array `(examples,)`.
        count: Integer, the most examples to choose.

    Returns:
        Integer array of their indices.

    Example:

    >>> of_distinct_classes(np.array([7, 7, 2, 7, 2]), 3)
    array([0, 2, 1])
    """
    seen = {}
    rounds = np.empty(len(labels), int)  # The earlier ones of the same class.
    for place, label in enumerate(labels.tolist()):
        rounds[place] = seen.get(label, 0)
        seen[label] = rounds[place] + 1
    return np.argsort(rounds, kind="stable")[:count]
