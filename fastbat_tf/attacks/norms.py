"""The balls of perturbations: L-infinity and L2.

A norm provides the size of a perturbation, the projection onto the feasible set

    C(x) = {delta : ||delta|| <= epsilon, 0 <= x + delta <= 1},

the steepest direction of a gradient, the speed of the pixels along it, and
random perturbations. Tensors have shape `(batch, height, width, channels)`;
epsilon is a number or a scalar tensor.
"""

import numpy as np
import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.attacks.registry import parse_norm

PIXEL_AXES = (1, 2, 3)


def per_image(values):
    """Reshapes `(batch,)` to `(batch, 1, 1, 1)`, which broadcasts to images."""
    return tf.reshape(values, [-1, 1, 1, 1])


class Linf:
    """The L-infinity norm: each pixel changes by at most epsilon."""

    name = "linf"

    @staticmethod
    def size(delta):
        """`max |delta|` per image, of shape `(batch, 1, 1, 1)`."""
        return tf.reduce_max(tf.abs(delta), PIXEL_AXES, keepdims=True)

    @staticmethod
    def direction(gradient):
        """The steepest step of size 1: the sign."""
        return tf.sign(gradient)

    @staticmethod
    def speed(gradient):
        """How fast each pixel moves along the shortest way to a hyperplane."""
        return tf.ones_like(gradient)

    @staticmethod
    def project(delta, images, epsilon):
        """The point of C nearest to `delta`."""
        return perturbation.project(delta, images, epsilon)

    @staticmethod
    def uniform(generator, shape):
        """Draws a point uniformly from the ball of radius 1."""
        return generator.random(shape, np.float32) * 2 - 1

    @classmethod
    def on_sphere(cls, generator, shape):
        """Draws a point of size 1."""
        point = _not_zero(cls.uniform(generator, shape))
        return point / np.abs(point).max()


class L2:
    """The L2 norm: the squared changes sum to at most epsilon**2."""

    name = "l2"

    @staticmethod
    def size(delta):
        """`||delta||_2` per image, of shape `(batch, 1, 1, 1)`."""
        return perturbation.l2_size(delta)

    @staticmethod
    def direction(gradient):
        """The steepest step of size 1; zero for a gradient of zero."""
        return perturbation.direction(gradient, "l2")

    @staticmethod
    def speed(gradient):
        """How fast each pixel moves along the shortest way to a hyperplane."""
        return tf.abs(gradient)

    @staticmethod
    def project(delta, images, epsilon):
        """Scales `delta` to the ball, then clips it to the pixel range."""
        return perturbation.project(delta, images, epsilon, norm="l2")

    @classmethod
    def uniform(cls, generator, shape):
        """Draws a point uniformly from the ball of radius 1."""
        radius = generator.random() ** (1 / np.prod(shape))
        return cls.on_sphere(generator, shape) * np.float32(radius)

    @staticmethod
    def on_sphere(generator, shape):
        """Draws a point of size 1."""
        point = _not_zero(generator.standard_normal(shape, np.float32))
        return point / np.linalg.norm(point)


def _not_zero(point):
    """The point, or ones if all draws are 0 and it has no direction."""
    return point if point.any() else np.ones_like(point)


NORMS = {"linf": Linf, "l2": L2}


def get(name):
    """Returns a norm by name; an error lists the known names."""
    return NORMS[parse_norm(name)]
