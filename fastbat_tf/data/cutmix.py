"""CutMix: a box of each image shows another image of the batch."""

import numpy as np
import tensorflow as tf


def mix(images, labels, others, other_labels, *, draws, classes):
    """Puts a box of another image into each image, and mixes their labels.

    With lambda ~ U[0, 1) and a center (r, c) that is uniform over the pixels,
    the box of an image of height H and width W has the rows from
    `max(r - h, 0)` to `min(r + h, H)`, where `h = floor(H sqrt(1 - lambda)) //
    2`, and so its columns. The label is

    ```
    t = (1 - s) onehot(y) + s onehot(y_other),   s = area of the box / (H W)
    ```

    where the box was clipped to the image. Lambda and the box are drawn for
    each image.

    Reference: Yun et al., "CutMix: Regularization Strategy to Train Strong
    Classifiers with Localizable Features", ICCV 2019 (arXiv 1905.04899). For
    adversarial training: Rebuffi et al., "Data Augmentation Can Improve
    Robustness", NeurIPS 2021 (arXiv 2103.01946).

    Args:
        images: Tensor `(batch, height, width, channels)` of static shape.
        labels: Integers `(batch,)`.
        others: Tensor like `images`, the partner of each.
        other_labels: Integers `(batch,)`, their labels.
        draws: The `Draws` of the batch.
        classes: Integer, the number of classes.

    Returns:
        Images, and probabilities of the classes, float32 `(batch, classes)`.
    """
    batch, height, width, _ = images.shape
    inside, area = _boxes(draws, batch, height, width)
    # The quotients themselves, as in `resident.PIXELS`.
    shares = np.arange(height * width + 1, dtype=np.float32)
    share = tf.gather(shares / np.float32(height * width), area)[:, tf.newaxis]
    own, other = (
        tf.one_hot(ids, classes, dtype=tf.float32)
        for ids in (labels, other_labels)
    )
    images = tf.where(inside[..., tf.newaxis], others, images)
    return images, (1.0 - share) * own + share * other


def _boxes(draws, batch, height, width):
    """Draws a box for each image.

    Returns:
        Booleans `(batch, height, width)`, whether a pixel is in the box; and
        int32 `(batch,)`, the number of such pixels.
    """
    kept = draws.uniform("cutmix_lambda", (batch, 1), 0.0, 1.0, tf.float64)
    side = tf.sqrt(1.0 - kept)
    axes, area = [], 1
    for name, size in (("cutmix_row", height), ("cutmix_column", width)):
        half = tf.cast(tf.floor(side * size), tf.int32) // 2
        center = draws.uniform(name, (batch, 1), 0, size, tf.int32)
        first = tf.maximum(center - half, 0)
        last = tf.minimum(center + half, size)
        places = tf.range(size)[tf.newaxis]
        axes.append((places >= first) & (places < last))
        area *= (last - first)[:, 0]
    rows, columns = axes
    return rows[:, :, tf.newaxis] & columns[:, tf.newaxis], area
