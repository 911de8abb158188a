"""Tests counts, names, initialization and dropout of WideResNet.

Its outputs and derivatives are compared with recorded steps in
golden_steps_test.
"""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import (
    FastAT,
    FastBAT,
    RobustClassifier,
    models,
)
from tests.support import golden_network, testing

RECORDED = (
    pathlib.Path(__file__).parents[1] / "golden/wrn10w1_fast_bat_eps8.npz"
)


def count(depth, widening, classes=10):
    """Counts the parameters of a WideResNet by hand."""
    total, channels = 27 * 16, 16
    for filters in (16 * widening, 32 * widening, 64 * widening):
        total += channels * filters  # The convolution on the shortcut.
        for _ in range((depth - 4) // 6):
            total += 9 * channels * filters + 9 * filters**2
            total += 2 * channels + 2 * filters  # BatchNorm.
            channels = filters
    return total + 2 * channels + (channels + 1) * classes


class WideResNetTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ("wrn22_8", 17_158_106),
        ("wrn28_10", 36_479_194),
        ("wrn34_10", 46_160_474),
        ("wrn40_10", 55_841_754),
        ("wrn70_2", count(70, 2)),
    )
    def test_parameter_count(self, name, expected):
        counted = testing.count_trainable(lambda: models.get(name))
        self.assertEqual(counted, expected)

    @parameterized.parameters(
        (22, 8, 17_158_106), (34, 10, 46_160_474), (70, 16, 266_796_506)
    )
    def test_the_formula(self, depth, widening, expected):
        self.assertEqual(count(depth, widening), expected)

    def test_silu_has_no_weights(self):
        """The network of Gowal et al. 2020 and of those who follow them."""
        counted = testing.count_trainable(
            lambda: models.get("wrn28_10", activation="silu", padding="same")
        )
        self.assertEqual(counted, count(28, 10))
        self.assertAlmostEqual(counted / 1e6, 36.5, 1)

    def test_silu(self):
        """x / (1 + exp(-x)); the model is that of `swish`, by every name."""
        given, other = (
            models.get("wrn10_1", input_shape=(8, 8, 3), activation=name)
            for name in ("silu", "swish")
        )
        self.assertEqual(given.to_json(), other.to_json())
        x = np.linspace(-9, 9, 50)
        layers = [
            layer
            for layer in given.layers
            if isinstance(layer, keras.layers.Activation)
        ]
        self.assertLen(layers, 7)
        for layer in layers:
            self.assertAllClose(layer(x), x / (1 + np.exp(-x)), 1e-5)

    def test_same_padding_is_that_of_tensorflow(self):
        default = models.get("wrn10_1", input_shape=(8, 8, 3))
        model = models.get("wrn10_1", input_shape=(8, 8, 3), padding="same")
        self.assertEqual(
            [(v.path, v.shape) for v in model.weights],
            [(v.path, v.shape) for v in default.weights],
        )
        padded = [x.name for x in default.layers if x.name.endswith(".pad")]
        self.assertEqual(
            padded, ["group2.block1.conv1.pad", "group3.block1.conv1.pad"]
        )
        names = [layer.name for layer in model.layers]
        self.assertNoCommonElements(names, padded)
        layer = model.get_layer("group2.block1.conv1")
        x = tf.random.stateless_normal((1, 8, 8, 16), (1, 2))
        edges = ((0, 0), (0, 1), (0, 1), (0, 0))
        expected = tf.nn.conv2d(
            tf.pad(x, edges), tf.constant(layer.kernel), 2, "VALID"
        )
        self.assertAllClose(layer(x), expected, rtol=1e-5, atol=1e-5)

    def test_names(self):
        model = models.get("wrn16_1")
        names = {v.path for v in model.weights}
        self.assertContainsSubset(
            {
                "stem.conv/kernel",
                # Even if the shape does not change.
                "group1.block1.shortcut_conv/kernel",
                "group2.block2.bn2/moving_mean",
                "group3.block2.conv2/kernel",
                "head.bn/gamma",
                "head.dense/kernel",
            },
            names,
        )
        self.assertNotIn("group1.block2.shortcut_conv/kernel", names)
        self.assertNotIn("group4.block1.conv1/kernel", names)

    def test_initialization_is_that_of_the_recorded_network(self):
        """N(0, 2 / fan_in), in ours and in the recorded network."""
        recorded = golden_network.weights_of(
            golden_network.load(RECORDED), "weights0"
        )
        keras.utils.set_random_seed(0)
        ours = golden_network.named_weights(models.get("wrn16_1"))
        compared = 0
        for name, theirs in recorded.items():
            if "conv" not in name:
                continue
            deviation = (2 / np.prod(theirs.shape[:-1])) ** 0.5
            # Five standard errors.
            tolerance = 5 / (2 * theirs.size) ** 0.5
            for kernel in (theirs, ours[name].numpy()):
                self.assertAllClose(kernel.std() / deviation, 1.0, 0, tolerance)
                compared += kernel.size
            if theirs.size > 9000:  # Not truncated at 2 deviations.
                self.assertGreater(np.abs(ours[name]).max() / deviation, 2.5)
        self.assertGreater(compared, 300_000)

    def test_dropout(self):
        keras.utils.set_random_seed(0)
        model = models.get("wrn10_1", dropout=0.4)
        dropped = [
            layer
            for layer in model.layers
            if isinstance(layer, keras.layers.Dropout)
        ]
        self.assertEqual([x.rate for x in dropped], [0.4] * 3)
        self.assertIs(
            model.get_layer("group2.block1.conv2").input, dropped[1].output
        )
        self.assertIs(
            dropped[1].input, model.get_layer("group2.block1.bn2.relu").output
        )
        images, _ = testing.images_and_labels(2, size=32)
        first, second = (model(images, training=True) for _ in range(2))
        self.assertNotAllClose(first, second)
        first, second = (model(images, training=False) for _ in range(2))
        self.assertAllEqual(first, second)
        names = [layer.name for layer in models.get("wrn10_1").layers]
        self.assertNotIn("group1.block1.dropout", names)

    @parameterized.parameters(("replicas", FastBAT), ("xla", FastAT))
    # `randomness_test.py` compiles layers that draw.
    @pytest.mark.quick("replicas")
    def test_dropout_in_a_step(self, where, method):
        strategy = tf.distribute.get_strategy()
        if where == "replicas":
            strategy = testing.two_cpu_strategy()
        images, labels = testing.images_and_labels(4)
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = models.get(
                "wrn10_1",
                input_shape=(8, 8, 3),
                dropout=0.4,
                batch_normalization=testing.ZOO_NORMALIZATION,
            )
            robust = RobustClassifier(model, method())
            robust.compile(
                keras.optimizers.SGD(0.1), jit_compile=where == "xla"
            )
        history = robust.fit(images, labels, batch_size=4, verbose=0).history
        for name, values in history.items():
            self.assertTrue(np.isfinite(values).all(), name)


if __name__ == "__main__":
    tf.test.main()
