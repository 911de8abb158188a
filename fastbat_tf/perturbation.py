"""Geometry of perturbations in L-infinity and L2: pure functions on tensors.

The feasible set of every method and attack in this library is

    C(x) = {delta : ||delta|| <= epsilon, 0 <= x + delta <= 1},

where the images `x` are floats in [0, 1]. Images and perturbations have shape
`(batch, height, width, channels)`; `epsilon` is a fraction of the pixel range,
such as `8 / 255`. The norm is that of an image: its largest change of a pixel,
`"linf"`, or the root of the sum of the squared changes, `"l2"`.
"""

import numpy as np
import tensorflow as tf

from fastbat_tf.errors import look_up

# A coordinate this close to a bound counts as being on it.
BOUND_TOLERANCE = 1e-7
# A gradient whose largest entry is below this counts as zero: the derivative
# of its cosine, one over its norm, would overflow float32.
SMALLEST = 1e-19
IMAGE_AXES = (1, 2, 3)


def is_l2(norm):
    """Whether a norm is L2.

    Args:
        norm: `"linf"` or `"l2"`. Other spellings are those of options, which
            `fastbat_tf.attacks.parse_norm` turns into these.

    Raises:
        InputError: If it is neither; it would be taken for the other one.

    Example:

    >>> is_l2("linf")
    False
    """
    return look_up({"linf": False, "l2": True}, "norm", norm=norm)


def clip_to_pixels(perturbation, images):
    """Clips `images + perturbation` to [0, 1]; returns the perturbation."""
    return tf.clip_by_value(images + perturbation, 0.0, 1.0) - images


def project(perturbation, images, epsilon, *, norm="linf"):
    """Projects `perturbation` onto C: onto the ball, then onto the pixels.

    In L-infinity, this is the point of C nearest to `perturbation`. In L2, it
    is a point of C, but not always the nearest one, which has no closed form:

    ```
    P_C(u) = clip(min(1, epsilon / ||u||) u, -x, 1 - x)
    ```

    Clipping moves each coordinate toward 0, so the result stays in the ball,
    up to a relative error of 1e-6 in float32.

    Args:
        perturbation: Tensor like the images.
        images: Float tensor, pixels in [0, 1].
        epsilon: Float or scalar tensor, the radius.
        norm: `"linf"` or `"l2"`. Defaults to `"linf"`.
    """
    if is_l2(norm):
        scaled = perturbation * _shrinkage(perturbation, epsilon)
        # Not `clip_to_pixels`, whose rounding may enlarge the perturbation.
        return tf.clip_by_value(scaled, -images, 1.0 - images)
    inside_ball = tf.clip_by_value(perturbation, -epsilon, epsilon)
    inside = clip_to_pixels(inside_ball, images)
    # Rounding may move the difference out of the ball.
    return tf.clip_by_value(inside, -epsilon, epsilon)


def step(perturbation, gradient, step_size, images, epsilon, *, norm="linf"):
    """Computes `P_C(perturbation + step_size * direction(gradient))`.

    Args:
        perturbation: Tensor like the images.
        gradient: Tensor like the images.
        step_size: Float or scalar tensor, the size of the step in the norm.
        images: Float tensor, pixels in [0, 1].
        epsilon: Float or scalar tensor, the radius.
        norm: `"linf"` or `"l2"`. Defaults to `"linf"`.
    """
    ascent = step_size * direction(gradient, norm)
    return project(perturbation + ascent, images, epsilon, norm=norm)


def direction(gradient, norm="linf"):
    """Computes the steepest direction of norm 1 for each image.

    This is the sign in L-infinity, and `g / ||g||` in L2, however small the
    gradient is. It is zero where the gradient of a whole image is zero.

    Args:
        gradient: Tensor `(batch, height, width, channels)`.
        norm: `"linf"` or `"l2"`. Defaults to `"linf"`.
    """
    if not is_l2(norm):
        return tf.sign(gradient)
    scaled, _ = _scaled(gradient)
    length = _root_of_squares(scaled)
    unit = scaled / tf.where(length > 0, length, tf.ones_like(length))
    return tf.cast(unit, gradient.dtype)


