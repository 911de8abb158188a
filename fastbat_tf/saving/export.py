"""Exports a classifier as a SavedModel that runs without this package."""

import pathlib
import shutil

import tensorflow as tf

from fastbat_tf.data import Reading, image_files
from fastbat_tf.data.augmentation import to_pixels
from fastbat_tf.errors import InputError
from fastbat_tf.files import replace_directory
from fastbat_tf.layers import structure
from fastbat_tf.layers.network import Network
from fastbat_tf.training.classifier import RobustClassifier

# How far pixels may be outside of [0, 1]: a hundred times the float32 rounding
# of a perturbed pixel or a resized image.
TOLERANCE = 1e-5


def export(classifier, path, reading=None):
    """Exports a classifier as a SavedModel, without its training state.

    All signatures have the outputs `logits` and `probabilities`, float32
    `(batch, classes)`, and `classes`, int64 `(batch,)`. Their inputs are

    * for `serving_default`: `images`, float32 `(batch, height, width,
      channels)` in [0, 1];
    * for `serve_uint8`: `images`, uint8 of the same shape;
    * for `serve_bytes`: `encoded`, strings `(batch,)`, each the content of a
      PNG, JPEG, WebP, GIF, BMP or PPM file, which is read like the test images.
      This signature exists if the images have a fixed size and 1 or 3
      channels.

    Other input is rejected with a `tf.errors.InvalidArgumentError` that says
    what was expected: a wrong shape, an empty batch, pixels that are not finite
    or not in [0, 1], and files that cannot be read (named by their index in the
    batch) or have more than `formats.MAX_PIXELS` pixels. The checks are
    assertions in the graph, which XLA drops inside a
    `tf.function(jit_compile=True)`.

    Args:
        classifier: A built `keras.Model` from images in [0, 1] to logits, or
            a `RobustClassifier`. The SavedModel maps images in [0, 1] to the
            `pixel_range` of a `RobustClassifier`.
        path: The directory to write.
        reading: The `fastbat_tf.data.Reading` of files. Defaults to None, which
            resizes whole images to the size that the classifier takes.

    Raises:
        InputError: If the classifier does not take images, or if their shape
            differs from that of the reading.

    Example:

    ```python
    import tensorflow as tf

    model = tf.saved_model.load("runs/demo/saved_model")
    model.signatures["serving_default"](images=images)["classes"]
    ```
    """
    robust = classifier if isinstance(classifier, RobustClassifier) else None
    classifier = robust.classifier if robust else classifier
    shape = _image_shape(classifier)
    network = robust.network if robust else Network(classifier)
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
    # A plain module, since Keras' ExportArchive would store all weights twice.
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
    # Written to a temporary directory, so that a failure keeps the old one.
    path = pathlib.Path(path)
    partial = path.with_name(path.name + ".partial")
    if partial.exists():  # From a killed process.
        shutil.rmtree(partial)
    tf.saved_model.save(module, str(partial), signatures)
    replace_directory(partial, path)


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


def _check_shape(tensor, shape):
    """Asserts that a batch has the shape `(batch, *shape)`."""
    # Signatures do not enforce their shapes, yet TensorFlow's optimizer relies
    # on them. A placeholder hides the static shape.
    tensor = tf.raw_ops.PlaceholderWithDefault(
        input=tensor, shape=tf.TensorShape(None)
    )
    actual = tf.shape(tensor)
    # 0 stands for any size, -1 for no dimension. Not `tf.rank`, which the
    # placeholder does not hide.
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
    """Asserts that pixels are finite and in [0, 1]."""
    low, high = tf.reduce_min(images), tf.reduce_max(images)
    # Minimum and maximum may ignore NaN.
    finite = tf.reduce_all(tf.math.is_finite(images))
    return _refuse_unless(
        finite & (low >= -TOLERANCE) & (high <= 1 + TOLERANCE),
        "Pixels are expected to be finite and in [0, 1]. For pixels in "
        "0..255, use the signature serve_uint8, or divide by 255. "
        "Received: images.min=",
        low,
        "images.max=",
        high,
        "all finite=",
        finite,
    )


def _refuse_unless(condition, *message):
    # Not the assertion of `tf.debugging`, which makes TensorFlow warn about its
    # condition whenever the model is loaded.
    return tf.raw_ops.Assert(condition=condition, data=message, summarize=8)
