"""Tests the gradient-alignment score against gradients derived by hand."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from fastbat_tf import GradientAlignment
from fastbat_tf.draws import Draws, as_normal
from tests.support import testing


def linear_network(classes=2):
    """For two classes, the gradient has the same direction everywhere."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(inputs)
    return keras.Model(inputs, keras.layers.Dense(classes)(x))


def draw_noise(norm, first, count):
    """Uniform in the ball of radius 1."""
    draws, shape = Draws(4, first), (count, 8, 8, 3)
    if norm == "linf":
        return draws.uniform("alignment", shape, -1.0, 1.0, tf.float32).numpy()
    shares = draws.uniform("alignment", shape, 0.0, 1.0, tf.float32)
    normal = as_normal(shares).numpy()
    radius = draws.uniform(
        "alignment_radius", (count, 1, 1, 1), 0.0, 1.0, tf.float32
    )
    lengths = np.sqrt(np.sum(normal**2, (1, 2, 3), keepdims=True))
    return normal / lengths * radius.numpy() ** (1 / 192)


class GradientAlignmentTest(tf.test.TestCase, parameterized.TestCase):
    def test_a_linear_network(self):
        images, labels = testing.images_and_labels(10, classes=2)
        score = GradientAlignment(linear_network())
        self.assertAlmostEqual(score(images, labels, 0.1), 1.0, places=5)

    def test_a_constant_network(self):
        images, labels = testing.images_and_labels(5)

        def network(points):
            return 0.0 * points[:, 0, 0, :1] + tf.one_hot([1], 4)

        self.assertEqual(GradientAlignment(network)(images, labels, 0.1), 1)

    def test_tiny_gradients_count(self):
        """The product of two squares of 1e-11 underflows in float32."""
        images, labels = testing.images_and_labels(5)
        network = testing.small_network(activation="relu")
        scores = [
            GradientAlignment(lambda x, scale=scale: scale * network(x))(
                images, labels, 0.3
            )
            for scale in (1e-3, 1e-11)
        ]
        self.assertAlmostEqual(*scores, places=3)
        self.assertLess(scores[0], 0.99)

    @parameterized.parameters(
        (1, "linf", 0.3),
        (3, "linf", 0.3),
        (7, "linf", 0.3),
        (250, "linf", 0.3),
        (3, "l2", 3.0),
    )
    def test_by_hand(self, batch_size, norm, epsilon):
        images, labels = testing.images_and_labels(7)
        network = testing.small_network(activation="relu")
        noise = epsilon * np.concatenate(
            [
                draw_noise(norm, first, min(batch_size, 7 - first))
                for first in range(0, 7, batch_size)
            ]
        )
        cosines = []
        for image, label, moved in zip(images, labels, noise, strict=True):
            gradients = []
            for point in (image, image + moved):
                point = tf.constant(point)[tf.newaxis]
                with tf.GradientTape() as tape:
                    tape.watch(point)
                    loss = keras.losses.sparse_categorical_crossentropy(
                        label[np.newaxis], network(point, training=False), True
                    )
                gradients.append(tape.gradient(loss, point).numpy().ravel())
            first, second = gradients
            length = np.linalg.norm(first) * np.linalg.norm(second)
            cosines.append(first @ second / length)
        score = GradientAlignment(
            lambda points: network(points, training=False),
            batch_size,
            norm=norm,
        )
        found = score(images, labels, epsilon, seed=4)
        self.assertAlmostEqual(found, np.mean(cosines), places=5)
        self.assertLess(found, 0.99)
        self.assertNotEqual(found, score(images, labels, epsilon, seed=5))

    def test_uint8_images(self):
        images, labels = testing.images_and_labels(4)
        images = np.round(255 * images).astype("uint8")
        score = GradientAlignment(testing.small_network())
        self.assertEqual(
            score(images, labels, 0.1),
            score(images.astype("float32") / 255, labels, 0.1),
        )

    def test_no_path_to_the_images(self):
        images, labels = testing.images_and_labels(4)
        score = GradientAlignment(lambda x: tf.zeros((tf.shape(x)[0], 4)))
        self.assertEqual(score(images, labels, 8 / 255), 1.0)


if __name__ == "__main__":
    absltest.main()
