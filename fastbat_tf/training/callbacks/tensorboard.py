"""Writes curves and images for TensorBoard."""

import keras
import numpy as np
import tensorflow as tf

from fastbat_tf.attacks.inputs import as_pixels


class Curves(keras.callbacks.TensorBoard):
    """Keras' `TensorBoard` callback, flushed to the disk after each epoch.

    Args:
        **kwargs: Arguments of `keras.callbacks.TensorBoard`.
    """

    @property
    def validation_writer(self):
        """The summary writer of the run `validation`."""
        return self._val_writer

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        for writer in self._writers.values():
            writer.flush()


class PerturbationPanel(keras.callbacks.Callback):
    """Writes clean and perturbed images, and their difference.

    The panel has three rows: images that are classified correctly, the same
    images with the perturbation that the validation found, and the difference,
    in which 0 is gray, and the largest change, which is epsilon at most, is
    black or white. In L2, it is far smaller than epsilon.

    Args:
        validation: The `RobustAccuracy` whose perturbations are shown.
        target: A `Curves`, whose validation run then shows the images, or the
            path of a TensorBoard directory for a run of its own.
        columns: Integer, how many images are shown. Defaults to `8`.
    """

    def __init__(self, validation, target, columns=8):
        super().__init__()
        self.validation = validation
        self.target = target
        self.columns = columns

    def on_train_begin(self, logs=None):
        # TensorBoard cannot follow two growing files of one run.
        if isinstance(self.target, Curves):
            self._writer = self.target.validation_writer
        else:
            self._writer = tf.summary.create_file_writer(str(self.target))

    def on_train_end(self, logs=None):
        if not isinstance(self.target, Curves):
            self._writer.close()

    def on_epoch_end(self, epoch, logs=None):
        result = self.validation.result
        shown = np.flatnonzero(result.clean_correct)[: self.columns]
        if not len(shown):
            return
        clean = as_pixels(self.validation.examples.images[shown])
        delta = result.perturbation[shown]
        contrast = 0.5 + delta / (2 * max(np.abs(delta).max(), 1e-6))
        rows = [np.hstack([*row]) for row in (clean, clean + delta, contrast)]
        panel = np.vstack(rows)
        # Enlarged, because TensorBoard shows images at their size.
        panel = panel.repeat(3, axis=0).repeat(3, axis=1)[np.newaxis]
        with self._writer.as_default():
            tf.summary.image("clean, perturbed, difference", panel, epoch)
        self._writer.flush()
