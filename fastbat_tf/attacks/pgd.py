"""PGD with restarts: the attack that measures robust accuracy."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fastbat_tf import perturbation
from fastbat_tf.draws import Draws, uniform
from fastbat_tf.errors import InputError
from fastbat_tf.methods.options import check_epsilon


class AttackResult(NamedTuple):
    """What an attack left.

    Attributes:
        clean_correct: bool array `(examples,)`, classified correctly without
            any perturbation.
        robust: bool array `(examples,)`, still correct after the attack.
        perturbation: float32 array like the images: per example the first that
            was misclassified, else that of the restart with the highest loss;
            zero where the clean image is misclassified.
    """

    clean_correct: np.ndarray
    robust: np.ndarray
    perturbation: np.ndarray


class PGDAttack:
    """Projected gradient ascent on the cross-entropy, L-infinity.

    ```
    delta_0     = U(-epsilon, epsilon), clipped to the pixels
    delta_{k+1} = P_C(delta_k + step_size * sign(d CE(x + delta_k) / d delta))
    ```

    PGD-50-10 of the Fast-BAT paper is `steps=50, restarts=10` with the step
    size `epsilon / 4`. An example counts as broken as soon as one iterate of
    one restart is misclassified; it is not attacked any further, and the
    others move up into its place in the batch, so that a batch has one shape
    and nothing is traced twice, whatever epsilon.

    Reference: Madry et al., ICLR 2018 (arXiv 1706.06083).

    Args:
        network: Any callable from float32 images `(batch, height, width,
            channels)` in [0, 1] to logits `(batch, classes)`.
        steps: Integer of at least 1.
        restarts: Integer of at least 1.
        relative_step_size: Float, the step size over epsilon.
        batch_size: Integer, images per call of the network.
        jit_compile: Whether XLA compiles the loop.

    Example:

    ```python
    attack = PGDAttack(functools.partial(model, training=False), steps=50)
    robust_accuracy = attack(images, labels, epsilon=8 / 255).robust.mean()
    ```
    """

    def __init__(
        self,
        network,
        steps=10,
        restarts=1,
        relative_step_size=0.25,
        batch_size=200,
        jit_compile=False,
    ):
        for name, value in (
            ("steps", steps),
            ("restarts", restarts),
            ("batch_size", batch_size),
        ):
            if value < 1:
                raise InputError(
                    f"`{name}` is expected to be at least 1. "
                    f"Received: {name}={value}"
                )
        self.network = network
        self.steps = steps
        self.restarts = restarts
        self.relative_step_size = relative_step_size
        self.batch_size = batch_size
        self._classify = tf.function(self._is_correct, jit_compile=jit_compile)
        self._ascend = tf.function(self._ascend_batch, jit_compile=jit_compile)

    def __call__(self, images, labels, epsilon, seed=0):
        """Attacks a whole data set.

        Args:
            images: uint8 array, or float array in [0, 1], of shape
                `(examples, height, width, channels)`.
            labels: Integer array `(examples,)`.
            epsilon: Float in [0, 1].
            seed: Integer, of the random starts.

        Returns:
            An `AttackResult`.

        Raises:
            InputError: If the images are not pixels, the labels are not one
                integer per image, or epsilon is out of range.
        """
        images = as_pixels(images)
        labels = as_labels(labels, len(images))
        epsilon = check_epsilon(epsilon)
        size = min(self.batch_size, len(images))
        clean_correct = np.zeros(len(images), bool)
        for chunk, count in self._pack(np.arange(len(images)), size):
            correct = self._classify(images[chunk], labels[chunk])
            clean_correct[chunk[:count]] = correct.numpy()[:count]

        robust = clean_correct.copy()
        delta = np.zeros_like(images)
        highest = np.full(len(images), -np.inf, np.float32)
        for restart in range(self.restarts):
            standing = np.flatnonzero(robust)
            for batch, (chunk, count) in enumerate(self._pack(standing, size)):
                found, loss, stands = self._ascend(
                    images[chunk],
                    labels[chunk],
                    np.arange(size) < count,
                    tf.constant(epsilon, tf.float32),
                    Draws(seed, restart, batch).key("attack"),
                )
                kept, loss = chunk[:count], loss.numpy()[:count]
                stands = stands.numpy()[:count]
                worse = ~stands | (loss > highest[kept])
                delta[kept[worse]] = found.numpy()[:count][worse]
                highest[kept] = np.maximum(loss, highest[kept])
                robust[kept] = stands
        return AttackResult(clean_correct, robust, delta)

    @staticmethod
    def _pack(indices, size):
        """Yields full chunks of `size` indices, and how many of each count."""
        for start in range(0, len(indices), size):
            chunk = indices[start : start + size]
            yield np.resize(chunk, size), len(chunk)

    def _is_correct(self, images, labels):
        return self._judge(images, labels)[1]

    def _judge(self, images, labels):
        logits = self.network(images)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        predicted = tf.argmax(logits, axis=-1, output_type=labels.dtype)
        # A network that answers NaN has not classified anything.
        return losses, (predicted == labels) & tf.math.is_finite(losses)

    def _ascend_batch(self, images, labels, standing, epsilon, key):
        step_size = self.relative_step_size * epsilon
        start = uniform(key, tf.shape(images), -epsilon, epsilon, images.dtype)
        delta = perturbation.clip_to_pixels(start, images)

        def step(delta, standing, number):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(delta)
                losses, correct = self._judge(images + delta, labels)
            standing &= correct
            ascent = step_size * tf.sign(tape.gradient(losses, delta))
            moved = perturbation.project(delta + ascent, images, epsilon)
            moves = tf.reshape(standing, [-1, 1, 1, 1])
            return tf.where(moves, moved, delta), standing, number + 1

        delta, standing, _ = tf.while_loop(
            lambda _, standing, number: (
                tf.reduce_any(standing) & (number < self.steps)
            ),
            step,
            (delta, standing, tf.constant(0)),
        )
        losses, correct = self._judge(images + delta, labels)
        return delta, losses, standing & correct


def as_pixels(images):
    """uint8 or float images as a float32 array in [0, 1]."""
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images.astype(np.float32) / np.float32(255)
    images = images.astype(np.float32)
    if not images.size or not 0 <= images.min() <= images.max() <= 1:
        found = (images.min(), images.max()) if images.size else "none"
        raise InputError(
            "Images are expected as uint8, or as floats in [0, 1], at least "
            f"one. Received: range={found}"
        )
    return images


def as_labels(labels, count):
    """Integer labels, `(count,)` or `(count, 1)`, as an int32 array."""
    labels = np.asarray(labels)
    if labels.shape not in ((count,), (count, 1)) or labels.dtype.kind not in (
        "i",
        "u",
    ):
        raise InputError(
            f"Labels are expected as {count} integers, one per image. "
            f"Received: labels.shape={labels.shape}, dtype={labels.dtype}"
        )
    return labels.reshape(count).astype(np.int32)
