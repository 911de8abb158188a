"""The implicit term of Fast-BAT beside the plain gradient."""

import tensorflow as tf

from fastbat_tf.layers.derivatives import connected


def compare(plain, term):
    """Compares the implicit term with the plain gradient.

    Args:
        plain: List of tensors, the plain gradient.
        term: List of tensors like `plain`.

    Returns:
        Dict of scalars: `implicit_ratio`, the length of the term over that of
        the plain gradient, and `implicit_cosine`, the cosine between the two.
    """
    plain_norm = tf.linalg.global_norm(plain)
    term_norm = tf.linalg.global_norm(term)
    dot = tf.add_n(
        [tf.reduce_sum(a * b) for a, b in zip(plain, term, strict=True)]
    )
    return {
        "implicit_ratio": tf.math.divide_no_nan(term_norm, plain_norm),
        "implicit_cosine": tf.math.divide_no_nan(dot, term_norm * plain_norm),
    }


def clip(plain, term, largest):
    """Shortens the implicit term to a share of the plain gradient's length.

    ```
    term * min(1, largest * ||plain|| / ||term||)
    ```

    A term that is not longer is returned as it is, to the last bit.

    Args:
        plain: List of tensors, the plain gradient.
        term: List of tensors like `plain`.
        largest: Float, the largest length of the result, in lengths of `plain`.

    Returns:
        A list like `term`, and the length of `term` in lengths of `plain`.
    """
    # The squares of a long term, which a small lambda makes, may overflow.
    top = tf.reduce_max([tf.reduce_max(tf.abs(each)) for each in term])
    scale = tf.where(top > 0, top, tf.ones_like(top))
    unit = [each / scale for each in term]
    length = tf.linalg.global_norm(unit)
    plain_norm = tf.linalg.global_norm(plain)
    allowed = largest * plain_norm
    is_longer = scale * length > allowed
    factor = tf.math.divide_no_nan(allowed, length)
    clipped = [
        tf.where(is_longer, factor * each, whole)
        for each, whole in zip(unit, term, strict=True)
    ]
    return clipped, tf.math.divide_no_nan(scale * length, plain_norm)


def gradients(context, delta):
    """Returns the gradients of the summed attack loss to delta and weights."""
    with tf.GradientTape() as tape:
        tape.watch(delta)
        losses = context.attack_losses(context.logits(context.images + delta))
    to_delta, to_weights = tape.gradient(losses, (delta, context.variables))
    return connected(to_delta), filled(to_weights, context.variables)


def filled(found, variables):
    """Replaces the missing gradients of unused variables with zeros."""
    return [
        tf.zeros_like(variable) if gradient is None else gradient
        for gradient, variable in zip(found, variables, strict=True)
    ]
