"""The range of a user's pixels, and its mapping to [0, 1].

A classifier may take pixels in [0, 1], [0, 255], [-1, 1] or any other range.
Methods and attacks work only in [0, 1]: images are mapped to it when they enter
a training step, and mapped back before they enter the classifier. So a radius
is always a fraction of the range.
"""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from fastbat_tf.errors import InputError
from fastbat_tf.layers.assertions import require

# How far rounding in float32 may move a pixel beyond a bound, relative to the
# larger bound: images that were scaled or interpolated reach 1.0000001.
TOLERANCE = 1e-6
# In a range no wider than this, integers are not pixels: [-1, 1] has three.
NARROW = 2.0
# In a range this wide, images with only fractions below 1 are meant for [0, 1].
WIDE = 100.0


@dataclasses.dataclass(frozen=True)
class PixelRange:
    """The range of the pixels that a classifier takes.

    Attributes:
        low: Float, the lowest pixel value, black. Defaults to `0.0`.
        high: Float, the highest pixel value, white. Defaults to `1.0`.

    Example:

    >>> PixelRange.parse((0, 255)).to_unit(np.float32([0, 51, 255]))
    array([0. , 0.2, 1. ], dtype=float32)
    """

    low: float = 0.0
    high: float = 1.0

    @classmethod
    def parse(cls, value):
        """Makes a `PixelRange` from a pair of numbers.

        Args:
            value: Pair of numbers `(low, high)`, or a `PixelRange`.

        Raises:
            InputError: If `value` is not two finite numbers, the lower one
                first, that differ in float32.
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
            # Images are float32.
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
        """Whether the range is [0, 1]."""
        return (self.low, self.high) == (0.0, 1.0)

    @property
    def takes_integers(self):
        """Whether the range is wide enough for integer pixels."""
        return self.high - self.low > NARROW

    def to_unit(self, images):
        """Maps images in this range to [0, 1].

        A pixel that is beyond a bound by at most `TOLERANCE` is not clipped
        here; the sum of image and perturbation is.
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
        """Wraps a classifier of this range as one of pixels in [0, 1].

        Args:
            network: A callable `network(images, **kwargs)`, such as a Keras
                model.

        Returns:
            `network` itself if the range is [0, 1]; otherwise a callable with
            the same `trainable_variables`.
        """
        return network if self.is_unit else UnitNetwork(network, self)

    def as_floats(self, images, dtype="float32"):
        """Converts images of any numeric type to floats.

        Args:
            images: Tensor or array `(batch, height, width, channels)`.
            dtype: String, the dtype of the result. Defaults to `"float32"`.

        Returns:
            A tensor like `images`.

        Raises:
            InputError: If the images are neither floats, nor integers in a
                range that is wide enough for them.
        """
        if isinstance(images, dict):
            raise InputError(
                'Images are expected as a tensor, or as {"images": images, '
                '"index": index}. Received: keys=' + ", ".join(images)
            )
        images = tf.convert_to_tensor(images)
        self._check_type(images.dtype)
        return tf.cast(images, dtype)

    def check(self, images, guess=True):
        """Rejects pixels that are outside the range or not finite.

        In a graph, this adds an assertion. XLA drops assertions, so call this
        outside the part that XLA compiles; inside, it does nothing.

        Args:
            images: Float tensor `(batch, height, width, channels)`.
            guess: Boolean, whether to also reject images that lie within a
                range as wide as [0, 255] but look like images in [0, 1].
                Defaults to `True`.

        Returns:
            A list of operations for `tf.control_dependencies`. What depends on
            them runs only if the images are valid. Empty when executed
            eagerly.

        Raises:
            InputError: When executed eagerly, if the images are not valid.
        """
        checks = [(self._is_inside(images), self._outside)]
        if guess and self.high >= WIDE and self.low <= 0:
            checks.append((~_look_scaled(images), self._scaled))
        operations = []
        for fits, complaint in checks:
            operations += require(fits, complaint, lambda: _bounds(images))
        return operations

    def to_unit_array(self, images):
        """Checks images in memory, and maps them to [0, 1].

        Args:
            images: Array `(examples, height, width, channels)`.

        Returns:
            A float32 array. If the range is [0, 1], or the images are uint8
            and the range is too narrow for integers, the images themselves:
            `fastbat_tf.attacks.inputs.as_pixels` then checks them.

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

    def excess(self, images):
        """How far images in memory are outside the range; 0 if they are not.

        Integers that are gray levels of a narrow range are not outside.

        Args:
            images: Array `(examples, height, width, channels)`.

        Returns:
            Float.
        """
        if not images.size or images.dtype == np.uint8:
            return 0.0
        low, high = float(images.min()), float(images.max())
        return max(self.low - low, high - self.high, 0.0)

    def _check_type(self, dtype):
        if dtype.is_floating or (dtype.is_integer and self.takes_integers):
            return
        if dtype.is_integer:
            raise InputError(
                "Integer images are expected with the range of their pixels, "
                "such as RobustClassifier(..., pixel_range=(0, 255)); images "
                f"in {self} are expected as floats. "
                f"Received: images.dtype={dtype.name}"
            )
        raise InputError(
            f"Images are expected to be numbers in {self}. "
            f"Received: images.dtype={dtype.name}"
        )

    def _is_inside(self, images):
        room = TOLERANCE * max(abs(self.low), abs(self.high))
        # NaN fails comparisons, but a minimum may ignore it.
        return tf.reduce_all(
            (images >= self.low - room) & (images <= self.high + room)
        )

    @property
    def _outside(self):
        others = {(0, 1): "(0, 255)", (0, 255): "(0, 1)"}
        other = others.get((self.low, self.high))
        example = f", such as pixel_range={other}" if other else ""
        return (
            f"Images are expected in {self}, the `pixel_range`; state their "
            f"range{example}, or rescale them and make the classifier's first "
            "layer a Rescaling or Normalization layer. "
            "Received: min={}, max={}"
        )

    @property
    def _scaled(self):
        return (
            "Images are expected to have pixels above 1 if `pixel_range` is "
            f"{self}, but all are in [0, 1], with fractions; state "
            "pixel_range=(0, 1), or rescale them. Received: min={}, max={}"
        )


class UnitNetwork:
    """A classifier as a function of pixels in [0, 1].

    Args:
        network: A callable from images in `pixel_range` to logits.
        pixel_range: A `PixelRange`.
    """

    def __init__(self, network, pixel_range):
        self._network = network
        self._pixel_range = pixel_range

    def __call__(self, images, **kwargs):
        """Returns the logits `(batch, classes)` of images in [0, 1]."""
        return self._network(self._pixel_range.from_unit(images), **kwargs)

    @property
    def trainable_variables(self):
        """The trainable variables of the classifier."""
        return self._network.trainable_variables


def _look_scaled(images):
    """Returns whether images are in [0, 1], but not only zeros and ones."""
    fractions = tf.reduce_any((images > 0.0) & (images < 1.0))
    return fractions & tf.reduce_all((images >= 0.0) & (images <= 1.0))


def _bounds(images):
    has_nan = tf.reduce_any(tf.math.is_nan(images))
    nan = tf.constant(math.nan, images.dtype)
    return [
        tf.where(has_nan, nan, bound)
        for bound in (tf.reduce_min(images), tf.reduce_max(images))
    ]
