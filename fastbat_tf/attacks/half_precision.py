"""Gradients to the images, of networks that compute in float16.

float16 holds numbers from 6e-8 to 65504. The gradient of a loss is often
smaller, and would be zero in the network. As the backward pass is linear, it
may carry any multiple of the gradient:

```
g_i = (1 / s_i) J_i^T (s_i d_i),    d_i = d loss_i / d logits_i,
```

where d and the division are in float32. In inference, no example of a batch
changes the gradient of another, so each example has its own factor s_i. It is a
power of two, which changes no digit of what float16 can hold. bfloat16 has the
range of float32, and needs none of this.
"""

from typing import Any

import tensorflow as tf

# The largest entry of `s_i d_i` in the first attempt. float16 has room for 64
# times as much.
CEILING = 2.0**10
# An attempt is repeated with a smaller factor if it overflows. It is repeated
# with a larger one if no pixel has a gradient of at least FAINT, as others of
# the image could have vanished: so that the largest is 1, or by RAISE if all
# have vanished.
BACKOFF = 2.0**-16
FAINT = 2.0**-6
RAISE = 2.0**24
TRIES = 6
# The factor and its inverse must be numbers of float32.
LARGEST_SCALE = 2.0**100
_EXPONENT = 0x7F800000  # The bits of a float32 that hold its exponent.
_PIXEL_AXES = (1, 2, 3)


def computes_in_float16(tensor: Any) -> bool:
    """Whether anything in the graph of a tensor is computed in float16.

    Args:
        tensor: Tensor. That of an eager call does not tell.

    Returns:
        A boolean; True for a tensor of an eager call.
    """
    if not tf.is_symbolic_tensor(tensor):
        return True
    definition = tensor.graph.as_graph_def()
    functions = [f.node_def for f in definition.library.function]
    return any(
        value.type == tf.float16.as_datatype_enum
        for nodes in (definition.node, *functions)
        for node in nodes
        for value in node.attr.values()
    )


def scaled_gradient(
    tape: tf.GradientTape, logits: Any, upstream: Any, images: Any
) -> Any:
    """Computes the gradient of each example's loss to its image.

    The backward pass is repeated, with other factors, for the examples in
    which it overflows or vanishes. It runs in a loop of TensorFlow, so that
    the graph holds it once.

    Args:
        tape: Persistent `tf.GradientTape` that has recorded the network.
        logits: float32 tensor `(batch, classes)`.
        upstream: float32 tensor like `logits`, the gradient of each loss to
            its logits.
        images: float32 tensor `(batch, height, width, channels)`.

    Returns:
        float32 tensor like `images`. It is not finite everywhere in an example
        whose gradient no factor makes finite.
    """
    largest = tf.reduce_max(tf.abs(upstream), -1)
    first = CEILING / _power_of_two(largest)

    def attempt(number, scale, is_open, gradient, size):
        factor = tf.clip_by_value(scale, 1 / LARGEST_SCALE, LARGEST_SCALE)
        found = tape.gradient(
            logits,
            images,
            output_gradients=upstream * factor[:, tf.newaxis],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        now = tf.reduce_max(tf.abs(found), _PIXEL_AXES)
        is_finite = tf.math.is_finite(now)
        # Without any finite attempt, the caller picks what is a number.
        takes = is_open & (is_finite | (size < 0))
        rows = tf.reshape(factor, [-1, 1, 1, 1])
        gradient = tf.where(
            tf.reshape(takes, [-1, 1, 1, 1]), found / rows, gradient
        )
        # An attempt that overflows after a good one is the last.
        overflows = ~is_finite & (size <= 0)
        is_faint = is_finite & (now < FAINT)
        grows = tf.where(now > 0, 1 / _power_of_two(now), RAISE)
        scale *= tf.where(overflows, BACKOFF, tf.where(is_faint, grows, 1.0))
        size = tf.where(is_open & is_finite, now, size)
        is_open &= overflows | is_faint
        return number + 1, scale, is_open, gradient, size

    _, _, _, gradient, _ = tf.while_loop(
        lambda number, scale, is_open, *_: (
            (number < TRIES) & tf.reduce_any(is_open)
        ),
        attempt,
        (
            tf.constant(0),
            first,
            tf.not_equal(largest, 0.0),
            tf.zeros_like(images),
            -tf.ones_like(first),
        ),
    )
    return gradient


def _power_of_two(values):
    """The largest power of two that is not above; 1 for 0, inf and NaN."""
    bits = tf.bitwise.bitwise_and(tf.bitcast(values, tf.int32), _EXPONENT)
    power = tf.bitcast(bits, tf.float32)  # Exactly; a logarithm is not.
    usable = (power > 0.0) & tf.math.is_finite(power)
    return tf.where(usable, power, tf.ones_like(power))
