"""The gradient of the projective transform is its transpose."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.layers.projective_transform import projective_transform

HEIGHT, WIDTH = 5, 6
TRANSFORMS = {
    "shift": [1, 0, 1.37, 0, 1, -2.2, 0, 0],
    "far": [1, 0, 14.3, 0, 1, -21.2, 0, 0],
    "rotate": [0.8, -0.6, 2.1, 0.6, 0.8, -1.3, 0, 0],
    "zoom": [1.9, 0, -2.2, 0, 2.1, -2.4, 0, 0],
    "perspective": [1.1, 0.2, -0.4, 0.1, 0.9, 0.3, 0.05, -0.03],
}


class ProjectiveTransformTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        fill_mode=("CONSTANT", "NEAREST", "REFLECT", "WRAP"),
        interpolation=("BILINEAR", "NEAREST"),
    )
    def test_gradient(self, fill_mode, interpolation):
        settings = {
            "output_shape": [HEIGHT, WIDTH],
            "fill_value": 0.0,
            "fill_mode": fill_mode,
            "interpolation": interpolation,
        }
        # Each image has one pixel, so that the results are the whole matrix.
        pixels = np.eye(HEIGHT * WIDTH, dtype="float32")
        pixels = pixels.reshape(-1, HEIGHT, WIDTH, 1)
        upstream = np.random.default_rng(0).normal(size=(1, HEIGHT, WIDTH, 2))
        upstream = tf.constant(upstream, tf.float32)
        for name, numbers in TRANSFORMS.items():
            transforms = tf.constant([numbers], tf.float32)
            matrix = tf.raw_ops.ImageProjectiveTransformV3(
                images=pixels,
                transforms=tf.repeat(transforms, len(pixels), 0),
                **settings,
            )
            expected = tf.einsum("phwc,bhwd->bpd", matrix, upstream)
            images = tf.random.uniform([1, HEIGHT, WIDTH, 2])
            with tf.GradientTape() as outer:
                outer.watch(upstream)
                with tf.GradientTape() as tape:
                    tape.watch(images)
                    outputs = projective_transform(
                        images=images, transforms=transforms, **settings
                    )
                found = tape.gradient(
                    outputs, images, output_gradients=upstream
                )
            self.assertAllClose(
                tf.reshape(found, expected.shape), expected, 1e-5, 1e-5, name
            )
            # It is linear in `upstream`: its derivative is the transform.
            again = outer.gradient(found, upstream, output_gradients=images)
            self.assertAllClose(again, outputs, 1e-5, 1e-5, name)


if __name__ == "__main__":
    tf.test.main()
