"""The images that TensorBoard shows."""

import tempfile
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import absltest
from tensorboard.backend.event_processing import event_accumulator

from fastbat_tf.data.sources import Examples
from fastbat_tf.training import callbacks
from tests.support.small_training import SmallTraining


class PerturbationPanelTest(tf.test.TestCase):
    def validation(self, shift):
        """Labels that equal the predictions, or all differ from them."""
        training = SmallTraining()
        validation = training.validation(epsilon=0.1)
        images, _ = validation.examples
        predicted = np.argmax(training.robust.network(images), axis=-1)
        validation.examples = Examples(images, (predicted + shift) % 4)
        return validation

    def read(self, directory):
        """Reads the panels as arrays, by step."""
        events = event_accumulator.EventAccumulator(
            directory, {event_accumulator.TENSORS: 0}
        ).Reload()
        tags = events.Tags()["tensors"]
        if not tags:
            return {}
        self.assertEqual(tags, ["clean, perturbed, difference"])
        return {
            event.step: tf.io.decode_png(
                event.tensor_proto.string_val[2]
            ).numpy()
            for event in events.Tensors(tags[0])
        }

    def test_three_rows(self):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        validation = self.validation(shift=0)
        validation.examples.labels[1] += 1
        panel = callbacks.PerturbationPanel(validation, directory, columns=3)
        panel.on_train_begin()
        for epoch in (0, 1):
            validation.on_epoch_end(epoch, {})
            panel.on_epoch_end(epoch, {})
        panel.on_train_end()
        panels = self.read(directory)
        self.assertEqual(set(panels), {0, 1})
        # Each pixel is a square of 3 x 3.
        pixels = panels[1][::3, ::3]
        self.assertAllEqual(pixels.repeat(3, 0).repeat(3, 1), panels[1])
        rows = pixels.reshape(3, 8, 3, 8, 3).transpose(0, 2, 1, 3, 4)
        # The first three that are classified correctly; the second is not.
        shown = [0, 2, 3]
        clean = validation.examples.images[shown]
        delta = validation.result.perturbation[shown]
        self.assertAllClose(rows[0], 255 * clean, atol=1)
        self.assertAllClose(rows[1], 255 * (clean + delta), atol=1)
        # -epsilon is black, zero is gray, +epsilon is white.
        self.assertAllClose(rows[2], 255 * (0.5 + 0.5 * delta / 0.1), atol=1)
        self.assertLess(rows[2].min(), 60)
        self.assertGreater(rows[2].max(), 195)

    def test_gray_images(self):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        images = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1))
        validation = mock.Mock()
        validation.attack.epsilon = 0.1
        validation.examples.images = images.astype(np.uint8)
        validation.result.clean_correct = np.ones(4, bool)
        validation.result.perturbation = np.zeros(images.shape, np.float32)
        panel = callbacks.PerturbationPanel(validation, directory, columns=4)
        panel.on_train_begin()
        panel.on_epoch_end(0)
        panel.on_train_end()
        pixels = self.read(directory)[0][::3, ::3]
        self.assertEqual(pixels.shape, (3 * 28, 4 * 28, 1))
        self.assertAllEqual(pixels[:28], np.hstack(images))
        self.assertAllInRange(pixels[56:], 127, 128)

    def test_nothing_to_show(self):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        validation = self.validation(shift=1)
        validation.on_epoch_end(0, {})
        panel = callbacks.PerturbationPanel(validation, directory)
        panel.on_train_begin()
        panel.on_epoch_end(0)
        panel.on_train_end()
        self.assertEqual(self.read(directory), {})


if __name__ == "__main__":
    absltest.main()
