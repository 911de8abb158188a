"""Every format of an exported model answers what Keras answers."""

import functools
import pathlib
import tempfile

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import RobustClassifier
from fastbat_tf.saving.export import export
from fastbat_tf.saving.formats.registry import FORMATS
from tests.support.served_formats import load
from tests.support.served_models import SERVED_MODELS, images_of

# Of the largest logit; measured: 8e-7 (ONNX, whose normalizations are folded
# into convolutions). All formats are float32 inside.
TOLERANCE = 1e-5
# Of a model in bfloat16; measured: 4e-3. SavedModel and Keras round like it.
HALF_TOLERANCE = 2e-2
# Of 8-bit integers; measured: 0.075, of twenty layers without training.
INTEGER_TOLERANCE = 0.15
# What only some formats take.
OPTIONS = {"tflite_int8": "calibration", "stablehlo": "batch_size"}


@functools.cache
def served(name):
    """A model, its images, and what Keras answers about them."""
    model = SERVED_MODELS[name]()
    robust = isinstance(model, RobustClassifier)
    classifier = model.classifier if robust else model
    images = images_of(classifier.input_shape[1:])
    pixels = 255 * images if robust else images
    answers = tf.cast(classifier(pixels, training=False), tf.float32).numpy()
    return model, images, answers


def as_logits(name, answers):
    """What Keras answers as the logits that the other formats give."""
    if name == "softmax":
        return np.log(answers)
    if name == "binary":
        return np.pad(answers, ((0, 0), (1, 0)))
    return answers


def tolerance(name, form):
    if form == "tflite_int8":
        return INTEGER_TOLERANCE
    return HALF_TOLERANCE if name == "half" else TOLERANCE


class ParityTest(parameterized.TestCase, tf.test.TestCase):
    def export(self, name, form, batch_size):
        model, images, _ = served(name)
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        options = {"calibration": images, "batch_size": batch_size}
        taken = {k: options[k] for k in options if k == OPTIONS.get(form)}
        return load(form, export(model, folder / "exported", form, **taken))

    @parameterized.product(name=tuple(SERVED_MODELS), form=tuple(FORMATS))
    @pytest.mark.quick(
        "rich keras", "rich tflite", "rich onnx", "rich stablehlo"
    )
    def test_answers(self, name, form):
        _, images, expected = served(name)
        if form == "tflite_int8":
            images = np.rint(255 * images).astype(np.uint8)
        if form != "keras":
            expected = as_logits(name, expected)
        ask = self.export(name, form, batch_size=5)
        self.assert_close(ask(images), expected, name, form)
        if form == "stablehlo":
            ask = self.export(name, form, batch_size=1)
        self.assert_close(ask(images[3:4]), expected[3:4], name, form)

    def assert_close(self, answers, expected, name, form):
        found = answers["logits"]
        self.assertDTypeEqual(found, np.float32)
        self.assertEqual(found.shape, expected.shape)
        if form != "keras":
            exponentials = np.exp(found - found.max(-1, keepdims=True))
            self.assertAllClose(
                answers["probabilities"],
                exponentials / exponentials.sum(-1, keepdims=True),
                # 8-bit integers are also those of the probabilities.
                atol=1e-6 if form != "tflite_int8" else 2e-2,
            )
            self.assertAllEqual(answers["classes"], found.argmax(-1))
            self.assertDTypeEqual(answers["classes"], np.int64)
        if name == "softmax" and form != "keras":
            # Probabilities tell their logits up to a constant.
            found = found - found.mean(-1, keepdims=True)
            expected = expected - expected.mean(-1, keepdims=True)
        atol = tolerance(name, form) * np.abs(expected).max()
        self.assertAllClose(found, expected, rtol=0, atol=atol)


if __name__ == "__main__":
    tf.test.main()
