"""Gradient alignment, a score that falls with catastrophic overfitting."""

import functools
from typing import Any

import numpy as np
import tensorflow as tf

from fastbat_tf.attacks.inputs import as_pixels, check_pixel_range
from fastbat_tf.data.classes import as_classes
from fastbat_tf.draws import Draws
from fastbat_tf.perturbation import cosines


class GradientAlignment:
    """Measures the gradient alignment of a network.

    The score is the mean cosine between the input gradients at an image and at
    a random point near it,

    ```
    mean cos(d CE(x) / dx, d CE(x + eta) / dx),   eta ~ U(-epsilon, epsilon)
    ```

    It is 1 if the loss is linear within the ball, and near 0 after catastrophic
    overfitting. The noise is not clipped to the pixel range. Images whose
    gradient is zero are left out.

    Reference: Andriushchenko & Flammarion, "Understanding and Improving Fast
    Adversarial Training", NeurIPS 2020 (arXiv 2007.02617).

    Args:
        network: Any callable from float32 images `(batch, height, width,
            channels)` in [0, 1] to logits `(batch, classes)`, in inference
            mode.
        batch_size: Integer, images per call of the network. Defaults to 250.

    Raises:
        InputError: If the network is a `RobustClassifier` with another pixel
            range; pass its attribute `network`.

    Example:

    >>> score = GradientAlignment(model)(images, labels, epsilon=8 / 255)
    """

    def __init__(self, network: Any, batch_size: int = 250) -> None:
        check_pixel_range(network)
        self._batch_size = batch_size
        self._cosines = tf.function(
            functools.partial(_cosines, network),
            autograph=False,
            reduce_retracing=True,
        )

    def __call__(
        self, images: Any, labels: Any, epsilon: float, seed: int = 0
    ) -> float:
        """Computes the score on a data set.

        Args:
            images: uint8 array, or float array in [0, 1], of shape
                `(examples, height, width, channels)`.
            labels: Labels in any form that `evaluate_robustness` takes.
            epsilon: Float, the largest noise, as a fraction of the pixel
                range [0, 1].
            seed: Integer, the seed of the noise. Defaults to 0.

        Returns:
            Float in [-1, 1]; 1 if all gradients are zero.
        """
        images = np.asarray(images)
        labels, _ = as_classes(labels, len(images))
        found = []
        for first in range(0, len(images), self._batch_size):
            part = slice(first, first + self._batch_size)
            batch = as_pixels(images[part])
            noise = Draws(seed, first).uniform(
                "alignment", batch.shape, -epsilon, epsilon, tf.float32
            )
            found.append(self._cosines(batch, labels[part], noise))
        cosines = np.concatenate([cosine for cosine, _ in found])
        valid = np.concatenate([valid for _, valid in found])
        return float(cosines[valid].mean()) if valid.any() else 1.0


def _cosines(network, images, labels, noise):
    def gradient(points):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(points)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels, network(points)
            )
        return tape.gradient(
            losses,
            points,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )

    return cosines(gradient(images), gradient(images + noise))
