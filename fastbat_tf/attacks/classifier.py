"""Evaluates a network on a data set."""

import contextlib
import functools

import numpy as np
import tensorflow as tf

from fastbat_tf.attacks.inputs import (
    as_count,
    as_labels,
    as_pixels,
    check_classes,
    check_pixel_range,
)
from fastbat_tf.attacks.records import Clean
from fastbat_tf.errors import InputError


class Classifier:
    """Classifies a data set in batches, with a network that is traced once.

    Args:
        network: Any callable from float32 images `(batch, height, width,
            channels)` in [0, 1] to logits `(batch, classes)`.
        batch_size: Integer, images per call of the network. Defaults to 250.

    Raises:
        InputError: If the network is a `RobustClassifier` with a pixel range
            other than [0, 1].
    """

    def __init__(self, network, batch_size=250):
        check_pixel_range(network)
        self.network = network
        self.batch_size = as_count("batch_size", batch_size)
        self._ask = None

    def __call__(self, images, labels):
        """Checks images and labels, and computes the logits.

        Args:
            images: uint8 array, or float array in [0, 1], of shape
                `(examples, height, width, channels)`.
            labels: Integer array `(examples,)`.

        Returns:
            A `Clean`.

        Raises:
            InputError: If the images are not pixels, the labels are not
                classes, or the network does not return logits.
        """
        images = as_pixels(images)
        labels = as_labels(labels, len(images))
        if self._ask is None:
            specs = [tf.TensorSpec([None, *images.shape[1:]], tf.float32)]
            # A new object, since TensorFlow identifies functions by their code
            # and would warn that the same one is retraced repeatedly.
            self._ask = tf.function(
                functools.partial(self.network), specs, autograph=False
            )
        logits = np.concatenate(
            [
                self._ask_batch(images[first : first + self.batch_size])
                for first in range(0, len(images), self.batch_size)
            ]
        )
        check_classes(labels, logits.shape[-1])
        return Clean(images, labels, logits)

    def _ask_batch(self, batch):
        try:
            with refuse_too_large(self.batch_size):
                answer = self._ask(batch)
        except InputError:
            raise
        except (TypeError, ValueError, tf.errors.OpError) as error:
            reason = str(error) or type(error).__name__
            raise InputError(
                "The model cannot classify these images; expected one that "
                f"takes their shape. Received: images.shape={batch.shape} "
                f"({reason.splitlines()[0]})"
            ) from error
        shape = getattr(answer, "shape", None)
        if shape is None or len(shape) != 2 or len(batch) != shape[0]:
            raise InputError(
                "The model is expected to return logits of shape (batch, "
                f"classes). Received: shape={shape} for {len(batch)} images"
            )
        return np.asarray(answer, np.float32)


@contextlib.contextmanager
def refuse_too_large(batch_size):
    """Raises an `InputError` if a batch does not fit in memory."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise InputError(
            "There is not enough memory for a batch; reduce the batch size. "
            f"Received: batch_size={batch_size}"
        ) from error
