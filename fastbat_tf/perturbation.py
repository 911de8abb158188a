"""Geometry of L-infinity perturbations: pure functions on tensors.

The feasible set of every method and attack in this library is

    C(x) = {delta : |delta| <= epsilon, 0 <= x + delta <= 1},

where the images `x` are floats in [0, 1]. Images and perturbations have shape
`(batch, height, width, channels)`; `epsilon` is a fraction of the pixel range,
such as `8 / 255`.
"""

import tensorflow as tf

# A coordinate this close to a bound counts as being on it.
BOUND_TOLERANCE = 1e-7
# A gradient whose largest entry is below this counts as zero: the derivative
# of its cosine, one over its norm, would overflow float32.
SMALLEST = 1e-19


def clip_to_pixels(perturbation, images):
    """Clips `images + perturbation` to [0, 1]; returns the perturbation."""
    return tf.clip_by_value(images + perturbation, 0.0, 1.0) - images


def project(perturbation, images, epsilon):
    """Projects `perturbation` onto C: onto the ball, then onto the pixels."""
    inside_ball = tf.clip_by_value(perturbation, -epsilon, epsilon)
    inside = clip_to_pixels(inside_ball, images)
    # Rounding may move the difference out of the ball.
    return tf.clip_by_value(inside, -epsilon, epsilon)


def signed_step(perturbation, gradient, step_size, images, epsilon):
    """Computes `P_C(perturbation + step_size * sign(gradient))`."""
    ascent = step_size * tf.sign(gradient)
    return project(perturbation + ascent, images, epsilon)


def interior_mask(perturbation, images, epsilon):
    """Marks the coordinates of `perturbation` at which no bound of C is active.

    This is the diagonal of `H_C` in the implicit gradient of Fast-BAT (Zhang
    et al., ICML 2022): 1 strictly inside the ball and the pixel range, 0 on a
    bound.

    Returns:
        A tensor of zeros and ones, with the shape and dtype of `perturbation`.
    """
    lower = tf.maximum(-images, -epsilon) + BOUND_TOLERANCE
    upper = tf.minimum(1.0 - images, epsilon) - BOUND_TOLERANCE
    inside = tf.logical_and(lower < perturbation, perturbation < upper)
    return tf.cast(inside, perturbation.dtype)


def cosines(first, second):
    """Computes the cosine between two gradients of each example.

    Args:
        first: Tensor `(batch, ...)`.
        second: Tensor like `first`.

    Returns:
        The cosines `(batch,)`, 0 if a gradient is zero, and a boolean tensor
        `(batch,)`, false if a gradient is zero.
    """
    axes = list(range(1, first.shape.rank))
    pair = [first, second]
    # A cosine does not depend on scale. Divided by its largest entry, which is
    # taken as a constant, even a tiny gradient has squares that fit float32.
    largest = [
        tf.stop_gradient(tf.reduce_max(tf.abs(each), axes, keepdims=True))
        for each in pair
    ]
    held = tf.logical_and(largest[0] > SMALLEST, largest[1] > SMALLEST)
    pair = [
        each / tf.where(held, size, tf.ones_like(size))
        for each, size in zip(pair, largest, strict=True)
    ]
    valid = tf.reshape(held, [-1])
    dot = tf.reduce_sum(pair[0] * pair[1], axes)
    squares = [tf.reduce_sum(each**2, axes) for each in pair]
    # The inner `where` keeps the derivatives of the roots finite at 0.
    lengths = [tf.sqrt(tf.where(valid, s, tf.ones_like(s))) for s in squares]
    cosine = dot / lengths[0] / lengths[1]
    return tf.where(valid, cosine, tf.zeros_like(dot)), valid
