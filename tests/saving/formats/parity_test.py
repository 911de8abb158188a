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

# Of the largest logit. Measured: at most 1.5e-6. Convolutions and sums in
# another order, and normalizations that are folded into convolutions.
TOLERANCE = 1e-5


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

class ParityTest(parameterized.TestCase, tf.test.TestCase):
    def export(self, name, form, batch_size):
        model, images, _ = served(name)
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        options = {"calibration": images, "batch_size": batch_size}
        path = export(
            model,
            folder / "exported",
            form,
            **{k: v for k, v in options.items() if k == OPTIONS.get(form)},
        )
        return load(form, path)

    @parameterized.product(name=tuple(SERVED_MODELS), form=tuple(FORMATS))
    def test_logits(self, name, form):
        _, images, expected = served(name)
        if form != "keras":
            expected = as_logits(name, expected)
        ask = self.export(name, form, batch_size=5)
        found = ask(np.uint8(images*255) if form == "tflite_int8" else images)["logits"]
        if name == "softmax" and form != "keras":
            expected, found = (a - a.mean(-1, keepdims=True) for a in (expected, found))
        print("\n@@", name, form, expected.shape, np.abs(expected).max(), np.abs(found-expected).max()/np.abs(expected).max(), end="")
