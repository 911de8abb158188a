"""The range of a user's pixels, and the [0, 1] in which all methods work.

A classifier may take pixels in [0, 1], [0, 255], [-1, 1] or any other range.
Methods and attacks know [0, 1] alone: images are mapped to it as they enter a
training step, and back in front of the classifier. So a radius is a fraction
of the range, whatever that is.
"""

import dataclasses
import functools
import math
import re

import keras
import numpy as np
import tensorflow as tf

from fastbat_tf.errors import InputError
from fastbat_tf.layers.batch_normalization import inside_xla
from fastbat_tf.methods.step import split_index

# What float32 rounding may add at a bound, relative to the larger bound: images
# that were scaled or interpolated reach 1.0000001.
TOLERANCE = 1e-6
# Integers in a narrower range are gray levels of another one: in [-1, 1] there
# are three.
NARROW = 2.0
# In a range this wide, fractions below 1 alone are pixels of [0, 1].
WIDE = 100.0


@dataclasses.dataclass(frozen=True)
class PixelRange:
    """The range of the pixels that a classifier takes.

    Attributes:
        low: Float, black.
        high: Float, white.

    Example:

    >>> PixelRange.parse((0, 255)).to_unit(np.float32([0, 51, 255]))
    array([0. , 0.2, 1. ], dtype=float32)
    """

    low: float = 0.0
    high: float = 1.0

    @classmethod
    def parse(cls, value):
        """Makes one of a pair of numbers.

        Raises:
            InputError: If these are not two finite numbers, the lower first,
                that float32 tells apart.
        """
        if isinstance(value, cls):
            return value
        try:
            if isinstance(value, str | bytes):
                raise TypeError
            low, high = (float(bound) for bound in value)
        except (TypeError, ValueError, OverflowError):
            low = high = math.nan
        with np.errstate(over="ignore"):
            # In float32, in which the images are.
            narrowed = np.array([low, high], np.float32)
        if not (np.isfinite(narrowed).all() and narrowed[0] < narrowed[1]):
            raise InputError(
                "`pixel_range` is expected as two finite numbers (low, high), "
                "low below high, such as (0, 1) or (0, 255). "
                f"Received: pixel_range={value}"
            )
        return cls(low, high)

    def __iter__(self):
        return iter((self.low, self.high))

    def __str__(self):
        return f"[{self.low:g}, {self.high:g}]"

    @property
    def is_unit(self):
        """Whether it is [0, 1]."""
        return (self.low, self.high) == (0.0, 1.0)

    @property
    def takes_integers(self):
        """Whether integers can be pixels of it."""
        return self.high - self.low > NARROW

    def to_unit(self, images):
        """Maps images of this range to [0, 1].

        What `TOLERANCE` allows beyond a bound stays there: the perturbation
        takes it back, since the sum of both is clipped to [0, 1].
        """
        if self.is_unit:
            return images
        return (images - self.low) / (self.high - self.low)

    def from_unit(self, images):
        """Maps images in [0, 1] to this range; the inverse of `to_unit`."""
        if self.is_unit:
            return images
        return self.low + (self.high - self.low) * images

    def wrap(self, network):
        """A classifier of this range as one of pixels in [0, 1].

        Args:
            network: A callable `network(images, **kwargs)`, such as a Keras
                model.

        Returns:
            `network` itself if the range is [0, 1], else a callable that has
            its `trainable_variables`.
        """
        return network if self.is_unit else UnitNetwork(network, self)

    def as_floats(self, images, dtype="float32"):
        """Images of any type of number as a tensor of floats.

        Args:
            images: Tensor or array `(batch, height, width, channels)`.
            dtype: String, the type of the result.

        Raises:
            InputError: If the images are neither floats, nor integers in a
                range that is wide enough for them.
        """
        images = tf.convert_to_tensor(images)
        self._check_type(images.dtype)
        return tf.cast(images, dtype)

    def check(self, images, guess=True):
        """Refuses pixels outside the range, and those that are not finite.

        In a graph the refusal is an assertion. XLA would drop it: in what XLA
        compiles there is none, and it belongs in front of that.

        Args:
            images: Tensor of floats, `(batch, height, width, channels)`.
            guess: Whether images are refused, too, that are inside a range as
                wide as [0, 255] but look like those of [0, 1].

        Returns:
            A list for `tf.control_dependencies`: what must not begin before
            the images are known to be good.

        Raises:
            InputError: Eagerly, if they are not.
        """
        if inside_xla():
            return []
        checks = [(self._is_inside(images), self._outside)]
        if guess and self.high >= WIDE and self.low <= 0:
            checks.append((~_look_scaled(images), self._scaled))
        if tf.executing_eagerly():
            for fits, complaint in checks:
                if not fits:
                    low, high = (float(bound) for bound in _bounds(images))
                    raise InputError(complaint.format(f"{low:g}", f"{high:g}"))
            return []

        def fail(complaint):  # In here, so that it costs nothing before.
            text = tf.strings.format(complaint, list(_bounds(images)))
            return tf.debugging.Assert(False, [text])

        return [
            tf.cond(fits, tf.no_op, functools.partial(fail, complaint))
            for fits, complaint in checks
        ]

    def to_unit_array(self, images):
        """Checks images in memory, and maps them to [0, 1].

        Args:
            images: Array `(examples, height, width, channels)`.

        Returns:
            A float32 array; where the range is [0, 1], or the images are gray
            levels of uint8 in a range that is too narrow for them, the images
            themselves, which `fastbat_tf.attacks.inputs.as_pixels` checks.

        Raises:
            InputError: If they are outside the range.
        """
        images = np.asarray(images)
        gray_levels = images.dtype == np.uint8 and not self.takes_integers
        if self.is_unit or gray_levels or not images.size:
            return images
        self._check_type(tf.as_dtype(images.dtype))
        images = images.astype(np.float32)
        with tf.device("CPU"):
            self.check(tf.convert_to_tensor(images))
        return np.clip(self.to_unit(images), 0.0, 1.0).astype(np.float32)

    def _check_type(self, dtype):
        if dtype.is_floating or (dtype.is_integer and self.takes_integers):
            return
        if dtype.is_integer:
            raise InputError(
                "Images of integers are expected with the range of their "
                "pixels, such as RobustClassifier(..., pixel_range=(0, 255)); "
                f"those in {self} are expected as floats. "
                f"Received: images.dtype={dtype.name}"
            )
        raise InputError(
            f"Images are expected as numbers in {self}. "
            f"Received: images.dtype={dtype.name}"
        )

    def _is_inside(self, images):
        room = TOLERANCE * max(abs(self.low), abs(self.high))
        # Comparisons, which NaN fails; a minimum may pass over it.
        return tf.reduce_all(
            (images >= self.low - room) & (images <= self.high + room)
        )

    @property
    def _outside(self):
        others = {(0, 1): "(0, 255)", (0, 255): "(0, 1)"}
        other = others.get((self.low, self.high))
        example = f", such as pixel_range={other}" if other else ""
        return (
            f"Images are expected in {self}, the `pixel_range`; state the "
            f"range of yours{example}, or rescale them and give the "
            "classifier a Rescaling or Normalization layer as its first. "
            "Received: min={}, max={}"
        )

    @property
    def _scaled(self):
        return (
            "Images are expected to have pixels above 1 where `pixel_range` "
            f"is {self}, but all are in [0, 1], with fractions; state "
            "pixel_range=(0, 1), or rescale them. Received: min={}, max={}"
        )


