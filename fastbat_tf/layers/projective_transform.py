"""The transform of RandomRotation and the like, with its right gradient.

TensorFlow's gradient of `ImageProjectiveTransformV3` applies the inverse
transform to the gradient. That is not the derivative: it is off by the scale of
a zoom, differs from the transposed interpolation of a rotation, and misses what
a fill mode adds at the borders. An attack would climb in a wrong direction.

With the four pixels `j` around the point that an output pixel `i` is sampled
from, and their weights `w_ij`, which do not depend on the images,

```
y_i = sum_j w_ij x_j,    d <u, y> / d x_j = sum_i w_ij u_i.
```
"""

import tensorflow as tf

_original = tf.raw_ops.ImageProjectiveTransformV3


def projective_transform(
    *,
    images,
    transforms,
    output_shape,
    fill_value,
    interpolation,
    fill_mode="CONSTANT",
    name=None,
):
    """`tf.raw_ops.ImageProjectiveTransformV3`, whose arguments these are.

    It can be differentiated with respect to the images any number of times. Its
    values are those of the operation.

    Returns:
        A tensor `(batch, *output_shape, channels)`.
    """

    @tf.custom_gradient
    def transform(images):
        outputs = _original(
            images=images,
            transforms=transforms,
            output_shape=output_shape,
            fill_value=fill_value,
            interpolation=interpolation,
            fill_mode=fill_mode,
            name=name,
        )

        def gradient(upstream):
            shape = tf.shape(images)
            total = tf.zeros_like(images)
            for indices, weights in _sources(
                shape, transforms, output_shape, interpolation, fill_mode
            ):
                weights = tf.cast(weights, upstream.dtype)
                total += tf.scatter_nd(indices, weights * upstream, shape)
            return total

        return outputs, gradient

    return transform(tf.convert_to_tensor(images))


def _sources(shape, transforms, output_shape, interpolation, fill_mode):
    """Finds the pixels that each output pixel is interpolated from.

    Returns:
        List of pairs: integer indices `(batch, height, width, 3)` into the
        images, and weights `(batch, height, width, 1)`.
    """
    batch = shape[0]
    rows, columns = tf.meshgrid(
        tf.range(output_shape[0], dtype=tf.float32),
        tf.range(output_shape[1], dtype=tf.float32),
        indexing="ij",
    )
    a0, a1, a2, b0, b1, b2, c0, c1 = (
        part[:, tf.newaxis] for part in tf.split(transforms, 8, axis=-1)
    )
    scale = c0 * columns + c1 * rows + 1.0
    is_seen = tf.not_equal(scale, 0.0)
    scale = tf.where(is_seen, scale, tf.ones_like(scale))
    x = (a0 * columns + a1 * rows + a2) / scale
    y = (b0 * columns + b1 * rows + b2) / scale
    x = _fold(x, shape[2], fill_mode)
    y = _fold(y, shape[1], fill_mode)
    if interpolation == "NEAREST":
        corners = [(_round(y), _round(x), tf.ones_like(x))]
    else:
        top, left = tf.floor(y), tf.floor(x)
        down, right = y - top, x - left
        corners = [
            (top, left, (1.0 - down) * (1.0 - right)),
            (top, left + 1.0, (1.0 - down) * right),
            (top + 1.0, left, down * (1.0 - right)),
            (top + 1.0, left + 1.0, down * right),
        ]
    numbers = tf.ones_like(x, tf.int32) * tf.range(batch)[:, None, None]
    found = []
    for row, column, weight in corners:
        row, row_is_inside = _clip(row, shape[1])
        column, column_is_inside = _clip(column, shape[2])
        is_inside = is_seen & row_is_inside & column_is_inside
        indices = tf.stack([numbers, row, column], -1)
        weight = tf.where(is_inside, weight, tf.zeros_like(weight))
        found.append((indices, weight[..., tf.newaxis]))
    return found


def _round(x):
    # Halves away from zero, as in C++.
    return tf.sign(x) * tf.floor(tf.abs(x) + 0.5)


def _clip(x, size):
    """Integer coordinates in [0, size), and where they have been before."""
    last = tf.cast(size - 1, x.dtype)
    is_inside = (x >= 0.0) & (x <= last)
    return tf.cast(tf.clip_by_value(x, 0.0, last), tf.int32), is_inside


def _fold(x, size, fill_mode):
    """Maps coordinates outside of the image into it, as the kernel does."""
    if fill_mode == "CONSTANT":
        return x
    size = tf.cast(size, x.dtype)
    last = size - 1.0
    if fill_mode == "REFLECT":
        period = 2.0 * size
        x = x - period * tf.floor(x / period)
        x = tf.where(x >= size, period - x - 1.0, x)
    elif fill_mode == "WRAP":
        span = tf.maximum(last, 1.0)
        below = x + size * (tf.floor(-x / span) + 1.0)
        above = x - size * tf.floor(x / span)
        x = tf.where(x < 0.0, below, tf.where(x > last, above, x))
    return tf.clip_by_value(x, 0.0, last)
