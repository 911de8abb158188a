"""The random draws that a method sees in a step."""

from typing import Any

import tensorflow as tf

from fastbat_tf import replicas
from fastbat_tf.draws import Draws, as_normal
from fastbat_tf.errors import InputError
from fastbat_tf.perturbation import (
    clip_to_pixels,
    is_l2,
    project,
    uniform_in_l2_ball,
)


class RandomDraws:
    """Draws for the examples of a batch, on any number of replicas.

    Args:
        images: Float tensor `(batch, height, width, channels)`, pixels in
            [0, 1].
        draws: The `Draws` of the step.
        shard: A `fastbat_tf.replicas.Shard`, the part of the batch that this
            replica has, or None for all of it.
    """

    def __init__(
        self, images: Any, draws: Draws, shard: replicas.Shard | None
    ) -> None:
        self.images = images
        self._draws = draws
        self._shard = shard

    def uniform(self, name: str, radius: Any) -> Any:
        """Draws noise from U(-radius, radius), for each pixel.

        Args:
            name: String, the name of the draw. Draws of different names are
                independent; the same name gives the same numbers.
            radius: Float, in pixels.

        Returns:
            A tensor shaped and typed like the images.
        """
        return self.draw(name, tf.shape(self.images), -radius, radius)

    def random_start(
        self, radius: Any, name: str = "start", *, norm: str = "linf"
    ) -> Any:
        """Draws noise uniformly from a ball, then clips it to the pixel range.

        In L-infinity, this is noise from U(-radius, radius) for each pixel.

        Args:
            radius: Float, in pixels.
            name: String, the name of the draw. Defaults to `"start"`.
            norm: `"linf"` or `"l2"`. Defaults to `"linf"`.

        Returns:
            A perturbation: `images + random_start(radius)` is in [0, 1].

        Raises:
            InputError: If the norm is neither.
        """
        if not is_l2(norm):
            return clip_to_pixels(self.uniform(name, radius), self.images)
        shape = (tf.shape(self.images)[0], 1, 1, 1)
        drawn = uniform_in_l2_ball(
            self.normal(name, 1.0), self.draw(f"{name}_radius", shape), radius
        )
        return project(drawn, self.images, radius, norm=norm)

    def signs(self, name: str, radius: Any) -> Any:
        """Draws `radius` or `-radius` with equal probability, for each pixel.

        Args:
            name: String, the name of the draw.
            radius: Float, in pixels.
        """
        drawn = self.uniform(name, radius)
        ones = tf.ones_like(drawn)
        return radius * tf.where(drawn < 0, -ones, ones)

    def normal(self, name: str, deviation: Any) -> Any:
        """Draws noise from N(0, deviation^2), for each pixel.

        Args:
            name: String, the name of the draw.
            deviation: Float, the standard deviation, in pixels. No draw
                exceeds 5.3 times this.
        """
        return deviation * as_normal(self.draw(name, tf.shape(self.images)))

    def draw(
        self,
        name: str,
        shape: Any,
        low: Any = 0.0,
        high: Any = 1.0,
        *,
        shared: bool = False,
    ) -> Any:
        """Draws numbers from U(low, high), in the dtype of the images.

        An example sees the same numbers on any number of replicas.

        Args:
            name: String, the name of the draw.
            shape: Tuple or integer tensor. Its first axis is that of the
                examples of the batch, unless the draw is shared.
            low: Float. Defaults to 0.
            high: Float. Defaults to 1.
            shared: Boolean, whether the draw is one for all examples, such as a
                scalar or a matrix of the classes. Defaults to False.

        Raises:
            InputError: If the draw is not shared, but its first axis is not
                that of the examples.
        """
        dtype = self.images.dtype
        if shared:
            return self._draws.uniform(name, shape, low, high, dtype)
        self._check_is_of_examples(name, shape)
        if self._shard is None:
            return self._draws.uniform(name, shape, low, high, dtype)
        first = self._shard.first
        return self._draws.uniform(name, shape, low, high, dtype, first=first)

    def _check_is_of_examples(self, name, shape):
        static = tf.get_static_value(shape) if tf.is_tensor(shape) else shape
        if static is None:
            return
        static = getattr(static, "tolist", lambda: static)()
        sizes = [
            tf.get_static_value(x) if tf.is_tensor(x) else x for x in static[:1]
        ]
        expected = self.images.shape[0]
        if not sizes or None not in (*sizes, expected) and sizes != [expected]:
            raise InputError(
                "A draw is expected to have a row for each example, such as "
                "the shape (batch, classes), or shared=True if it is one for "
                f"all of them. Received: name={name}, shape={tuple(static)}"
            )

    def coin(self, name: str) -> Any:
        """Draws a scalar boolean tensor, true with probability 1/2.

        It is the same for all examples, on all replicas.

        Args:
            name: String, the name of the draw.
        """
        return self.draw(name, (), shared=True) < 0.5
