"""The L2 geometry: directions, balls, projections and their derivative."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import perturbation
from fastbat_tf.draws import Draws, as_normal
from fastbat_tf.errors import InputError

SHAPE = (6, 4, 4, 3)


def normal(seed=0, shape=SHAPE, dtype="float64"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def sizes(delta):
    """L2 norms of the images, in float64."""
    delta = np.asarray(delta).astype("float64")
    return np.linalg.norm(delta.reshape(len(delta), -1), axis=-1)


class NormTest(parameterized.TestCase):
    @parameterized.parameters("L2", "Linf", 2, None)
    def test_another_spelling_is_not_taken_for_the_other_norm(self, norm):
        images = tf.fill(SHAPE, 0.5)
        for call in (
            lambda: perturbation.direction(images, norm),
            lambda: perturbation.project(images, images, 0.1, norm=norm),
            lambda: perturbation.interior_mask(images, images, 0.1, norm=norm),
        ):
            with self.assertRaisesRegex(
                InputError,
                "^Unknown norm. Expected one of linf, l2. Received: "
                f"norm={norm}$",
            ):
                call()


class DirectionTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        dtype=("float64", "float32", "bfloat16"),
        exponent=(0, 30, -35),
        jit_compile=(False, True),
    )
    def test_unit_length_at_any_scale(self, dtype, exponent, jit_compile):
        """Squares of entries below 1e-19 are zero in float32."""
        gradient = normal()
        expected = gradient / sizes(gradient)[:, None, None, None]
        gradient = tf.cast(gradient * 10.0**exponent, dtype)
        find = tf.function(perturbation.direction, jit_compile=jit_compile)
        direction = find(gradient, "l2")
        self.assertEqual(direction.dtype, dtype)
        tolerance = 1e-2 if dtype == "bfloat16" else 1e-5
        self.assertAllClose(direction, expected, tolerance, tolerance)

    def test_bfloat16_adds_many_squares(self):
        """Added in bfloat16, they stop at 256 of them."""
        gradient = tf.ones((1, 64, 64, 3), tf.bfloat16)
        length = sizes(perturbation.direction(gradient, "l2"))
        self.assertAllClose(length, [1], 5e-3)
        self.assertAllClose(
            tf.cast(perturbation.l2_size(gradient), "float32"),
            [[[[np.sqrt(3 * 64**2)]]]],
            1e-2,
        )

    @parameterized.parameters("float32", "bfloat16")
    def test_no_gradient_no_step(self, dtype):
        gradient = tf.cast(normal(), dtype) * np.eye(6)[0][:, None, None, None]
        direction = perturbation.direction(gradient, "l2")
        self.assertAllClose(sizes(direction), np.eye(6)[0], atol=1e-2)
        images = tf.fill(SHAPE, tf.cast(0.5, dtype))
        delta = perturbation.step(
            tf.zeros_like(images),
            tf.zeros_like(images),
            0.1,
            images,
            0.5,
            norm="l2",
        )
        self.assertAllEqual(delta, tf.zeros_like(images))


class BallTest(tf.test.TestCase, parameterized.TestCase):
    def test_uniform(self):
        """In d dimensions, the share r^d of the points is within r."""
        draws, shape = Draws(0, 0), (4000, 2, 2, 1)
        points = perturbation.uniform_in_l2_ball(
            as_normal(draws.uniform("a", shape, 0.0, 1.0, tf.float32)),
            draws.uniform("b", (4000, 1, 1, 1), 0.0, 1.0, tf.float32),
            0.3,
        )
        shares = (sizes(points) / 0.3) ** 4
        self.assertLessEqual(shares.max(), 1 + 1e-5)
        counts, _ = np.histogram(shares, bins=5, range=(0, 1 + 1e-5))
        self.assertAllInRange(counts, 700, 900)
        # No direction is preferred: E[x x^T] = r^2 / (d + 2) I.
        points = points.numpy().reshape(4000, 4)
        covariance = points.T @ points / 4000
        self.assertAllClose(covariance, 0.09 / 6 * np.eye(4), atol=1e-3)

    def test_projection(self):
        images = np.array([0.5, 0.5, 0.9, 0.0]).reshape(1, 2, 2, 1)
        moved = np.array([3.0, 0.0, 4.0, -12.0]).reshape(1, 2, 2, 1)
        delta = perturbation.project(moved, images, 1.3, norm="l2")
        # First a tenth of it, then the pixel range.
        self.assertAllClose(delta.numpy().ravel(), [0.3, 0.0, 0.1, 0.0])
        inside = perturbation.project(moved / 100, images, 1.3, norm="l2")
        self.assertAllClose(inside.numpy().ravel(), [0.03, 0.0, 0.04, 0.0])

    @parameterized.product(
        jit_compile=(False, True), scale=(1e-3, 1, 1e25), epsilon=(0.5, 0)
    )
    def test_float32_stays_in_the_ball_and_in_the_range(
        self, jit_compile, scale, epsilon
    ):
        """The largest excess of 4,000 such images is 2e-7 of the radius."""
        random = np.random.default_rng(1)
        images = random.uniform(-0.2, 1.2, (40, 32, 32, 3)).clip(0, 1)
        images = images.astype("float32")
        moved = normal(2, images.shape, "float32") * np.float32(scale)
        project = tf.function(perturbation.project, jit_compile=jit_compile)
        delta = project(moved, images, epsilon, norm="l2").numpy()
        pixels = images + delta
        received = pixels.astype("float64") - images
        self.assertLessEqual(sizes(received).max(), epsilon * (1 + 1e-6))
        self.assertAllInRange(pixels, 0.0, 1.0)
        if epsilon and scale >= 1:
            self.assertGreater(sizes(received).min(), 0.4)

    @parameterized.product(
        inside=(False, True), clipped=(False, True), norm=("linf", "l2")
    )
    def test_pull_back_is_the_transposed_derivative(
        self, inside, clipped, norm
    ):
        random = np.random.default_rng(3)
        low, high = (0.0, 1.0) if clipped else (0.45, 0.55)
        images = random.uniform(low, high, SHAPE)
        moved = tf.constant(0.3 * random.normal(size=SHAPE))
        vector = random.normal(size=SHAPE)
        epsilon = 30.0 if inside else 0.4
        if not clipped:
            moved /= 10.0
            epsilon /= 10.0
        with tf.GradientTape() as tape:
            tape.watch(moved)
            delta = perturbation.project(moved, images, epsilon, norm=norm)
        expected = tape.gradient(delta, moved, output_gradients=vector)
        pulled_back = perturbation.pull_back(
            vector, moved, images, epsilon, norm=norm
        )
        self.assertAllClose(pulled_back, expected, 1e-12, 1e-12)
        # The situation is the one that is meant.
        moves = tf.reduce_any(tf.abs(delta - moved) > 1e-9, [1, 2, 3])
        self.assertAllEqual(moves, tf.fill(6, clipped or not inside))
        self.assertGreater(np.abs(pulled_back).max(), 0.1)
        # Against differences of the projection itself.
        direction = random.normal(size=SHAPE)
        ahead, behind = (
            perturbation.project(
                moved + sign * 1e-7 * direction, images, epsilon, norm=norm
            )
            for sign in (1, -1)
        )
        self.assertAllClose(
            np.sum(vector * (ahead - behind)) / 2e-7,
            np.sum(pulled_back * direction),
            1e-5,
        )

    def test_interior_of_a_ball_is_bounded_by_pixels_alone(self):
        images = np.array([0.5, 0.0, 1.0, 0.5]).reshape(1, 2, 2, 1)
        delta = np.array([0.4, 0.0, -0.1, 0.5]).reshape(1, 2, 2, 1)
        mask = perturbation.interior_mask(delta, images, 0.4, norm="l2")
        self.assertAllEqual(mask.numpy().ravel(), [1, 0, 1, 0])
        mask = perturbation.interior_mask(delta, images, 0.4)
        self.assertAllEqual(mask.numpy().ravel(), [0, 0, 1, 0])


if __name__ == "__main__":
    tf.test.main()
