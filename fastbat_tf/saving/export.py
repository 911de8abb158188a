"""Writes a classifier as a SavedModel that needs none of this code."""

import pathlib
import shutil

import tensorflow as tf

from fastbat_tf.data import Reading, image_files
from fastbat_tf.data.augmentation import to_pixels
from fastbat_tf.errors import InputError
from fastbat_tf.files import replace_directory
from fastbat_tf.training.classifier import RobustClassifier

# By so much pixels may be outside of [0, 1]. A sum of a pixel and a
# perturbation, or a resized image, is rounded in float32 by a hundredth of it.
TOLERANCE = 1e-5


def export(classifier, path, reading=None):
    """Writes the classifier, and nothing of its training, as a SavedModel.

    Signatures, all with the outputs `logits` and `probabilities`, float32
    `(batch, classes)`, and `classes`, int64 `(batch,)`:

    * `serving_default`: `images`, float32 `(batch, height, width, channels)`
      in [0, 1];
    * `serve_uint8`: `images`, uint8 of the same shape;
    * `serve_bytes`: `encoded`, strings `(batch,)`, each a file of PNG, JPEG,
      WebP, GIF, BMP or PPM, read as the images of the test were. It is there
      for a classifier of images of a fixed size with 1 or 3 channels.

    What is something else is refused by `tf.errors.InvalidArgumentError`,
    which says what was expected: another shape, an empty batch, pixels that
    are not finite or not in [0, 1], a file that cannot be read (named by its
    place in the batch). A file of more than `formats.MAX_PIXELS` pixels is not
    decoded. These are assertions in the graph; inside a
    `tf.function(jit_compile=True)` XLA leaves them out.

    Args:
        classifier: A built `keras.Model` from images in [0, 1] to logits, or
            a `RobustClassifier`, whose images are mapped to its `pixel_range`
            inside.
        path: The directory to write.
        reading: The `fastbat_tf.data.Reading` of files; by default the whole
            image is resized to what the classifier takes.

    Raises:
        InputError: If the classifier takes something else than images, or the
            reading gives others.

    Example:

    ```python
    import tensorflow as tf

    model = tf.saved_model.load("runs/demo/saved_model")
    model.signatures["serving_default"](images=images)["classes"]
    ```
    """
    network = classifier
    if isinstance(classifier, RobustClassifier):
        network, classifier = classifier.network, classifier.classifier
    shape = _image_shape(classifier)
    reading = _check_reading(shape, reading)

    def answer(images):
        logits = tf.cast(network(images, training=False), tf.float32)
        return {
            "logits": logits,
            "probabilities": tf.nn.softmax(logits),
            "classes": tf.argmax(logits, axis=-1),
        }

    def answer_floats(images):
        with tf.control_dependencies([_check_shape(images, shape)]):
            images = tf.identity(images)
        with tf.control_dependencies([_check_range(images)]):
            return answer(tf.identity(images))

    def answer_uint8(images):
        with tf.control_dependencies([_check_shape(images, shape)]):
            return answer(to_pixels(images))

    def answer_bytes(encoded):
        with tf.control_dependencies([_check_shape(encoded, ())]):
            encoded = tf.identity(encoded)
        return answer(to_pixels(image_files.decode_batch(encoded, reading)))

    floats, integers = (
        tf.TensorSpec((None, *shape), dtype, name="images")
        for dtype in (tf.float32, tf.uint8)
    )
    # A plain module: Keras' ExportArchive would store every weight twice.
    module = tf.Module()
    module.weights = [weight.value for weight in classifier.weights]
    module.serve = tf.function(answer_floats, [floats], autograph=False)
    module.serve_uint8 = tf.function(answer_uint8, [integers], autograph=False)
    signatures = {
        "serving_default": module.serve,
        "serve_uint8": module.serve_uint8,
    }
    if reading is not None:
        encoded = tf.TensorSpec((None,), tf.string, name="encoded")
        module.serve_bytes = tf.function(
            answer_bytes, [encoded], autograph=False
        )
        signatures["serve_bytes"] = module.serve_bytes
    # To the side first: a failure leaves what was there.
    path = pathlib.Path(path)
    partial = path.with_name(path.name + ".partial")
    if partial.exists():  # Of a process that was killed.
        shutil.rmtree(partial)
    tf.saved_model.save(module, str(partial), signatures)
    replace_directory(partial, path)


def _image_shape(classifier):
    """`(height, width, channels)`, None where it may be any."""
    shape = classifier.input_shape
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[-1] is None:
        raise InputError(
            "A classifier of images is expected, with one input (batch, "
            f"height, width, channels). Received: input_shape={shape}"
        )
    return shape[1:]


def _check_reading(shape, reading):
    """The `Reading`; None if files cannot be read for such a classifier."""
    if reading is None:
        known = None not in shape and shape[-1] in (1, 3)
        return Reading(*shape) if known else None
    given = reading.height, reading.width, reading.channels
    if any(size not in (None, n) for size, n in zip(shape, given, strict=True)):
        raise InputError(
            f"Files are expected to be read as images {shape}, which the "
            f"classifier takes. Received: reading={reading}"
        )
    return reading


def _check_shape(tensor, shape):
    """An assertion that a batch has the shape `(batch, *shape)`."""
    # Signatures do not enforce the shape that they state, and TensorFlow's
    # optimizer takes it for granted: here it is forgotten.
    tensor = tf.raw_ops.PlaceholderWithDefault(
        input=tensor, shape=tf.TensorShape(None)
    )
    actual = tf.shape(tensor)
    # 0 for any size; -1 where there is no dimension. Not `tf.rank`: that is
    # not forgotten.
    wanted = tf.constant([0, *(size or 0 for size in shape), -1])
    padded = tf.concat([actual, tf.fill(tf.shape(wanted), -1)], 0)
    padded = padded[: len(shape) + 2]
    right = tf.where(tf.equal(wanted, 0), padded > 0, padded == wanted)
    described = "".join(f", {size or 'any'}" for size in shape) or ","
    what, name = ("images", "images") if shape else ("files", "encoded")
    return _refuse_unless(
        tf.reduce_all(right),
        f"A batch of {what} is expected, at least one, of the shape "
        f"(batch{described}). Received: {name}.shape=",
        actual,
    )


def _check_range(images):
    """An assertion that pixels are finite and in [0, 1]."""
    low, high = tf.reduce_min(images), tf.reduce_max(images)
    # The extremes may leave NaN out.
    finite = tf.reduce_all(tf.math.is_finite(images))
    return _refuse_unless(
        finite & (low >= -TOLERANCE) & (high <= 1 + TOLERANCE),
        "Pixels are expected to be finite and in [0, 1]. Those in 0..255 are "
        "expected as uint8 by the signature serve_uint8, or divided by 255. "
        "Received: images.min=",
        low,
        "images.max=",
        high,
        "all finite=",
        finite,
    )


def _refuse_unless(condition, *message):
    # Not that of `tf.debugging`: about its condition TensorFlow warns whenever
    # the model is loaded.
    return tf.raw_ops.Assert(condition=condition, data=message, summarize=8)
