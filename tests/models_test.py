"""The model zoo."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

import models
from fastbat_tf import BatchNormalization
from models import preact_resnet
from tests import testing


def count_trainable(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


class PreActResNetTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        ("preact_resnet18", 11_172_170),
        ("preact_resnet34", 21_280_330),
        ("preact_resnet50", 23_513_162),
    )
    def test_parameter_count(self, name, count):
        self.assertEqual(count_trainable(models.get(name)), count)

    @parameterized.parameters(*models.ACTIVATIONS)
    def test_shapes_and_options(self, activation):
        model = models.get(
            "preact_resnet18",
            width=2,
            num_classes=7,
            activation=activation,
            mean=(0.5,) * 3,
            std=(0.25,) * 3,
            input_shape=(16, 24, 3),
            batch_normalization=BatchNormalization,
        )
        self.assertEqual(model.input_shape, (None, 16, 24, 3))
        self.assertEqual(model.output_shape, (None, 7))
        self.assertEqual(model.layers[1].name, "normalization")
        norms = [
            layer
            for layer in model.layers
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        self.assertLen(norms, 17)
        for layer in norms:
            self.assertIsInstance(layer, BatchNormalization)
            self.assertEqual((layer.momentum, layer.epsilon), (0.9, 1e-5))

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
        bottleneck = {v.path for v in models.get("preact_resnet50").weights}
        self.assertIn("group1.block1.conv3/kernel", bottleneck)
        self.assertIn("group1.block1.shortcut_conv/kernel", bottleneck)

    def test_normalization_is_inside(self):
        images, _ = testing.images_and_labels(2, size=32)
        mean, std = np.array([0.5, 0.4, 0.3]), np.array([0.2, 0.3, 0.4])
        inside = models.get("preact_resnet18", width=2, mean=mean, std=std)
        outside = models.get("preact_resnet18", width=2)
        outside.set_weights(inside.get_weights())
        normalized = ((images - mean) / std).astype("float32")
        self.assertAllClose(inside(images), outside(normalized), 1e-4, 1e-5)

    def test_stride_pads_both_sides(self):
        """A convolution of stride 2 on an even image starts one pixel before
        the image, as PyTorch's with padding 1; "same" starts at it."""
        inputs = keras.Input((4, 4, 1))
        x = preact_resnet._convolution(inputs, 1, 3, 2, "conv")
        model = keras.Model(inputs, x)
        model.set_weights([np.ones((3, 3, 1, 1))])
        image = np.arange(16.0).reshape(1, 4, 4, 1)
        expected = [[0 + 1 + 4 + 5, 1 + 2 + 3 + 5 + 6 + 7]]
        self.assertAllClose(model(image)[:, 0, :, 0], expected)

    def test_initialization_is_uniform_by_fan_in(self):
        keras.utils.set_random_seed(0)
        model = models.get("preact_resnet18", width=16)
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

    def test_softplus_is_smooth_relu(self):
        x = tf.constant([-3.0, -0.1, 0.0, 0.1, 1.9999, 2.0001, 50.0])
        expected = np.log1p(np.exp(10 * x.numpy().astype("float64"))) / 10
        expected[-1] = 50.0
        self.assertAllClose(preact_resnet.softplus10(x), expected, 1e-5, 1e-7)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = preact_resnet.softplus10(x)
        expected = 1 / (1 + np.exp(-10 * x.numpy().astype("float64")))
        self.assertAllClose(tape.gradient(y, x), expected, 1e-5, 1e-6)

    def test_tables_agree(self):
        self.assertSameElements(preact_resnet.ACTIVATIONS, models.ACTIVATIONS)

    def test_save_and_load(self):
        model = models.get(
            "preact_resnet18", width=2, mean=[0.5] * 3, std=[1] * 3
        )
        path = f"{self.get_temp_dir()}/model.keras"
        model.save(path)
        images, _ = testing.images_and_labels(2, size=32)
        self.assertAllClose(
            keras.models.load_model(path)(images), model(images)
        )

    @parameterized.parameters(
        ({"depth": 20}, "depth=20"),
        ({"depth": 18, "width": 0}, "width=0"),
        ({"depth": 18, "num_classes": 1}, "num_classes=1"),
        ({"depth": 18, "activation": "gelu"}, "activation=gelu"),
        ({"depth": 18, "mean": [0.5]}, "std=None"),
    )
    def test_refused(self, arguments, received):
        with self.assertRaisesRegex(ValueError, f"Received: .*{received}"):
            preact_resnet.preact_resnet(**arguments)

    def test_unknown_model(self):
        with self.assertRaisesRegex(
            ValueError, "preact_resnet18, .*Received: model=resnet0"
        ):
            models.get("resnet0")


if __name__ == "__main__":
    tf.test.main()
