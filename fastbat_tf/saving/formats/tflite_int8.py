"""Writes a file for LiteRT, in 8-bit integers."""

import numpy as np
import tensorflow as tf

from fastbat_tf.errors import InputError
from fastbat_tf.saving.formats import integer_graph, tflite

NAME = "tflite_int8"


def write(served, folder, options):
    """Writes a model with the signature `serving_default`.

    Weights (one scale for each channel) and activations are 8-bit integers.
    Its input is `images`, uint8 `(batch, height, width, channels)` in 0..255,
    and its outputs are floats that have 256 different values.

    Args:
        served: The `Served`.
        folder: `pathlib.Path` of the directory.
        options: The `FormatOptions` with images for calibration.

    Raises:
        InputError: If the images are not as expected, or LiteRT lacks an
            operation of the model.
    """
    images = _check_calibration(options.calibration, served.shape)
    function = integer_graph.prepare(tflite.trace(served, served.answer))
    converter = tflite.make_converter(served, function)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (
        {"images": image[np.newaxis]} for image in _with_whole_range(images)
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.float32
    content = tflite.convert(converter, NAME)
    (folder / tflite.FILE).write_bytes(content)


def _with_whole_range(images):
    """Images of which one has a pixel of 0 and one of 1.

    The range that the input has in them becomes 0..255.
    """
    first = images[0].copy()
    first.flat[0], first.flat[-1] = 0, 1
    return [first, *images[1:]]


def _check_calibration(images, shape):
    what = (
        f"{NAME} expects `calibration`, float32 images (examples, "
        f"{', '.join(str(size or 'any') for size in shape)}) in [0, 1], such "
        "as 200 of the training split. Received: "
    )
    if images is None:
        raise InputError(f"{what}calibration=None")
    try:
        images = np.asarray(images)
    except ValueError as error:  # Images of different sizes.
        raise InputError(f"{what}calibration ({error})") from error
    fits = len(images.shape) == 4 and all(
        wanted in (None, size)
        for wanted, size in zip(shape, images.shape[1:], strict=True)
    )
    if not fits or 0 in images.shape:
        raise InputError(f"{what}calibration.shape={images.shape}")
    if images.dtype != np.float32:
        raise InputError(f"{what}calibration.dtype={images.dtype}")
    low, high = images.min(), images.max()
    if not 0 <= low <= high <= 1:  # Also false for NaN.
        raise InputError(f"{what}calibration.min={low}, calibration.max={high}")
    return images
