"""Relaxed labels, which some methods add to label smoothing."""

import tensorflow as tf


def relaxed(losses, logits, factor):
    """Computes the losses of relaxed labels.

    ```
    T_y = factor,   T_j = (1 - factor) / (C - 1) for the other classes
    ```

    For cross-entropy, with or without label smoothing, this is the loss of the
    labels T, smoothed in the same way: T is a (one-hot) + (1 - a) / C, where
    `a = (factor C - 1) / (C - 1)`, and cross-entropy is linear in the labels.

    Args:
        losses: Function from logits to losses of the labels, `(batch,)`.
        logits: Tensor `(batch, classes)`.
        factor: Float in (0, 1]; 1 leaves the labels unchanged.

    Returns:
        A tensor `(batch,)`.
    """
    if factor == 1:
        return losses(logits)
    classes = logits.shape[-1]
    kept = (factor * classes - 1) / (classes - 1)
    uniform = -tf.reduce_mean(tf.nn.log_softmax(logits), -1)
    return kept * losses(logits) + (1 - kept) * uniform
