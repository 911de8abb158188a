"""Gradients of networks that compute in float16.

float16 holds numbers from 6e-8 to 65504. The gradient of a loss to the pixels
is often smaller, and then becomes zero without a word. As the backward pass is
linear, it may carry any multiple of the gradient:

```
g = (1 / s) J^T (s d),    d = d loss / d logits,    J = d logits / d pixels
```

where d and the division are in float32. s is a power of two, so it changes no
digit of a number that float16 can hold. The largest entry of `s d` is near
`CEILING`. In training, BatchNormalization couples the examples of a batch,
which therefore share s. In an attack, each example has its own.
docs/precision.md derives what second derivatives need.

bfloat16 has the range of float32, and needs none of this.
"""

from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import record

from fastbat_tf.errors import InputError
from fastbat_tf.layers import structure

# The largest entry of the scaled gradient of the logits, in the first attempt.
# float16 has room for 32 times as much, and for 3e-11 of it.
CEILING = 2.0**10
# The largest entry of the vector that a second derivative is taken along. Both
# the pixels' and the weights' products hold CEILING * VECTOR_CEILING.
VECTOR_CEILING = 2.0**-4
# An attempt is repeated with a smaller scale if it overflows. It is repeated
# with a larger one if no pixel has a gradient of at least FAINT, as smaller
# ones could have vanished: so that the largest is 1, or by RAISE if all have
# vanished.
BACKOFF = 2.0**-6
FAINT = 2.0**-6
RAISE = 2.0**24
TRIES = 6
# A scale and its inverse are numbers of float32; and of two scales that a
# second derivative has, their product is.
LARGEST_SCALE = 2.0**100
LARGEST_OF_TWO = 2.0**60
_EXPONENT = 0x7F800000  # The bits of a float32 that hold its exponent.


def is_needed(layers: Iterable[Any]) -> bool:
    """Whether any of the layers computes in float16.

    Args:
        layers: Keras layers, with those inside of them.
    """
    return bool(structure.computing_in(layers, "float16"))


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


def scale_to(ceiling: Any, tensor: Any) -> Any:
    """Finds the power of two that brings a tensor near a size.

    Args:
        ceiling: Float or scalar tensor, a power of two.
        tensor: Float tensor.

    Returns:
        A float32 scalar s: the largest entry of `|s * tensor|` is in
        `[ceiling, 2 * ceiling)`; s is `ceiling` if the tensor is zero or not
        finite. No gradient flows through it.

    Example:

    >>> float(scale_to(8.0, tf.constant([1e-9, -3e-9])))
    4294967296.0
    """
    largest = tf.reduce_max(tf.abs(tensor))
    return tf.stop_gradient(
        _clipped(ceiling / _power_of_two(largest), LARGEST_OF_TWO)
    )


def _power_of_two(values):
    """The largest power of two that is not above; 1 for 0, inf and NaN."""
    values = tf.cast(values, tf.float32)
    bits = tf.bitwise.bitwise_and(tf.bitcast(values, tf.int32), _EXPONENT)
    power = tf.bitcast(bits, tf.float32)  # Exactly; a logarithm is not.
    usable = (power > 0.0) & tf.math.is_finite(power)
    return tf.where(usable, power, tf.ones_like(power))


def _clipped(scale, largest):
    return tf.clip_by_value(scale, 1.0 / largest, largest)


def all_finite(tensors: Iterable[Any]) -> Any:
    """Returns a boolean scalar: whether all entries are finite.

    Args:
        tensors: Iterable of float tensors. None is skipped.
    """
    found = [
        tf.reduce_all(tf.math.is_finite(tensor))
        for tensor in tensors
        if tensor is not None
    ]
    return tf.reduce_all(tf.stack(found)) if found else tf.constant(True)


