"""The notes and the warnings of an evaluation."""

import numpy as np

from fastbat_tf.attacks import losses

TOWARD_CLASS = (
    "{} leads toward one class: accuracy under it, which counts every "
    "misclassified image, is an upper bound of robust accuracy."
)


def notes_on(sample, pixels, built, classes):
    """Returns sentences about what was done to the input.

    Args:
        sample: The `Sample`.
        pixels: The `PixelRange` of the model.
        built: Dict from names to `BoundAttack`s.
        classes: Integer, the number of classes.

    Returns:
        List of strings.
    """
    notes = [sample.description] if sample.description else []
    notes += sample.notes
    if sample.images.dtype == np.uint8:
        notes.append("The images are uint8: pixels were divided by 255.")
    for attack in built.values():
        for stage in attack.stages():
            note = losses.fallback(getattr(stage, "loss_name", None), classes)
            if note and note not in notes:
                notes.append(note)
            if stage.attack.is_targeted:
                notes.append(TOWARD_CLASS.format(stage.title))
    if not pixels.is_unit:
        notes.append(
            f"Pixels in {pixels} were mapped to [0, 1]; radii are those of "
            "the mapped images."
        )
    return notes


def announce(directory, notes, shown):
    """Tells where the results go, and the notes unless a table follows.

    Args:
        directory: Path, or None.
        notes: List of strings.
        shown: The `Display`.
    """
    if directory is not None:
        shown.log(f"Results: {directory}")
    if not shown.is_shown:  # Otherwise a table follows, with the notes below.
        for note in notes:
            shown.note(note)


class Warnings:
    """Collects warnings, and shows each one as it is found.

    Args:
        texts: List of strings, the first warnings.
        shown: The `Display`.

    Attributes:
        texts: List of strings, all warnings so far.
    """

    def __init__(self, texts, shown):
        self.texts = []
        self._shown = shown
        for text in texts:
            self.add(text)

    def add(self, text):
        """Adds a warning, and shows it."""
        self.texts.append(text)
        self._shown.warn(text)