def l2_size(perturbation):
    """Computes `||delta||_2` per image, of shape `(batch, 1, 1, 1)`."""
    scaled, largest = _scaled(perturbation)
    return tf.cast(largest * _root_of_squares(scaled), perturbation.dtype)


def _scaled(tensor):
    """Divides each image by its largest entry, whose square may underflow.

    Returns:
        The quotient and the largest entry, which is 1 if that entry is zero.
        Both are in float32 if the tensor has half precision, which cannot add
        the squares of an image.
    """
    tensor = tf.convert_to_tensor(tensor)
    if tensor.dtype.size < tf.float32.size:
        tensor = tf.cast(tensor, tf.float32)
    largest = tf.reduce_max(tf.abs(tensor), IMAGE_AXES, keepdims=True)
    # Below this, processors may take a number for zero.
    tiny = np.finfo(tensor.dtype.as_numpy_dtype).tiny
    largest = tf.where(largest < tiny, tf.ones_like(largest), largest)
    return tensor / largest, largest


def _root_of_squares(tensor):
    return tf.sqrt(tf.reduce_sum(tensor**2, IMAGE_AXES, keepdims=True))


def _shrinkage(perturbation, epsilon):
    """The factor `min(1, epsilon / ||u||)` of the projection onto the ball."""
    size = l2_size(perturbation)
    if tf.is_tensor(epsilon):  # `cast` would round a number to float32.
        epsilon = tf.cast(epsilon, size.dtype)
    outside = size > epsilon
    factor = epsilon / tf.where(outside, size, tf.ones_like(size))
    return tf.where(outside, factor, tf.ones_like(size))


def uniform_in_l2_ball(normal, share, radius):
    """Turns normal and uniform numbers into a uniform point of an L2 ball.

    Args:
        normal: Tensor `(batch, height, width, channels)` of normal numbers.
        share: Tensor `(batch, 1, 1, 1)` of uniform numbers in [0, 1].
        radius: Float or scalar tensor.
    """
    count = tf.cast(tf.reduce_prod(tf.shape(normal)[1:]), normal.dtype)
    return radius * share ** (1 / count) * direction(normal, "l2")


def pull_back(vector, moved, images, epsilon, *, norm="linf"):
    """Multiplies a vector with the transposed derivative of the projection.

    With `delta = P_C(moved)`, this is `J^T vector`, where `J` is the derivative
    of `project` at `moved`. In L-infinity, `J` is the diagonal `interior_mask`.
    In L2, `P_C` scales to the ball, then clips to the pixels, so

    ```
    J^T = J_ball D,    J_ball = epsilon / ||u|| (I - u u^T / ||u||^2),
    ```

    for each image with `||u|| > epsilon`, and `J_ball = I` for the others. The
    diagonal `D` is 0 where `delta` is on a bound of the pixel range, else 1.

    Args:
        vector: Tensor like the images.
        moved: Tensor like the images, the point `u` that is projected.
        images: Float tensor, pixels in [0, 1].
        epsilon: Float or scalar tensor, the radius.
        norm: `"linf"` or `"l2"`. Defaults to `"linf"`.
    """
    delta = project(moved, images, epsilon, norm=norm)
    held = interior_mask(delta, images, epsilon, norm=norm) * vector
    if not is_l2(norm):
        return held
    shrinkage = _shrinkage(moved, epsilon)
    outward = direction(moved, "l2")
    along = tf.reduce_sum(held * outward, IMAGE_AXES, keepdims=True)
    return tf.where(shrinkage < 1, shrinkage * (held - along * outward), held)


def interior_mask(perturbation, images, epsilon, *, norm="linf"):
    """Marks the coordinates of `perturbation` at which no bound of C is active.

    This is the diagonal of `H_C` in the implicit gradient of Fast-BAT (Zhang
    et al., ICML 2022): 1 strictly inside the ball and the pixel range, 0 on a
    bound. An L2 ball bounds no coordinate, so with `"l2"` only the bounds of
    the pixel range count.

    Returns:
        A tensor of zeros and ones, with the shape and dtype of `perturbation`.
    """
    lower, upper = -images, 1.0 - images
    if not is_l2(norm):
        lower = tf.maximum(lower, -epsilon)
        upper = tf.minimum(upper, epsilon)
    lower, upper = lower + BOUND_TOLERANCE, upper - BOUND_TOLERANCE
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
