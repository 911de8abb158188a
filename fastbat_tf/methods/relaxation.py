"""Relaxed labels: what some methods train with beside label smoothing."""

import tensorflow as tf


def relaxed(losses, logits, factor):
    """Losses of labels that keep a share `factor` of the class.

    ```
    T_y = factor,   T_j = (1 - factor) / (C - 1) for the other classes
    ```

    For a cross-entropy, whose labels may be smoothed too, this is the loss of
    T, smoothed in their place: T is a (one-hot) + (1 - a) / C with `a = (factor
    C - 1) / (C - 1)`, and cross-entropy is linear in the labels.

    Args:
        losses: Function from logits to losses of the labels, `(batch,)`.
        logits: `(batch, classes)`.
        factor: Float in (0, 1]; 1 relaxes nothing.
    """
    if factor == 1:
        return losses(logits)
    classes = logits.shape[-1]
    kept = (factor * classes - 1) / (classes - 1)
    uniform = -tf.reduce_mean(tf.nn.log_softmax(logits), -1)
    return kept * losses(logits) + (1 - kept) * uniform
