"""Networks for the tests of attacks, with outcomes known in closed form."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fastbat_tf import attacks

SHAPE = (4, 4, 3)
SIZE = 48
NORMS = ("linf", "l2")

# One name per class of attack, fast enough for every test.
SMALL_ATTACKS = (
    "fgsm",
    "mi-fgsm-3",
    "pgd-3-2",
    "pgd-3-2-target-1",
    "apgd-ce-4",
    "apgd-t-3",
    "fab-t-3",
    "square-12",
    "apgd-dlr-rand-2",
    "pgd-2-1+square-6",
    "transfer-pgd-2-2",
)


def get(name, network, **kwargs):
    """An attack by name; `transfer` uses the network as its surrogate."""
    surrogate = network if name.startswith("transfer") else None
    return attacks.get(name, network, surrogate=surrogate, **kwargs)


class Problem(NamedTuple):
    """A linear network with images, and the radii at which they break.

    Attributes:
        network: Function from images to logits.
        images: float32 array `(examples, *SHAPE)`.
        labels: int32 array `(examples,)`.
        radii: Dict from the name of a norm to an array `(examples,)`: from
            which radius on the image can be misclassified; negative where it
            is without any perturbation.
        toward: For two classes, per image the weights of its class less those
            of the other; None for more.
    """

    network: callable
    images: np.ndarray
    labels: np.ndarray
    radii: dict
    toward: np.ndarray


def linear_problem(count, classes=2, seed=0, wrong=True):
    """Linear logits, with images that are far from 0 and 1.

    With w the difference of the weights of the right and another class, the
    margin of an image is w @ x + b, and the least in the ball of radius epsilon

        w @ x + b - epsilon * |w|    at    delta = -epsilon * direction(w)

    with the dual norm |w|: the image breaks from the radius (w @ x + b) / |w|
    on, for the other class that makes it least. A fifth of the examples are
    misclassified without any attack, if `wrong`.
    """
    random = np.random.default_rng(seed)
    images = random.uniform(0.3, 0.7, (count, *SHAPE)).astype("float32")
    weights = random.normal(0, 0.3, (SIZE, classes)).astype("float32")
    offset = (images.reshape(count, SIZE) @ weights).mean(axis=0)

    def network(batch):
        return tf.reshape(batch, (-1, SIZE)) @ weights - offset

    logits = network(images).numpy().astype("float64")
    labels = np.argmax(logits, axis=-1).astype("int32")
    if wrong:
        labels[::5] = (labels[::5] + 1) % classes
    rows = np.arange(count)
    differences = weights[:, labels].T[:, np.newaxis] - weights.T
    margins = logits[rows, labels][:, np.newaxis] - logits
    margins[rows, labels] = np.inf
    sizes = {
        "linf": np.abs(differences).sum(axis=-1),
        "l2": np.linalg.norm(differences, axis=-1),
    }
    radii = {}
    for norm, size in sizes.items():
        size[rows, labels] = 1.0  # The label itself, with an infinite margin.
        radii[norm] = (margins / size).min(axis=-1)
        # A class whose logit is above the label's.
        radii[norm][margins.min(axis=-1) < 0] = -1.0
    toward = None
    if classes == 2:
        toward = differences[rows, 1 - labels].reshape(images.shape)
    return Problem(network, images, labels, radii, toward)


def boxed_problem(count, seed=0):
    """Two classes, linear logits, half of the pixels at 0 or 1, or near.

    The bounds of the pixels keep an image from moving straight; its radius is
    the size of the smallest step, by `smallest_step`; infinite where no image
    within the pixels is misclassified.
    """
    random = np.random.default_rng(seed)
    images = random.uniform(0.1, 0.9, (count, *SHAPE))
    near = random.choice((0.0, 0.004, 0.99, 1.0), images.shape)
    images = np.where(random.random(images.shape) < 0.5, near, images)
    images = images.astype("float32")
    weights = random.normal(0, 0.3, SIZE).astype("float32")
    scores = images.reshape(count, SIZE) @ weights
    offset = np.float32(scores.mean())

    def network(batch):
        score = tf.reshape(batch, (-1, SIZE)) @ weights[:, np.newaxis] - offset
        return tf.concat([score, -score], axis=-1)

    labels = (scores < offset).astype("int32")
    toward = np.where(labels == 0, 1, -1)[:, np.newaxis] * weights
    margins = (toward * images.reshape(count, SIZE)).sum(axis=-1)
    margins -= np.where(labels == 0, 1, -1) * offset
    radii = {norm: np.full(count, np.inf) for norm in NORMS}
    for norm in NORMS:
        for number in range(count):
            step, reached = smallest_step(
                images[number].ravel(), toward[number], -margins[number], norm
            )
            if reached:
                radii[norm][number] = size(step, norm)
    return Problem(network, images, labels, radii, toward.reshape(images.shape))


def smallest_step(point, normal, gap, norm):
    """The smallest d with `normal @ d = gap` and `point + d` in [0, 1].

    Computed by bisection in float64. If there is none, it is the nearest step.

    Args:
        point: Array `(pixels,)`.
        normal: Array `(pixels,)`.
        gap: Float.
        norm: `"linf"` or `"l2"`.

    Returns:
        Array `(pixels,)`, and whether it gives the gap.
    """
    point, normal = point.astype("float64"), normal.astype("float64")
    heading = np.sign(normal) * np.sign(gap)
    room = np.where(heading > 0, 1 - point, point) * np.abs(heading)
    speed = np.ones_like(normal) if norm == "linf" else np.abs(normal)

    def move(time):
        return heading * np.minimum(time * speed, room)

    if np.abs(normal @ (heading * room)) < np.abs(gap):
        return heading * room, False
    low, high = 0.0, 1.0 / max(np.abs(speed[speed > 0]).min(initial=1.0), 1e-30)
    for _ in range(200):
        middle = (low + high) / 2
        enough = np.abs(normal @ move(middle)) >= np.abs(gap)
        low, high = (low, middle) if enough else (middle, high)
    return move(high), True


def size(delta, norm):
    """The norm of one perturbation."""
    delta = np.asarray(delta, np.float64).ravel()
    return np.abs(delta).max() if norm == "linf" else np.linalg.norm(delta)


def sizes(deltas, norm):
    """The norm of each perturbation."""
    return np.array([size(delta, norm) for delta in deltas])


def between(radii, count):
    """An epsilon that breaks `count` of the images, with a margin."""
    radii = np.sort(radii[radii > 0])
    return float(radii[count - 1] + radii[count]) / 2


def predictions(network, images):
    """The likeliest classes."""
    return np.argmax(network(tf.constant(images)), axis=-1)


def smooth_network(classes=4, seed=0, width=6, scale=1.0):
    """Logits through one tanh layer; they do not depend on the batch size."""
    random = np.random.default_rng(seed)
    first = random.normal(0, 0.5, (SIZE, width)).astype("float32")
    last = random.normal(0, scale, (width, classes)).astype("float32")

    def network(batch):
        pixels = tf.reshape(batch, (-1, SIZE)) - 0.5
        return tf.tanh(pixels @ first) @ last

    network.weights = first, last
    return network
