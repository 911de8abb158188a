"""A Keras model that checks the range of its pixels."""

import functools

import tensorflow as tf

from fastbat_tf.layers.assertions import raises_input_error
from fastbat_tf.layers.pixel_range import PixelRange
from fastbat_tf.methods.batch import unpack
from fastbat_tf.training import empty_batches, variables
from fastbat_tf.training.execution import ReplicatedModel


class PixelModel(ReplicatedModel):
    """A model that checks that its images are in a given range.

    Images of any numeric type are first cast to float32, or to float64 if the
    classifier computes in float64. `fit`, `evaluate`, `predict` and their
    variants for one batch raise a `ValueError` for images outside the range,
    before they compute anything from them.

    The assertion is part of every step. On a busy CPU with 2 cores, it took
    0.9 ms of CPU time for 128 images of 32 x 32. A step of PreActResNet-18
    took 1.010 times as long with it (standard, width 4, 75 ms), 1.011
    (Fast-BAT, width 4, 360 ms) and 1.015 (standard, width 16, 320 ms). These
    are medians of pairs, which scatter by more than that.

    Args:
        pixel_range: Pair of floats, the lowest and highest pixel value.
            Defaults to `(0, 1)`.
        **kwargs: Arguments of `keras.Model`.
    """

    def __init__(self, pixel_range=(0, 1), **kwargs):
        pixel_range = PixelRange.parse(pixel_range)
        # In mixed precision Keras would round the images to bfloat16, but only
        # in `evaluate` and `predict`.
        super().__init__(autocast=False, **kwargs)
        self._pixel_range = pixel_range

    @property
    def pixel_range(self):
        """The range of the pixels, `(low, high)`."""
        return tuple(self._pixel_range)

    def enter(self, images, dtype="float32"):
        """Checks the images of a training step, and maps them to [0, 1].

        Args:
            images: Tensor `(batch, height, width, channels)` in `pixel_range`.
            dtype: String, the dtype of the result. Defaults to `"float32"`.

        Returns:
            A tensor in [0, 1], and the list that `PixelRange.check` returns.
        """
        images = self._pixel_range.as_floats(images, dtype)
        checked = self._pixel_range.check(images)
        with tf.control_dependencies(checked):
            return self._pixel_range.to_unit(tf.identity(images)), checked

    def test_step(self, data):
        batch = self.unpack(data)
        checked = self.check_labels(batch.labels)
        step = functools.partial(empty_batches.test, self, super().test_step)
        return self._check_first(step, batch, checked)

    def predict_step(self, data):
        # A single image may be that dark.
        step = functools.partial(empty_batches.predict, super().predict_step)
        return self._check_first(step, self.unpack(data), guess=False)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        metrics = self._compile_metrics
        if not (
            metrics is None or metrics.built or tf.distribute.has_strategy()
        ):
            with variables.before_the_step():
                metrics.build(y, y_pred)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def _check_first(self, step, batch, checked=(), guess=True):
        images = self._pixel_range.as_floats(self.images_of(batch.inputs))
        checked = [*checked, *self._pixel_range.check(images, guess)]
        with tf.control_dependencies(checked):
            # A tuple even without labels: the inputs may be one themselves.
            return step((batch.inputs, batch.labels, batch.sample_weight))

    def unpack(self, data, needs_index=False):
        """Unpacks a batch of Keras; see `methods.batch.unpack`."""
        return unpack(data, needs_index)

    def images_of(self, inputs):
        """Returns the images among the inputs of the classifier."""
        return inputs

    def check_labels(self, labels):
        """Rejects labels that the classifier cannot have; here, none.

        Args:
            labels: The labels of a batch.

        Returns:
            A list of operations for `tf.control_dependencies`.
        """
        del labels
        return []

    def make_train_function(self, force=False):
        if self.train_function is None or force:
            super().make_train_function(force)
            self.train_function = raises_input_error(self.train_function)
        return self.train_function

    def make_test_function(self, force=False):
        if self.test_function is None or force:
            super().make_test_function(force)
            self.test_function = raises_input_error(self.test_function)
        return self.test_function

    def make_predict_function(self, force=False):
        if self.predict_function is None or force:
            super().make_predict_function(force)
            self.predict_function = raises_input_error(self.predict_function)
        return self.predict_function
