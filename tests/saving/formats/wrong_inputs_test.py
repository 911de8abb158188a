"""Wrong images are refused, or answered by NaN, in every format."""

import functools
import pathlib
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized
from keras import layers

from fastbat_tf.saving.export import export
from fastbat_tf.saving.formats.registry import FORMATS
from fastbat_tf.saving.served import TOLERANCE
from tests.support.served_formats import load
from tests.support.served_models import images_of

IMAGES = images_of((8, 6, 3), 4)[2:]


def with_pixel(value):
    """The images, the second of which has another pixel."""
    images = IMAGES.copy()
    images[1, 3, 2, 1] = value
    return images


# No runtime can take these for images.
WRONG_SHAPES = {
    "lower": IMAGES[:, :7],
    "higher": np.concatenate([IMAGES, IMAGES], axis=1),
    "half": IMAGES[:, :4, :3],
    "one row": IMAGES[:, :1],
    "turned": IMAGES.transpose(0, 2, 1, 3),
    "gray": IMAGES[..., :1],
    "alpha": np.concatenate([IMAGES, IMAGES[..., :1]], axis=-1),
    "channels first": IMAGES.transpose(0, 3, 1, 2),
    "single": IMAGES[1],
    "flat": IMAGES.reshape(2, -1),
}
WRONG_TYPES = ("float64", "float16", "int32", "bool")
WRONG_PIXELS = {
    "nan": with_pixel(np.nan),
    "inf": with_pixel(np.inf),
    "-inf": with_pixel(-np.inf),
    "above": with_pixel(1 + 10 * TOLERANCE),
    "below": with_pixel(-10 * TOLERANCE),
    "255": IMAGES * np.float32([1, 255]).reshape(2, 1, 1, 1),
}
# Keras takes images of any size that the layers take, and converts types.
KERAS_REFUSES = (
    "one row",
    "half",
    "gray",
    "alpha",
    "channels first",
    "single",
    "flat",
)


@functools.cache
def exported(form):
    """A function that asks a model that takes the mean of all positions."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(IMAGES.shape[1:])
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    x = layers.Conv2D(4, 5, activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(3)(x))
    options = {
        "tflite_int8": {"calibration": IMAGES},
        "stablehlo": {"batch_size": len(IMAGES)},
    }
    with tempfile.TemporaryDirectory() as directory:
        folder = pathlib.Path(directory, "exported")
        ask = load(form, export(model, folder, form, **options.get(form, {})))
        ask(right(form))  # Some runtimes read the file only now.
    return ask


def right(form):
    return as_taken(form, IMAGES)


def as_taken(form, images):
    """Images in the type that a format takes."""
    if form != "tflite_int8":
        return images
    return np.rint(255 * images).astype(np.uint8)


class WrongInputsTest(parameterized.TestCase, tf.test.TestCase):
    def assert_refused(self, form, images):
        error = (tf.errors.InvalidArgumentError, ValueError)
        if form.startswith("tflite"):
            error = (RuntimeError, ValueError)
        if form == "onnx":
            from onnxruntime.capi import onnxruntime_pybind11_state

            error = onnxruntime_pybind11_state.InvalidArgument
        with self.assertRaises(error):
            exported(form)(images)

    @parameterized.parameters(*FORMATS)
    @pytest.mark.quick("tflite", "onnx", "stablehlo")
    def test_shapes(self, form):
        before = exported(form)(right(form))["logits"]
        for name, images in WRONG_SHAPES.items():
            with self.subTest(name):
                if form != "keras" or name in KERAS_REFUSES:
                    self.assert_refused(form, as_taken(form, images))
                # The next request is answered.
                after = exported(form)(right(form))["logits"]
                self.assertAllEqual(after, before)

    @parameterized.parameters(*FORMATS)
    @pytest.mark.quick("tflite", "onnx", "stablehlo")
    def test_types(self, form):
        other = "float32" if form == "tflite_int8" else "uint8"
        for name in (*WRONG_TYPES, other):
            images = IMAGES * 255 if name == "uint8" else IMAGES
            with self.subTest(name):
                if form == "keras":
                    answers = exported(form)(images.astype(name))
                    self.assertLen(answers["logits"], len(IMAGES))
                else:
                    self.assert_refused(form, images.astype(name))

    @parameterized.parameters(*(f for f in FORMATS if f != "tflite_int8"))
    @pytest.mark.quick("tflite", "onnx", "stablehlo")
    def test_pixels(self, form):
        expected = exported(form)(IMAGES)
        for name, images in WRONG_PIXELS.items():
            with self.subTest(name):
                if form == "saved_model":
                    self.assert_refused(form, images)
                    continue
                answers = exported(form)(images)
                # The other image of the batch is answered.
                self.assertAllClose(
                    answers["logits"][0], expected["logits"][0], 1e-6
                )
                if form != "keras":
                    self.assertAllEqual(np.isnan(answers["logits"][1]), [1] * 3)
                    self.assertTrue(np.isnan(answers["probabilities"][1]).all())
                    self.assertEqual(answers["classes"][1], -1)
                    self.assertGreaterEqual(answers["classes"][0], 0)

    @parameterized.parameters(*(f for f in FORMATS if f != "tflite_int8"))
    @pytest.mark.quick("tflite", "onnx", "stablehlo")
    def test_rounding(self, form):
        """Pixels that are outside by rounding count as 0 and 1."""
        for value, near in ((0, -TOLERANCE / 2), (1, 1 + TOLERANCE / 2)):
            expected = exported(form)(with_pixel(value))["logits"]
            found = exported(form)(with_pixel(near))["logits"]
            self.assertAllClose(found, expected, atol=1e-4)

    @parameterized.parameters(*FORMATS)
    @pytest.mark.quick("tflite", "onnx", "stablehlo")
    def test_an_empty_batch(self, form):
        """It is refused, or there is no answer."""
        images = right(form)[:0]
        if form != "onnx":
            self.assert_refused(form, images)
            return
        for answer in exported(form)(images).values():
            self.assertEmpty(answer)


if __name__ == "__main__":
    tf.test.main()
