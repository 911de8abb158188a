"""What TensorBoard shows."""

import keras
import numpy as np
import tensorflow as tf

from fastbat_tf.attacks.inputs import as_pixels


class Curves(keras.callbacks.TensorBoard):
    """Keras' callback, with all of an epoch on the disk at its end."""

    @property
    def validation_writer(self):
        """The writer of the run `validation`."""
        return self._val_writer

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        for writer in self._writers.values():
            writer.flush()


class PerturbationPanel(keras.callbacks.Callback):
    """Shows clean and perturbed images, and their difference, in TensorBoard.

    Three rows: images that were classified correctly, the same with the
    perturbation that the validation found, and the difference, with -epsilon
    black, zero gray and +epsilon white.

    Args:
        validation: The `RobustValidation` whose perturbations are shown.
        where: Path of a directory of TensorBoard, for a run of its own, or
            the `Curves` whose validation shows the images as well.
        columns: Integer, how many images.
    """

    def __init__(self, validation, where, columns=8):
        super().__init__()
        self.validation = validation
        self.where = where
        self.columns = columns

    def on_train_begin(self, logs=None):
        # TensorBoard does not follow two files of one run that both grow.
        if isinstance(self.where, Curves):
            self._writer = self.where.validation_writer
        else:
            self._writer = tf.summary.create_file_writer(str(self.where))

    def on_train_end(self, logs=None):
        if not isinstance(self.where, Curves):
            self._writer.close()

    def on_epoch_end(self, epoch, logs=None):
        result = self.validation.result
        shown = np.flatnonzero(result.clean_correct)[: self.columns]
        if not len(shown):
            return
        clean = as_pixels(self.validation.examples.images[shown])
        delta = result.perturbation[shown]
        contrast = 0.5 + delta / (2 * max(self.validation.epsilon, 1e-6))
        rows = [np.hstack([*row]) for row in (clean, clean + delta, contrast)]
        panel = np.vstack(rows)
        # Enlarged: TensorBoard shows small images small.
        panel = panel.repeat(3, axis=0).repeat(3, axis=1)[np.newaxis]
        with self._writer.as_default():
            tf.summary.image("clean, perturbed, difference", panel, epoch)
        self._writer.flush()
