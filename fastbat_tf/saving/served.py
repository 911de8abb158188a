"""A classifier as it is served: a function from pixels to answers."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from fastbat_tf.data import Reading
from fastbat_tf.errors import InputError
from fastbat_tf.layers import structure
from fastbat_tf.layers.network import Network
from fastbat_tf.layers.pixel_range import PixelRange
from fastbat_tf.saving.model_info import ModelInfo
from fastbat_tf.training.classifier import RobustClassifier

# How far pixels may be outside of [0, 1]: a hundred times the float32 rounding
# of a perturbed pixel or a resized image.
TOLERANCE = 1e-5


class Served(NamedTuple):
    """A classifier as it is served.

    Attributes:
        classifier: The built `keras.Model`.
        network: The `Network`, a function from images in [0, 1] to logits.
        shape: `(height, width, channels)`, with None where any size is valid.
        reading: The `Reading` of image files; None if they cannot be read.
        info: The `ModelInfo`.
        pixel_range: The `PixelRange` of the classifier. Defaults to [0, 1].
    """

    classifier: keras.Model
    network: Network
    shape: tuple
    reading: Reading | None
    info: ModelInfo
    pixel_range: PixelRange = PixelRange()

    def answer(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Answers about images.

        Args:
            images: Float tensor `(batch, height, width, channels)` in [0, 1].

        Returns:
            A dict of `logits` and `probabilities`, float32 `(batch, classes)`,
            and `classes`, int64 `(batch,)`.
        """
        logits = tf.cast(self.network(images, training=False), tf.float32)
        return {
            "logits": logits,
            "probabilities": tf.nn.softmax(logits),
            "classes": tf.argmax(logits, axis=-1),
        }

    def answer_or_nan(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Answers about images, and says of which there is no answer.

        It is for formats whose graphs cannot assert.

        Args:
            images: Float tensor `(batch, height, width, channels)`.

        Returns:
            A dict as `answer` returns it. If any pixel of an image is not
            finite or not in [0, 1], its logits and probabilities are NaN, and
            its class is -1.
        """
        # A comparison with NaN is false, while minimum and maximum may ignore
        # NaN. As numbers, because not every runtime reduces booleans.
        inside = (images >= -TOLERANCE) & (images <= 1 + TOLERANCE)
        valid = tf.reduce_min(tf.cast(inside, tf.float32), axis=(1, 2, 3)) > 0
        nan = tf.constant(float("nan"))
        answers = self.answer(images)
        return {
            name: tf.where(valid, answer, tf.constant(-1, answer.dtype))
            if name == "classes"
            else tf.where(valid[:, tf.newaxis], answer, nan)
            for name, answer in answers.items()
        }


class FormatOptions(NamedTuple):
    """What only some formats need.

    Attributes:
        calibration: float32 array of images `(examples, height, width,
            channels)` in [0, 1], on which `tflite_int8` measures the ranges of
            activations. Defaults to `None`.
        batch_size: Integer, the size of the batches of `stablehlo`, which has
            static shapes. Defaults to `1`.
        warm_up: Whether `saved_model` has requests with which TensorFlow
            Serving warms it up. Defaults to `False`.
    """

    calibration: Any = None
    batch_size: int = 1
    warm_up: bool = False


def serve(
    model: Any, reading: Reading | None = None, info: ModelInfo | None = None
) -> Served:
    """Returns a classifier as it is served.

    Args:
        model: A built `keras.Model` from images in [0, 1] to logits, or a
            `RobustClassifier`.
        reading: The `Reading` of files. Defaults to `None`, which resizes
            whole images to the size that the classifier takes.
        info: The `ModelInfo`. Defaults to `None`: nothing is known.

    Returns:
        A `Served`.

    Raises:
        InputError: If the classifier does not take images, or if their shape
            differs from that of the reading.
    """
    robust = model if isinstance(model, RobustClassifier) else None
    classifier = robust.classifier if robust else model
    shape = _image_shape(classifier)
    return Served(
        classifier=classifier,
        network=robust.network if robust else Network(classifier),
        shape=shape,
        reading=_check_reading(shape, reading),
        info=info or ModelInfo(name=classifier.name),
        pixel_range=PixelRange.parse(robust.pixel_range if robust else (0, 1)),
    )


def _image_shape(classifier):
    """`(height, width, channels)`, with None where any size is valid."""
    spec = structure.input_specs(classifier, batch=None)
    shape = getattr(spec, "shape", None)
    if shape is None or len(shape) != 4 or shape[-1] is None:
        raise InputError(
            "The classifier is expected to have one input of shape (batch, "
            f"height, width, channels). Received: inputs={spec}"
        )
    return tuple(shape[1:])


def _check_reading(shape, reading):
    """The `Reading`, or None if the classifier cannot take files."""
    if reading is None:
        known = None not in shape and shape[-1] in (1, 3)
        return Reading(*shape) if known else None
    given = reading.height, reading.width, reading.channels
    if any(size not in (None, n) for size, n in zip(shape, given, strict=True)):
        raise InputError(
            f"Files are expected to be read as images of the shape {shape} "
            f"that the classifier takes. Received: reading={reading}"
        )
    return reading
