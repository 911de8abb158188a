"""Writes a file for LiteRT, in 8-bit integers."""

import pathlib
import warnings

import numpy as np
import tensorflow as tf

from fastbat_tf.errors import InputError
from fastbat_tf.saving.formats import integer_graph, tflite
from fastbat_tf.saving.served import FormatOptions, Served

NAME = "tflite_int8"
PIXELS = (float(np.float32(1 / 255)), 0)
BATCH = 20
LEAST_AGREEMENT = 0.8


def write(served: Served, folder: pathlib.Path, options: FormatOptions) -> None:
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
    with tflite.converting(NAME):
        exact = tflite.trace(served, served.answer)
        prepared = integer_graph.prepare(exact)
        converter = tflite.make_converter(served, prepared)
        content = _quantize(converter, images)
    network = tflite.write_file(folder, content)
    _compare(network, exact, images)


def _quantize(converter, images):
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (
        {"images": image[np.newaxis]} for image in _with_whole_range(images)
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.float32
    return converter.convert()


def _compare(network, exact, images):
    """Warns if 8-bit integers change many answers."""
    if network.input_quantization != PIXELS:
        raise InputError(
            f"LiteRT's converter is expected to make pixels {PIXELS}, scale "
            f"and zero point. Received: {network.input_quantization}"
        )
    agreed = 0
    for first in range(0, len(images), BATCH):
        batch = images[first : first + BATCH]
        classes = exact(tf.constant(batch))["classes"].numpy()
        agreed += (network(batch).argmax(axis=-1) == classes).sum()
    if agreed < LEAST_AGREEMENT * len(images):
        warnings.warn(
            f"In 8-bit integers, {agreed} of {len(images)} images of "
            "calibration keep their class: measure this model before you use "
            "it.",
            stacklevel=2,
        )


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
