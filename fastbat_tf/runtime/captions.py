"""What is written beside the images of examples; `figures` draws it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fastbat_tf.errors import InputError


class Caption(NamedTuple):
    """What is written below an image.

    Attributes:
        text: String, the predicted class; empty if it is not known.
        is_right: Whether it is the true class, or None if that is not known.
    """

    text: str
    is_right: bool | None


class ExampleRow(NamedTuple):
    """An example, as it is shown.

    Attributes:
        number: Integer, its index.
        image: float32 array `(height, width, channels)` in [0, 1].
        adversarial: Array like `image`.
        label: String, a line that says the true class, or None.
        before: The `Caption` of the image.
        after: The `Caption` of the adversarial image.
    """

    number: int
    image: np.ndarray
    adversarial: np.ndarray
    label: str | None
    before: Caption
    after: Caption


class ClassNames:
    """The names of classes.

    Args:
        names: Sequence of strings, one for each class. Defaults to None,
            numbers.

    Raises:
        InputError: If `names` is a string.
    """

    def __init__(self, names: Sequence[str] | np.ndarray | None = None) -> None:
        if isinstance(names, str):
            raise InputError(
                "`class_names` is expected to be a list of strings. "
                f"Received: class_names={names!r}"
            )
        self._names = None if names is None else [str(name) for name in names]

    def check(self, classes: int) -> None:
        """Rejects names that are fewer than the classes.

        Args:
            classes: Integer, the number of classes.

        Raises:
            InputError: If there are fewer names.
        """
        if self._names is not None and len(self._names) < classes:
            raise InputError(
                "`class_names` is expected to have a name for each of the "
                f"{classes} classes. Received: {len(self._names)} names"
            )

    def heading(self, number: int) -> str:
        """The line above an example of this class."""
        name = number if self._names is None else self[number]
        return f"true class: {name}"

    def caption(
        self,
        predicted: int,
        probability: float | None = None,
        is_right: bool | None = None,
    ) -> Caption:
        """What is written below an image.

        Args:
            predicted: Integer, the predicted class.
            probability: Float, its probability. Defaults to None, not known.
            is_right: Whether it is the true class. Defaults to None, not
                known.

        Returns:
            A `Caption`.
        """
        text = self[predicted]
        if probability is not None:
            text += f" {100 * probability:.0f}\N{NO-BREAK SPACE}%"
        return Caption(text, is_right)

    def __getitem__(self, number: int) -> str:
        if self._names is None:
            return f"class {number}"
        if not 0 <= number < len(self._names):
            raise InputError(
                "`class_names` is expected to have a name for each class. "
                f"Received: {len(self._names)} names, class={number}"
            )
        return self._names[number]
