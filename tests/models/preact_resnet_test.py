"""Tests the counts and names of PreActResNet.

Its outputs and derivatives are compared with recorded steps in
golden_steps_test.
"""

import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import models
from tests.support import testing


def bottleneck_count(blocks_per_group, width=64, classes=10):
    """Counts the parameters of a PreActResNet of bottlenecks by hand."""
    count, channels = 27 * width, width
    for group, blocks in enumerate(blocks_per_group):
        inner = width * 2**group
        outer = 4 * inner
        count += channels * outer  # The convolution on the shortcut.
        for _ in range(blocks):
            count += channels * inner + 9 * inner**2 + inner * outer
            count += 2 * channels + 2 * inner + 2 * inner  # BatchNorm.
            channels = outer
    return count + 2 * channels + (channels + 1) * classes


class PreActResNetTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ("preact_resnet18", 11_172_170),
        ("preact_resnet34", 21_280_330),
        ("preact_resnet50", 23_513_162),
        ("preact_resnet101", bottleneck_count((3, 4, 23, 3))),
        ("preact_resnet152", bottleneck_count((3, 8, 36, 3))),
    )
    def test_parameter_count(self, name, count):
        counted = testing.count_trainable(lambda: models.get(name))
        self.assertEqual(counted, count)

    def test_the_formula(self):
        self.assertEqual(bottleneck_count((3, 4, 6, 3)), 23_513_162)

    @parameterized.parameters(
        ({"head": "plain"}, "head.bn"), ({"shortcut": "activated"}, None)
    )
    def test_options(self, options, absent):
        default = models.get("preact_resnet18", width=2)
        model = models.get("preact_resnet18", width=2, **options)
        expected = {
            v.path: v.shape
            for v in default.weights
            if v.path.partition("/")[0] != absent
        }
        self.assertEqual({v.path: v.shape for v in model.weights}, expected)

    def test_what_a_shortcut_reads(self):
        for shortcut, before in (
            ("input", "group1.block2.add"),
            ("activated", "group2.block1.bn1.relu"),
        ):
            model = models.get("preact_resnet18", width=2, shortcut=shortcut)
            layer = model.get_layer("group2.block1.shortcut_conv")
            self.assertEqual(layer.input._keras_history[0].name, before)

    def test_names(self):
        names = {v.path for v in models.get("preact_resnet18").weights}
        self.assertContainsSubset(
            {
                "stem.conv/kernel",
                "group1.block1.bn1/gamma",
                "group2.block1.shortcut_conv/kernel",
                "group4.block2.conv2/kernel",
                "head.bn/moving_variance",
                "head.dense/bias",
            },
            names,
        )
        self.assertNotIn("group1.block1.shortcut_conv/kernel", names)
        self.assertNotIn("stem.bn/gamma", names)
        bottleneck = {v.path for v in models.get("preact_resnet50").weights}
        self.assertIn("group1.block1.conv3/kernel", bottleneck)
        self.assertIn("group1.block1.shortcut_conv/kernel", bottleneck)

    @parameterized.parameters(
        # In a basic block it reads the input, in a bottleneck the activation.
        ("preact_resnet18", "group2.block1", "group1.block2.add"),
        ("preact_resnet50", "group2.block1", "group2.block1.bn1.relu"),
    )
    def test_what_the_shortcut_reads(self, name, block, source):
        model = models.get(name, width=2)
        layer = model.get_layer(f"{block}.shortcut_conv")
        self.assertIs(layer.input, model.get_layer(source).output)


if __name__ == "__main__":
    tf.test.main()
