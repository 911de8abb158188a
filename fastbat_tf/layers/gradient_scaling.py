"""Gradients of networks that compute in float16.

float16 holds numbers from 6e-8 to 65504. The gradient of a loss to the pixels
is often smaller, and then becomes zero without a word. As the backward pass is
linear, it may carry any multiple of the gradient:

```
g = (1 / s) J^T (s d),    d = d loss / d logits,    J = d logits / d pixels
```

where d and the division are in float32. s is a power of two, so it changes no
digit of a number that float16 can hold, and is chosen for each batch: the
largest entry of `s d` is near `CEILING`. BatchNormalization couples the
examples of a batch, which therefore share s. docs/precision.md derives what
second derivatives need.

bfloat16 has the range of float32, and needs none of this.
"""

from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import record

from fastbat_tf.layers import structure

# The largest entry of the scaled gradient of the logits. float16 has room for
# 64 times as much, and for 6e-11 of it.
CEILING = 2.0**10
# The largest entry of the vector that a second derivative is taken along. Both
# the pixels' and the weights' products hold CEILING * VECTOR_CEILING.
VECTOR_CEILING = 2.0**-4
# If the backward pass overflows, it is repeated with so much less.
BACKOFF = 2.0**-6
TRIES = 6
# The product of two scales is a float32, too.
LARGEST_SCALE = 2.0**60
_EXPONENT = 0x7F800000  # The bits of a float32 that hold its exponent.


def is_needed(layers: Iterable[Any]) -> bool:
    """Whether any of the layers computes in float16.

    Args:
        layers: Keras layers, with those inside of them.
    """
    return bool(structure.computing_in(layers, "float16"))


def scale_to(ceiling: Any, tensor: Any) -> Any:
    """Finds the power of two that brings a tensor near a size.

    Args:
        ceiling: Float or scalar tensor, a power of two.
        tensor: Float tensor.

    Returns:
        A float32 scalar s: the largest entry of `|s * tensor|` is in
        `[ceiling, 2 * ceiling)`. 1 if the tensor is zero or not finite. No
        gradient flows through it.

    Example:

    >>> float(scale_to(8.0, tf.constant([1e-9, -3e-9])))
    4294967296.0
    """
    largest = tf.cast(tf.reduce_max(tf.abs(tensor)), tf.float32)
    bits = tf.bitwise.bitwise_and(tf.bitcast(largest, tf.int32), _EXPONENT)
    power = tf.bitcast(bits, tf.float32)  # Exactly; a logarithm is not.
    usable = tf.logical_and(power > 0.0, tf.math.is_finite(power))
    power = tf.where(usable, power, tf.ones_like(power))
    scale = tf.cast(ceiling, tf.float32) / power
    scale = tf.clip_by_value(scale, 1.0 / LARGEST_SCALE, LARGEST_SCALE)
    return tf.stop_gradient(tf.where(usable, scale, tf.ones_like(scale)))


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
    tape: tf.GradientTape, logits: Any, upstream: Any, source: Any
) -> Any:
    """Computes a gradient through a network in float16.

    The backward pass is repeated with a smaller scale if it overflows, up to
    `TRIES` times in all. It runs in a loop of TensorFlow, so that the graph
    holds it once.

    Args:
        tape: Persistent `tf.GradientTape` that has recorded the forward pass
            from `source` to `logits`.
        logits: Float32 tensor `(batch, classes)`.
        upstream: Tensor like `logits`, the gradient of the loss to them.
        source: Float32 tensor, such as the perturbation.

    Returns:
        A tensor like `source`, or None if the logits do not depend on it. It
        is a constant: no second derivative flows through it. It is not finite
        if no scale makes it finite, as with weights that are NaN.

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

    def attempt(ceiling, finite, gradient):
        del finite
        found = scaled_gradient(tape, logits, upstream, source, ceiling)[0]
        if found is None:
            disconnected.append(True)
            return ceiling, tf.constant(True), gradient
        return BACKOFF * ceiling, all_finite([found]), found

    *_, gradient = tf.while_loop(
        lambda ceiling, finite, gradient: tf.logical_not(finite),
        attempt,
        (tf.constant(CEILING), tf.constant(False), tf.zeros_like(source)),
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
    """

    def __init__(self, ceiling: Any, differentiates_twice: bool) -> None:
        self._ceiling = ceiling
        self._differentiates_twice = differentiates_twice
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
        """
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
