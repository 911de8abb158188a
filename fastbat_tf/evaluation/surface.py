"""The loss around a test image, along an adversarial and a random direction.

Reference: Li et al., NeurIPS 2018 (arXiv 1712.09913), who look at the loss of
the weights in this way; here it is that of the pixels.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastbat_tf import draws
from fastbat_tf.attacks import norms
from fastbat_tf.attacks.classifier import Classifier
from fastbat_tf.attacks.records import predict

POINTS = 21  # In each direction.


def make(
    network: Callable[[Any], Any],
    gallery: Mapping[str, Any],
    *,
    seed: int,
    batch_size: int,
) -> dict[str, Any]:
    """Computes the loss on a grid around the first image of a gallery.

    ```
    L(a, b) = CE(f(clip(x + a d + b r)), y),    -1 <= a, b <= 1
    ```

    where d has the direction of the adversarial perturbation and r is random,
    both of size epsilon.

    Args:
        network: Callable `f` from images in [0, 1] to logits.
        gallery: What `gallery.make` returns, with a perturbed first image.
        seed: Integer, the seed of the random direction.
        batch_size: Integer, the most images per call of the network.

    Returns:
        The content of `surface.npz`, a dict of arrays: `loss` and `predicted`
        `(21, 21)`, whose rows go along `d` and whose columns along `r`,
        `steps` `(21,)`, and the scalars `index`, `label`, `epsilon`, `norm`.
    """
    image, label = gallery["image"][0], gallery["label"][0]
    norm, epsilon = str(gallery["norm"]), np.float32(gallery["epsilon"])
    delta = gallery["adversarial"][0] - image
    delta = delta * (epsilon / _size(delta, norm))
    random = epsilon * random_direction(image.shape, norm, seed)
    steps = np.linspace(-1, 1, POINTS, dtype=np.float32)
    across = steps[:, np.newaxis, np.newaxis, np.newaxis] * random
    classify = Classifier(network, batch_size)
    labels = np.full(POINTS, label)
    # Row by row: all of them may not fit in memory.
    logits = np.stack(
        [
            classify(
                np.clip(image + step * delta + across, 0.0, 1.0), labels
            ).logits
            for step in steps
        ]
    )
    return {
        "loss": _cross_entropy(logits, label),
        "predicted": predict(logits.reshape(POINTS**2, -1)).predicted.reshape(
            POINTS, POINTS
        ),
        "steps": steps,
        "index": gallery["index"][0],
        "label": label,
        "epsilon": gallery["epsilon"],
        "norm": gallery["norm"],
    }


def random_direction(
    shape: tuple[int, ...], norm: str, seed: int
) -> np.ndarray:
    """Draws a direction of size 1: random signs, or a Gaussian one for L2.

    Args:
        shape: `(height, width, channels)` of the image.
        norm: `"linf"` or `"l2"`.
        seed: Integer.

    Returns:
        A float32 array of this shape.
    """
    numbers = draws.Draws(seed, step=0)
    shares = numbers.uniform("loss surface", shape, 0.0, 1.0, "float32")
    if norm == "linf":
        return np.where(shares.numpy() < 0.5, -1.0, 1.0).astype(np.float32)
    direction = draws.as_normal(shares).numpy()
    return direction / _size(direction, norm)


def _size(delta, norm):
    return norms.get(norm).size(delta[np.newaxis]).numpy().item()


def _cross_entropy(logits, label):
    """`-log softmax(z)_y`, also of large logits."""
    below = logits - logits.max(axis=-1, keepdims=True)
    total = np.log(np.exp(below).sum(axis=-1))
    return (total - below[..., label]).astype(np.float32)
