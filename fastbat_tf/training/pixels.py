"""A Keras model that checks the range of its pixels."""

import functools
import re

import keras
import tensorflow as tf

from fastbat_tf.errors import InputError
from fastbat_tf.methods.step import split_index
from fastbat_tf.training.pixel_range import PixelRange


class PixelModel(keras.Model):
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
        return self._check_first(super().test_step, data)

    def predict_step(self, data):
        # A single image may be that dark.
        return self._check_first(super().predict_step, data, guess=False)

    def _check_first(self, step, data, guess=True):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        images, _ = split_index(x)
        images = self._pixel_range.as_floats(images)
        checked = self._pixel_range.check(images, guess)
        with tf.control_dependencies(checked):
            return step(keras.utils.pack_x_y_sample_weight(x, y, sample_weight))

    def make_train_function(self, force=False):
        if self.train_function is None or force:
            super().make_train_function(force)
            self.train_function = _raises_input_error(self.train_function)
        return self.train_function

    def make_test_function(self, force=False):
        if self.test_function is None or force:
            super().make_test_function(force)
            self.test_function = _raises_input_error(self.test_function)
        return self.test_function

    def make_predict_function(self, force=False):
        if self.predict_function is None or force:
            super().make_predict_function(force)
            self.predict_function = _raises_input_error(self.predict_function)
        return self.predict_function


def _raises_input_error(function):
    """Wraps a function so that a failed check raises an `InputError`."""

    @functools.wraps(function)
    def checked(*args):
        try:
            return function(*args)
        except tf.errors.OpError as error:
            found = re.search(
                r"Images are expected .* Received: min=\S+, max=[^\s\]]+",
                error.message,
            )
            if not found:
                raise
            raise InputError(found[0]) from None

    return checked