def retried_gradient(
    tape: tf.GradientTape,
    logits: Any,
    upstream: Any,
    source: Any,
    *,
    by_example: bool = False,
) -> Any:
    """Computes a gradient through a network in float16.

    The backward pass is repeated with another scale if it overflows or
    vanishes, up to `TRIES` times in all. It runs in a loop of TensorFlow, so
    that the graph holds it once.

    Args:
        tape: Persistent `tf.GradientTape` that has recorded the forward pass
            from `source` to `logits`.
        logits: Float tensor `(batch, classes)`.
        upstream: Tensor like `logits`, the gradient of the loss to them.
        source: Float tensor `(batch, ...)`, such as the perturbation.
        by_example: Boolean, whether each example has a scale of its own, so
            that small gradients remain beside large ones. No example may
            change the logits of another. Defaults to False.

    Returns:
        A tensor like `source`, or None if the logits do not depend on it. It
        is a constant: no second derivative flows through it. It is not finite
        where no scale makes it finite, as with weights that are NaN.

    Example:

    ```python
    source = tf.constant(images)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(source)
        logits = tf.cast(model(source), tf.float32)
    with tf.GradientTape() as loss_tape:
        loss_tape.watch(logits)
        losses = keras.losses.sparse_categorical_crossentropy(
            labels, logits, from_logits=True
        )
    upstream = loss_tape.gradient(losses, logits)
    gradient = retried_gradient(tape, logits, upstream, source)
    ```
    """
    disconnected = []

    def rows(tensor):
        """One row for each scale."""
        count = tf.shape(tensor)[0] if by_example else 1
        return tf.reshape(tensor, [count, -1])

    def largest(tensor):
        found = tf.reduce_max(tf.abs(rows(tensor)), -1)
        return tf.cast(found, tf.float32)

    def times(tensor, scale):
        scale = tf.cast(scale[:, tf.newaxis], tensor.dtype)
        return tf.reshape(rows(tensor) * scale, tf.shape(tensor))

    def attempt(scale, is_open, size, gradient):
        found = tape.gradient(
            logits, source, output_gradients=times(upstream, scale)
        )
        if found is None:
            disconnected.append(True)
            return scale, tf.zeros_like(is_open), size, gradient
        now = largest(found)
        finite = tf.math.is_finite(now)
        # Without any finite attempt, the gradient is not finite.
        takes = is_open & (finite | (size < 0.0))
        kept = tf.where(
            takes[:, tf.newaxis],
            rows(times(found, 1.0 / scale)),
            rows(gradient),
        )
        # An attempt that overflows after one that did not is the last.
        overflows = ~finite & (size <= 0.0)
        faint = finite & (now < FAINT)
        growth = tf.where(now > 0.0, 1.0 / _power_of_two(now), RAISE)
        factor = tf.where(overflows, BACKOFF, tf.where(faint, growth, 1.0))
        return (
            _clipped(scale * factor, LARGEST_SCALE),
            is_open & (overflows | faint),
            tf.where(is_open & finite, now, size),
            tf.reshape(kept, tf.shape(gradient)),
        )

    size = largest(upstream)
    *_, gradient = tf.while_loop(
        lambda scale, is_open, *_: tf.reduce_any(is_open),
        attempt,
        (
            _clipped(CEILING / _power_of_two(size), LARGEST_SCALE),
            tf.not_equal(size, 0.0),
            -tf.ones_like(size),
            tf.zeros_like(source),
        ),
        maximum_iterations=TRIES,
    )
    return None if disconnected else tf.stop_gradient(gradient)


def scaled_gradient(
    tape: tf.GradientTape,
    logits: Any,
    upstream: Any,
    source: Any,
    ceiling: Any = CEILING,
) -> tuple[Any, Any]:
    """Computes a gradient by a scaled backward pass, in one attempt.

    Args:
        tape: `tf.GradientTape` that has recorded the forward pass.
        logits: Float32 tensor `(batch, classes)`.
        upstream: Tensor like `logits`, the gradient of the loss to them.
        source: Float32 tensor.
        ceiling: Float or scalar tensor, a power of two. Defaults to `CEILING`.

    Returns:
        The gradient, a tensor like `source` or None, and the scale that the
        backward pass had, a float32 scalar.
    """
    scale = scale_to(ceiling, upstream)
    gradient = tape.gradient(
        logits,
        source,
        output_gradients=upstream * tf.cast(scale, upstream.dtype),
    )
    if gradient is None:
        return None, scale
    return gradient / tf.cast(scale, gradient.dtype), scale