class UnitNetwork:
    """A classifier as a function of pixels in [0, 1].

    Args:
        network: A callable from images to logits.
        pixel_range: The `PixelRange` of these images.
    """

    def __init__(self, network, pixel_range):
        self._network = network
        self._pixel_range = pixel_range

    def __call__(self, images, **kwargs):
        """Logits of images `(batch, height, width, channels)` in [0, 1]."""
        return self._network(self._pixel_range.from_unit(images), **kwargs)

    @property
    def trainable_variables(self):
        """Those of the classifier."""
        return self._network.trainable_variables


def _look_scaled(images):
    """Whether they are fractions in [0, 1], and not only zeros and ones."""
    fractions = tf.reduce_any((images > 0.0) & (images < 1.0))
    return fractions & tf.reduce_all((images >= 0.0) & (images <= 1.0))


def _bounds(images):
    has_nan = tf.reduce_any(tf.math.is_nan(images))
    nan = tf.constant(math.nan, images.dtype)
    return [
        tf.where(has_nan, nan, bound)
        for bound in (tf.reduce_min(images), tf.reduce_max(images))
    ]


class PixelModel(keras.Model):
    """A model that knows the range of its pixels, and holds its data to it.

    Images of any type of number become floats as they enter: float64 for a
    classifier that computes in it, else float32. Images outside the range are
    refused before anything is computed from them, by a `ValueError` of `fit`,
    `evaluate`, `predict` and their forms for a batch.

    The assertion is in every step. Measured on a busy CPU with 2 cores, for
    128 images of 32 x 32: 0.9 ms of CPU time. A step of PreActResNet-18 with it
    takes 1.010 times one without (standard, width 4, 75 ms), 1.011 (Fast-BAT,
    width 4, 360 ms) and 1.015 (standard, width 16, 320 ms), in medians of pairs
    that scatter by more than that.

    Args:
        pixel_range: Pair of floats.
        **kwargs: Arguments of `keras.Model`.
    """

    def __init__(self, pixel_range=(0, 1), **kwargs):
        pixel_range = PixelRange.parse(pixel_range)
        # Keras would round the images to bfloat16 in mixed precision, in
        # `evaluate` and `predict` alone.
        super().__init__(autocast=False, **kwargs)
        self._pixel_range = pixel_range

    @property
    def pixel_range(self):
        """The range of the pixels, `(low, high)`."""
        return tuple(self._pixel_range)

    def enter(self, images, dtype="float32"):
        """Images of a training step as all methods see them.

        Args:
            images: Tensor `(batch, height, width, channels)`, in the range.
            dtype: String, the type of the result.

        Returns:
            A tensor in [0, 1], and a list for `tf.control_dependencies`, as
            that of `PixelRange.check`.
        """
        images = self._pixel_range.as_floats(images, dtype)
        checked = self._pixel_range.check(images)
        with tf.control_dependencies(checked):
            return self._pixel_range.to_unit(tf.identity(images)), checked

    def test_step(self, data):
        return self._check_first(super().test_step, data)

    def predict_step(self, data):
        # One image may be that dark.
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
            self.train_function = _in_one_line(self.train_function)
        return self.train_function

    def make_test_function(self, force=False):
        if self.test_function is None or force:
            super().make_test_function(force)
            self.test_function = _in_one_line(self.test_function)
        return self.test_function

    def make_predict_function(self, force=False):
        if self.predict_function is None or force:
            super().make_predict_function(force)
            self.predict_function = _in_one_line(self.predict_function)
        return self.predict_function


def _in_one_line(function):
    """A function whose failed assertions of pixels are `InputError`s."""

    @functools.wraps(function)
    def ask(*args):
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

    return ask
