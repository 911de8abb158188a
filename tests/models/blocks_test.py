"""Tests what the model families share."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import models
from fastbat_tf.models import blocks

LAYERS = blocks.Layers("relu", None, blocks.uniform_fan_in)


def ones(x, function):
    """A model of `function` with kernels of ones."""
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, function(inputs))
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            layer.kernel.assign(tf.ones_like(layer.kernel))
    return model(x).numpy()


class BlocksTest(tf.test.TestCase, parameterized.TestCase):
    def test_tables_agree(self):
        self.assertSameElements(blocks.ACTIVATIONS, models.ACTIVATIONS)

    def test_stride_pads_both_sides(self):
        """A convolution of stride 2 on an even image starts one pixel before
        the image, as PyTorch's with padding 1; "same" starts at it."""
        image = np.arange(16.0, dtype="float32").reshape(1, 4, 4, 1)
        y = ones(image, lambda x: LAYERS.convolution(x, 1, 3, 2, "conv"))
        expected = [[0 + 1 + 4 + 5, 1 + 2 + 3 + 5 + 6 + 7]]
        self.assertAllClose(y[:, 0, :, 0], expected)

    @parameterized.parameters("cifar", "imagenet")
    def test_stem(self, kind):
        image = np.random.default_rng(0).normal(-1.0, 1.0, (1, 16, 16, 1))
        y = ones(image.astype("float32"), lambda x: LAYERS.stem(x, 1, kind))
        radius, stride = (3, 2) if kind == "imagenet" else (1, 1)
        padded = np.pad(image[0, :, :, 0], radius)
        positions = range(0, 16, stride)
        size = 2 * radius + 1
        expected = np.array(
            [
                [padded[i : i + size, j : j + size].sum() for j in positions]
                for i in positions
            ]
        )
        if kind == "imagenet":
            # No value outside of the image is the maximum.
            padded = np.pad(expected, 1, constant_values=-np.inf)
            expected = np.array(
                [
                    [padded[i : i + 3, j : j + 3].max() for j in (0, 2, 4, 6)]
                    for i in (0, 2, 4, 6)
                ]
            )
            self.assertLess(expected.min(), 0)
        self.assertAllClose(y[0, :, :, 0], expected, 1e-5, 1e-5)

    def test_softplus_is_smooth_relu(self):
        x = tf.constant([-3.0, -0.1, 0.0, 0.1, 1.9999, 2.0001, 50.0])
        expected = np.log1p(np.exp(10 * x.numpy().astype("float64"))) / 10
        expected[-1] = 50.0
        self.assertAllClose(blocks.softplus10(x), expected, 1e-5, 1e-7)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = blocks.softplus10(x)
        expected = 1 / (1 + np.exp(-10 * x.numpy().astype("float64")))
        self.assertAllClose(tape.gradient(y, x), expected, 1e-5, 1e-6)

    @parameterized.parameters("resnet18", "preact_resnet18")
    def test_uniform_by_fan_in(self, name):
        keras.utils.set_random_seed(0)
        model = models.get(name, width=16)
        for layer in (
            model.get_layer("group3.block2.conv1"),
            model.get_layer("head.dense"),
        ):
            kernel = layer.kernel.numpy()
            limit = np.prod(kernel.shape[:-1]) ** -0.5
            self.assertAllInRange(kernel, -limit, limit)
            self.assertAllClose(kernel.std(), limit / 3**0.5, rtol=0.05)
        bias = model.get_layer("head.dense").bias.numpy()
        self.assertAllInRange(bias, -limit, limit)
        self.assertGreater(np.abs(bias).max(), 0)


if __name__ == "__main__":
    tf.test.main()
