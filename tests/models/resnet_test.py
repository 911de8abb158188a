"""Tests counts and names of ResNet, and a recorded network."""

import pathlib

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import models
from tests.support import golden_network, testing

RECORDED = pathlib.Path(__file__).parents[1] / "golden/methods/fgsm_at.npz"


class ResNetTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ("resnet18", 11_173_962),
        ("resnet34", 21_282_122),
        ("resnet50", 23_520_842),
    )
    def test_parameter_count(self, name, count):
        counted = testing.count_trainable(lambda: models.get(name))
        self.assertEqual(counted, count)

    @parameterized.parameters(
        ("resnet18", 11_689_512),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnet152", 60_192_808),
    )
    def test_parameter_count_on_imagenet(self, name, count):
        """With 1000 classes and the 7x7 stem, those of the paper's networks,
        as torchvision counts them."""
        counted = testing.count_trainable(
            lambda: models.get(
                name, num_classes=1000, stem="imagenet", input_shape=(64, 64, 3)
            )
        )
        self.assertEqual(counted, count)

    def test_names(self):
        names = {v.path for v in models.get("resnet50", width=1).weights}
        self.assertContainsSubset(
            {
                "stem.conv/kernel",
                "stem.bn/gamma",
                "group1.block1.conv3/kernel",
                "group1.block1.shortcut_conv/kernel",
                "group4.block3.bn3/moving_variance",
                "head.dense/bias",
            },
            names,
        )
        self.assertNotIn("group1.block2.shortcut_conv/kernel", names)
        names = {v.path for v in models.get("resnet18", width=1).weights}
        self.assertNotIn("group1.block1.shortcut_conv/kernel", names)
        self.assertIn("group2.block1.shortcut_bn/gamma", names)

    def test_recorded_logits(self):
        """A small ResNet-18 after two steps of FGSM-AT, run by its authors'
        program in float32."""
        recording = golden_network.load(RECORDED)
        model = golden_network.build_classifier(recording, "weights2")
        self.assertEqual(model.name, "resnet18")
        logits = model(recording.arrays["x2"], training=False)
        expected = recording.arrays["logits_eval"]
        self.assertGreater(np.abs(expected).max(), 0.1)
        self.assertAllClose(logits, expected, 1e-4, 1e-5)


if __name__ == "__main__":
    tf.test.main()
