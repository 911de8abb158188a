"""Gradient alignment, a score that falls with catastrophic overfitting."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from fastbat_tf.attacks import losses
from fastbat_tf.attacks.inputs import as_pixels, check_pixel_range
from fastbat_tf.attacks.registry import parse_norm
from fastbat_tf.attacks.sharding import Sharding, strategy_of
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
    gradient is zero are left out. The workers of the network's distribution
    strategy share the images: all of them make the same call.

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
        self._network = network
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

        def compute(share):
            share = np.arange(len(images))[share]
            found = []
            for first in range(0, len(images), self._batch_size):
                # The noise of the batch, of which this worker takes its rows.
                last = min(first + self._batch_size, len(images))
                rows = share[(first <= share) & (share < last)]
                if not len(rows):
                    continue
                noise = self._draw(
                    Draws(seed, first),
                    (last - first, *images.shape[1:]),
                    epsilon,
                )
                found.append(
                    self._cosines(
                        as_pixels(images[rows]),
                        labels[rows],
                        tf.gather(noise, rows - first),
                    )
                )
            return np.concatenate([np.stack(pair, -1) for pair in found])

        sharding = Sharding(strategy_of(self._network))
        cosines, valid = sharding.rows(compute, len(images)).T
        valid = valid > 0
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
        return losses.ask(
            network,
            losses.cross_entropy,
            images=points,
            labels=labels,
            targets=labels,
        ).gradient

    return cosines(gradient(images), gradient(images + noise))
