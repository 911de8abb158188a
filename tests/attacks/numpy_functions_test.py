"""Attacks on functions of NumPy arrays, and on broken gradients."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import attacks
from fastbat_tf.errors import InputError
from tests.support.attack_problems import SIZE, between, linear_problem

PROBLEM = linear_problem(12, classes=3)
EPSILON = between(PROBLEM.radii["linf"], 4)
PGD = attacks.PGD(EPSILON, steps=10)


def numpy_network(images):
    """`PROBLEM.network`, by NumPy."""
    assert isinstance(images, np.ndarray)  # As scikit-learn asks for.
    logits = PROBLEM.network(tf.constant(images)).numpy()
    images *= 2  # Its own copy, to which it may write.
    return logits.astype(np.float64).reshape(len(images), -1)


class NumpyTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(False, True)
    def test_square_takes_any_function(self, jit_compile):
        attack = attacks.Square(EPSILON, 30, jit_compile=jit_compile)
        known = attack(PROBLEM.network, PROBLEM.images, PROBLEM.labels)
        found = attack(numpy_network, PROBLEM.images, PROBLEM.labels)
        self.assertAllEqual(found.robust, known.robust)
        self.assertAllClose(found.images, known.images, atol=1e-6)
        self.assertLess(found.robust.sum(), (PROBLEM.radii["linf"] > 0).sum())

    def test_in_the_range_of_the_function(self):
        attack = attacks.Square(EPSILON, 5)
        found = attack(
            lambda images: numpy_network(images / np.float32(255)),
            np.round(255 * PROBLEM.images).astype(np.uint8),
            PROBLEM.labels,
            pixel_range=(0, 255),
        )
        self.assertGreater(found.images.max(), 1)

    def test_a_function_that_takes_tensors_but_cannot_be_traced(self):
        def network(images):
            if tf.reduce_max(images) > 2:  # A Python condition.
                raise AssertionError
            return PROBLEM.network(images)

        attack = attacks.Square(EPSILON, 5)
        found = attack(network, PROBLEM.images, PROBLEM.labels)
        known = attack(PROBLEM.network, PROBLEM.images, PROBLEM.labels)
        self.assertAllEqual(found.robust, known.robust)

    def test_as_the_victim_of_a_transfer(self):
        attack = attacks.Transfer(PROBLEM.network, "pgd-10-1", EPSILON)
        found = attack(numpy_network, PROBLEM.images, PROBLEM.labels)
        self.assertAllEqual(found.robust, PROBLEM.radii["linf"] > EPSILON)

    @parameterized.parameters(
        PGD,
        attacks.AutoAttack(),
        attacks.FAB(),
        attacks.Transfer(numpy_network, "fgsm"),
    )
    def test_others_need_gradients(self, attack):
        network = numpy_network
        if isinstance(attack, attacks.Transfer):
            network = PROBLEM.network
        with self.assertRaisesRegex(
            InputError, r"gradients.*Square.*Received: model without gradient"
        ) as caught:
            attack(network, PROBLEM.images, PROBLEM.labels)
        self.assertNotIn("\n", str(caught.exception))

    @parameterized.parameters(
        lambda images: tf.ensure_shape(
            # TensorFlow hands out its own memory.
            tf.numpy_function(
                lambda images: numpy_network(images.copy()),
                [images],
                tf.float64,
            ),
            (None, 3),
        ),
        lambda images: PROBLEM.network(tf.stop_gradient(images)),
        lambda images: PROBLEM.network(tf.round(images)),
    )
    def test_a_broken_gradient(self, network):
        with self.assertRaisesRegex(InputError, "Square.*without gradient"):
            PGD(network, PROBLEM.images, PROBLEM.labels)
        attacks.Square(EPSILON, 2)(network, PROBLEM.images, PROBLEM.labels)

    @parameterized.parameters(
        (lambda images: images.argmax(axis=3).sum((1, 2)), r"\(1,\)"),
        (lambda images: images.astype(np.float64), r"\(1, .* for 1 image"),
        (lambda images: None, "None"),
    )
    def test_no_logits(self, network, shape):
        with self.assertRaisesRegex(InputError, f"logits.*shape={shape}"):
            attacks.Square(EPSILON, 2)(network, PROBLEM.images, PROBLEM.labels)

    def test_errors_of_the_function(self):
        calls = []

        def fails(images):
            calls.append(np.asarray(images))
            if len(calls) > 3:
                raise RuntimeError("The server is gone.")
            return numpy_network(calls[-1])

        attack = attacks.Square(EPSILON, 9)
        with self.assertRaisesRegex(InputError, "cannot classify.*matmul"):
            attack(
                lambda images: (
                    images.reshape(len(images), -1) @ np.ones((SIZE + 1, 3))
                ),
                PROBLEM.images,
                PROBLEM.labels,
            )
        with self.assertRaisesRegex(RuntimeError, "^The server is gone.$"):
            attack(fails, PROBLEM.images, PROBLEM.labels)
        with self.assertRaisesRegex(InputError, "logits.*12, 3.*12, 2"):
            attack(
                lambda images: numpy_network(images)[
                    :, : 2 + (len(images) < 2)
                ],
                PROBLEM.images,
                PROBLEM.labels,
            )


if __name__ == "__main__":
    tf.test.main()
