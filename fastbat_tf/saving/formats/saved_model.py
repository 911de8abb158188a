"""Writes a SavedModel that runs without this package."""

import pathlib

import tensorflow as tf

from fastbat_tf.data import image_files
from fastbat_tf.data.augmentation import to_pixels
from fastbat_tf.saving import serving_info, serving_warm_up
from fastbat_tf.saving.served import TOLERANCE, FormatOptions, Served

MOST_REQUESTS = 1000  # For the information about the model.


def write(served: Served, folder: pathlib.Path, options: FormatOptions) -> None:
    """Writes a SavedModel, without the training state.

    The signatures are those that `fastbat_tf.saving.export.export` describes.

    Args:
        served: The `Served`.
        folder: `pathlib.Path` of the directory.
        options: The `FormatOptions`, of which only `warm_up` applies.
    """
    shape, reading = served.shape, served.reading

    def answer_floats(images):
        with tf.control_dependencies([_check_shape(images, shape)]):
            images = tf.identity(images)
        with tf.control_dependencies([_check_range(images)]):
            return served.answer(tf.identity(images))

    def answer_uint8(images):
        with tf.control_dependencies([_check_shape(images, shape)]):
            return served.answer(to_pixels(images))

    def answer_bytes(encoded):
        with tf.control_dependencies([_check_shape(encoded, ())]):
            encoded = tf.identity(encoded)
        images = to_pixels(image_files.decode_batch(encoded, reading))
        return served.answer(images)

    floats, integers = (
        tf.TensorSpec((None, *shape), dtype, name="images")
        for dtype in (tf.float32, tf.uint8)
    )
    # A plain module, since Keras' ExportArchive would store all weights twice.
    module = tf.Module()
    module.weights = [weight.value for weight in served.classifier.weights]
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
    _add_info(served, module, signatures)
    tf.saved_model.save(module, str(folder), signatures)
    if options.warm_up:
        serving_warm_up.write(served, signatures, folder)


def _add_info(served, module, signatures):
    """Adds the signatures by which the model tells what it is."""
    answers = module.serve.get_concrete_function().structured_outputs
    classes = answers["logits"].shape[-1]
    info = serving_info.describe(served.info, classes)

    def tell():
        return {name: tf.constant(value) for name, value in info.items()}

    def tell_each(requests):
        count = tf.size(requests)
        # A small request must not need much memory.
        few = _refuse_unless(
            count <= MOST_REQUESTS,
            f"At most {MOST_REQUESTS} requests are expected. "
            "Received: requests.size=",
            count,
        )
        with tf.control_dependencies([few]):
            count = tf.identity(count)
        # A server that joins requests splits each output among them.
        return {
            name: tf.repeat(value[tf.newaxis], count, axis=0)
            for name, value in tell().items()
        }

    requests = tf.TensorSpec(None, tf.int32, name="requests")
    module.info = tf.function(tell, [], autograph=False)
    module.info_rest = tf.function(tell_each, [requests], autograph=False)
    signatures |= {"info": module.info, "info_rest": module.info_rest}


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