def spoil_unless(finite: Any, gradient: Any) -> Any:
    """Replaces a gradient that overflowed by zeros, and its derivatives by NaN.

    The step can then go on with images that are numbers, while the gradient of
    the weights, a second derivative, is NaN: the optimizer skips the step.

    Args:
        finite: Boolean scalar.
        gradient: Float tensor, the first derivative.
    """

    @tf.custom_gradient
    def guarded(gradient):
        def spoil(upstream):
            nan = tf.constant(float("nan"), upstream.dtype)
            return upstream * tf.where(finite, tf.ones_like(nan), nan)

        return tf.where(finite, gradient, tf.zeros_like(gradient)), spoil

    return guarded(gradient)


class ScaledPass:
    """The derivatives that a training step takes of a network in float16.

    A first derivative is repeated if it overflows. One that is differentiated
    again has one attempt, as its pass is part of a larger one. If it overflows,
    so does the gradient of the weights, and the optimizer skips the step; the
    next one begins with a lower ceiling.

    Args:
        ceiling: Scalar tensor, a power of two: the largest entry of the scaled
            gradient of the logits, in a pass that is differentiated again.
        differentiates_twice: Boolean, whether the method does that. Outside of
            the tapes, it does not.
        synchronized: Boolean, whether layers exchange statistics between
            replicas, which have scales of their own. Defaults to False.
    """

    def __init__(
        self,
        ceiling: Any,
        differentiates_twice: bool,
        synchronized: bool = False,
    ) -> None:
        self._ceiling = ceiling
        self._differentiates_twice = differentiates_twice
        self._synchronized = synchronized
        self._scales: dict[Any, Any] = {}

    def gradient_and_logits(
        self,
        source: Any,
        forward: Callable[[Any], Any],
        losses: Callable[[Any], Any],
    ) -> tuple[Any, Any]:
        """Computes the gradient of the summed losses, and the logits.

        Args:
            source: Float32 tensor, such as a perturbation.
            forward: Function from it to logits `(batch, classes)`.
            losses: Function from logits to losses.

        Returns:
            A tensor like `source`, or None if the logits do not depend on it,
            and the logits.

        Raises:
            InputError: If layers exchange statistics between replicas.
        """
        if self._synchronized:
            raise InputError(
                "The attack in float16 scales the gradients of each replica by "
                "itself, so layers cannot exchange statistics between replicas;"
                " expected synchronized=False in BatchNormalization, or "
                "mixed_bfloat16 or float32. Received: synchronized=True in "
                "float16"
            )
        with tf.GradientTape(
            persistent=True, watch_accessed_variables=False
        ) as tape:
            tape.watch(source)
            logits = forward(source)
        with tf.GradientTape(watch_accessed_variables=False) as loss_tape:
            loss_tape.watch(logits)
            values = losses(logits)
        upstream = loss_tape.gradient(values, logits)
        if upstream is None:
            return None, logits
        if not (self._differentiates_twice and record.could_possibly_record()):
            return retried_gradient(tape, logits, upstream, source), logits
        gradient, scale = scaled_gradient(
            tape, logits, upstream, source, self._ceiling
        )
        if gradient is None:
            return None, logits
        gradient = spoil_unless(all_finite([gradient]), gradient)
        self._scales[gradient.ref()] = scale
        return gradient, logits

    def product(
        self, tape: tf.GradientTape, gradient: Any, variables: Any, vector: Any
    ) -> list[Any]:
        """Computes `d <gradient, vector> / d variables`.

        Args:
            tape: `tf.GradientTape` that has recorded `gradient`.
            gradient: Tensor that `gradient_and_logits` returned.
            variables: List of tensors or variables.
            vector: Tensor like `gradient`.

        Returns:
            List of tensors or None.
        """
        # The tape divides the vector by the scale of the first pass.
        scale = self._scales.get(gradient.ref(), 1.0)
        factor = tf.cast(scale * scale_to(VECTOR_CEILING, vector), vector.dtype)
        found = tape.gradient(
            gradient, variables, output_gradients=vector * factor
        )
        return [
            None if product is None else tf.convert_to_tensor(product) / factor
            for product in found
        ]
