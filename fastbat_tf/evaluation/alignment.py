"""Gradient alignment, a score that falls with catastrophic overfitting."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from fastbat_tf.attacks.inputs import as_pixels, check_pixel_range
from fastbat_tf.attacks.registry import parse_norm
from fastbat_tf.data.classes import as_classes
from fastbat_tf.draws import Draws, as_normal
from fastbat_tf.perturbation import cosines, uniform_in_l2_ball


class GradientAlignment:
    """Measures the gradient alignment of a network.

    The score is the mean cosine between the input gradients at an image and at
    a random point near it,

    ```
    mean cos(d CE(x) / dx, d CE(x + eta) / dx),   eta ~ U(-epsilon, epsilon)
    ```

    or, in L2, with eta uniform in the ball of radius epsilon.

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
        norm: `"linf"` or `"l2"`. Defaults to `"linf"`.

    Raises:
        InputError: If the network is a `RobustClassifier` with another pixel
            range; pass its attribute `network`.

    Example:

    >>> score = fb.GradientAlignment(model)(images, labels, epsilon=8 / 255)
    """

    def __init__(
        self,
        network: Callable[..., Any],
        batch_size: int = 250,
        *,
        norm: str | float = "linf",
    ) -> None:
        check_pixel_range(network)
        self._norm = parse_norm(norm)
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
            epsilon: Float, the radius of the ball of the noise, as a fraction
                of the pixel range [0, 1].
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
            noise = self._draw(Draws(seed, first), batch.shape, epsilon)
            found.append(self._cosines(batch, labels[part], noise))
        cosines = np.concatenate([cosine for cosine, _ in found])
        valid = np.concatenate([valid for _, valid in found])
        return float(cosines[valid].mean()) if valid.any() else 1.0

    def _draw(self, draws, shape, epsilon):
        if self._norm == "linf":
            return draws.uniform(
                "alignment", shape, -epsilon, epsilon, tf.float32
            )
        normal, share = (
            draws.uniform(name, size, 0.0, 1.0, tf.float32)
            for name, size in (
                ("alignment", shape),
                ("alignment_radius", (shape[0], 1, 1, 1)),
            )
        )
        return uniform_in_l2_ball(as_normal(normal), share, epsilon)


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
