"""Tests FAB, the attack that searches for the nearest adversarial image."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.attacks.fab import FAB
from fastbat_tf.errors import InputError
from tests.support.attack_problems import (
    NORMS,
    SHAPE,
    SIZE,
    between,
    linear_problem,
    predictions,
    sizes,
    smallest_step,
)


class HyperplaneTest(parameterized.TestCase, tf.test.TestCase):
    """Tests the projection against a bisection in NumPy."""

    def project(self, norm, points, normals, gaps):
        attack = FAB(norm=norm)
        count = len(points)
        steps = attack.to_hyperplane(
            tf.reshape(tf.constant(points, tf.float32), (count, *SHAPE)),
            tf.reshape(tf.constant(normals, tf.float32), (count, *SHAPE)),
            tf.reshape(tf.constant(gaps, tf.float32), (count, 1, 1, 1)),
        )
        return steps.numpy().reshape(count, SIZE).astype("float64")

    @parameterized.product(norm=NORMS, bounds=(False, True))
    def test_like_a_bisection(self, norm, bounds):
        random = np.random.default_rng(0)
        count = 60
        points = random.random((count, SIZE))
        if bounds:  # Half of the pixels are at a bound or close to it.
            near = random.choice((0.0, 1e-3, 0.99, 1.0), points.shape)
            points = np.where(random.random(points.shape) < 0.5, near, points)
        points = points.astype("float32")
        # Weights of all magnitudes, and gaps of both signs and all sizes.
        normals = random.normal(size=(count, SIZE))
        normals *= 10 ** random.uniform(-3, 3, (count, 1))
        normals = normals.astype("float32")
        sign = np.where(np.arange(count) % 2, 1, -1)
        toward = sign[:, np.newaxis] * normals
        room = np.where(toward > 0, 1 - points, points)
        most = (np.abs(normals) * room).sum(axis=1)
        gaps = sign * most * random.choice((0.001, 0.05, 0.5, 0.95), count)
        gaps = gaps.astype("float32")
        steps = self.project(norm, points, normals, gaps)
        for point, normal, gap, step in zip(
            points, normals, gaps, steps, strict=True
        ):
            expected, reached = smallest_step(point, normal, gap, norm)
            self.assertTrue(reached)
            self.assertAllClose(step, expected, atol=1e-4, rtol=0)
            self.assertAllClose(normal @ step, gap, rtol=1e-4)
        self.assertAllInRange(points + steps, -1e-7, 1 + 1e-7)

    @parameterized.parameters(*NORMS)
    def test_gap_that_no_image_gives(self, norm):
        random = np.random.default_rng(1)
        points = random.random((4, SIZE)).astype("float32")
        normals = random.normal(size=(4, SIZE)).astype("float32")
        normals[:, :5] = 0
        for sign in (1, -1):
            gaps = np.full(4, sign * 1e3)
            steps = self.project(norm, points, normals, gaps)
            ends = np.where(sign * normals > 0, 1.0, 0.0)
            ends[:, :5] = points[:, :5]  # This pixel would contribute nothing.
            self.assertAllClose(points + steps, ends, atol=1e-6)
            expected, reached = smallest_step(
                points[0], normals[0], gaps[0], norm
            )
            self.assertFalse(reached)
            self.assertAllClose(steps[0], expected, atol=1e-6)

    @parameterized.parameters(*NORMS)
    def test_gap_that_only_the_corner_gives(self, norm):
        random = np.random.default_rng(2)
        points = random.random((4, SIZE)).astype("float32")
        normals = random.normal(size=(4, SIZE)).astype("float32")
        ends = np.where(normals > 0, 1.0, 0.0)
        gaps = (normals * (ends - points)).sum(axis=1)
        steps = self.project(norm, points, normals, gaps)
        self.assertAllClose((normals * steps).sum(axis=1), gaps, rtol=1e-4)

    @parameterized.parameters(*NORMS)
    def test_nothing_to_do(self, norm):
        random = np.random.default_rng(3)
        points = random.random((2, SIZE))
        normals = random.normal(size=(2, SIZE))
        none = self.project(norm, points, normals, np.zeros(2))
        self.assertAllEqual(none, np.zeros((2, SIZE)))
        # Without a gradient there is no step, whatever the gap.
        flat = self.project(norm, points, 0 * normals, np.array([1.0, -1.0]))
        self.assertAllEqual(flat, np.zeros((2, SIZE)))

    @parameterized.parameters(*NORMS)
    def test_tiny_gradients(self, norm):
        random = np.random.default_rng(4)
        points = random.uniform(0.4, 0.6, (3, SIZE))
        normals = random.normal(size=(3, SIZE))
        plain = self.project(norm, points, normals, np.full(3, 0.1))
        for scale in (1e-25, 1e25):
            scaled = self.project(
                norm, points, scale * normals, np.full(3, scale * 0.1)
            )
            self.assertAllClose(scaled, plain, atol=1e-6)


class FABAttackTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.product(norm=NORMS, classes=(2, 3, 6))
    def test_breaks_what_can_be_broken(self, norm, classes):
        problem = linear_problem(30, classes, seed=1)
        radii = problem.radii[norm]
        epsilon = between(radii, 12)
        attack = FAB(steps=10, norm=norm).on(problem.network)
        result = attack(problem.images, problem.labels, epsilon)
        self.assertAllEqual(result.clean_correct, radii > 0)
        self.assertFalse(result.robust[radii < 0.99 * epsilon].any())
        self.assertTrue(result.robust[radii > epsilon].all())
        broken = result.clean_correct & ~result.robust
        found = predictions(problem.network, problem.images + result[2])
        self.assertFalse((found == problem.labels)[broken].any())
        # Failed perturbations are not reported.
        self.assertFalse(result.perturbation[result.robust].any())

    @parameterized.product(norm=NORMS, classes=(2, 4))
    def test_finds_the_nearest_point_of_the_boundary(self, norm, classes):
        # With a radius 1 % above that of each image, not the same for all.
        problem = linear_problem(6, classes, seed=2, wrong=False)
        attack = FAB(steps=20, norm=norm).on(problem.network)
        for number, radius in enumerate(problem.radii[norm]):
            one = slice(number, number + 1)
            data = problem.images[one], problem.labels[one]
            result = attack(*data, 1.01 * radius)
            self.assertFalse(result.robust[0])
            found = sizes(result.perturbation, norm)
            self.assertAllInRange(found / radius, 0.999, 1.0101)
            # And the boundary is never crossed within less.
            self.assertTrue(attack(*data, 0.99 * radius).robust[0])

    @parameterized.parameters(*NORMS)
    def test_bent_boundary(self, norm):
        # The boundary is a sphere: its nearest point is along the line from
        # its center in L2, along a diagonal in L-infinity if it is around it.
        radius = 1.0

        def network(images):
            square = tf.reduce_sum(tf.square(images - 0.5), (1, 2, 3))
            return tf.stack([radius**2 - square, tf.zeros_like(square)], -1)

        random = np.random.default_rng(0)
        heading = random.normal(size=(5, SIZE))
        heading /= np.linalg.norm(heading, axis=1, keepdims=True)
        images = (0.5 + 0.6 * heading).reshape(5, *SHAPE).astype("float32")
        if norm == "l2":
            nearest = np.full(5, 0.4)
        else:
            offset = 0.6 * np.abs(heading)
            total = offset.sum(axis=1)  # |x + t|^2 = 1, solved for t.
            nearest = -total + np.sqrt(total**2 + SIZE * (1 - 0.36))
            nearest /= SIZE
        attack = FAB(steps=30, norm=norm).on(network)
        labels = np.zeros(5, int)
        for number in range(5):
            one = images[number : number + 1], labels[:1]
            self.assertFalse(attack(*one, 1.02 * nearest[number]).robust[0])
            self.assertTrue(attack(*one, 0.98 * nearest[number]).robust[0])

    def test_settings_of_the_walk(self):
        # One step with a single pixel, from 0.5 to a boundary at 0.6.
        images = np.full((1, 1, 1, 1), 0.5, np.float32)

        def network(batch):
            score = batch[:, 0, 0, :1]
            return tf.concat([0.6 - score, 0.0 * score], axis=-1)

        attack = FAB(steps=3)
        problem = {
            "images": tf.constant(images),
            "labels": tf.constant([0]),
            "targets": tf.constant([1]),
        }
        _, state = attack.start(images, [0], [1], 0.2, [None])
        state |= {
            "loss": tf.constant([-np.inf]),
            "predicted": tf.constant([0]),
            "confidence": tf.constant([1.0]),
        }

        def step(point, epsilon=0.2):
            moved = attack.step(
                network,
                problem,
                {**state, "point": tf.fill((1, 1, 1, 1), point)},
                tf.constant(epsilon),
            )
            return {key: value.numpy().ravel() for key, value in moved.items()}

        # From the image, both projections are equal: 5 % too far, then 10 %
        # of it pulled back.
        moved = step(0.5)
        self.assertAllClose(moved["found"], [0.605])
        self.assertAllClose(moved["point"], [0.5 + 0.9 * 0.105])
        self.assertAllEqual(moved["fooled"], [True])
        self.assertAllClose(moved["loss"], [0.005], atol=1e-6)
        # From another point, the share of the image is at most a tenth.
        moved = step(0.3)
        expected = 0.9 * (0.3 + 1.05 * 0.3) + 0.1 * 0.605
        self.assertAllClose(moved["found"], [expected])
        # Or the share given by the distances.
        share = 0.005 / (0.005 + 0.1)
        moved = step(0.595)
        expected = (1 - share) * (0.595 + 1.05 * 0.005) + share * 0.605
        self.assertAllClose(moved["found"], [expected])
        # A point beyond the boundary but outside of the ball is no success.
        moved = step(0.5, epsilon=0.104)
        self.assertAllEqual(moved["fooled"], [False])
        self.assertAllClose(moved["found"], [0.5])
        self.assertAllClose(moved["point"], [0.5 + 0.9 * 0.105])

    def test_asks_twice_a_step(self):
        problem = linear_problem(4, classes=3, wrong=False)
        calls = tf.Variable(0)

        def network(batch):
            calls.assign_add(1)
            return problem.network(batch)

        FAB(steps=7).on(network)(problem.images, problem.labels, 1e-4)
        # One call to classify; seven steps for each other class.
        self.assertEqual(int(calls), 1 + 2 * 7 * 2)

    def test_target_classes(self):
        self.assertEqual(FAB().rounds(10), 9)
        self.assertEqual(FAB().rounds(100), 9)
        self.assertEqual(FAB().rounds(2), 1)
        self.assertEqual(FAB(target_classes=3).rounds(10), 3)
        # The nearest class of some is not the likeliest: one target is not
        # enough where two are.
        problem = linear_problem(40, classes=3, seed=4)
        epsilon = between(problem.radii["l2"], 16)
        one, two = (
            FAB(steps=10, target_classes=classes, norm="l2")
            .on(problem.network)(problem.images, problem.labels, epsilon)
            .robust.sum()
            for classes in (1, 2)
        )
        self.assertGreater(one, two)

    def test_flat_network(self):
        images = np.full((2, *SHAPE), 0.5, np.float32)

        def network(batch):
            return tf.constant([[1.0, 0.0]]) + 0.0 * batch[:, 0, 0, :1]

        result = FAB(steps=3).on(network)(images, np.zeros(2, int), 0.1)
        self.assertAllEqual(result.robust, [True, True])
        self.assertFalse(result.perturbation.any())

    @parameterized.parameters("steps", "target_classes")
    def test_refused(self, name):
        with self.assertRaisesRegex(InputError, f"Received: {name}=0"):
            FAB(**{name: 0})


if __name__ == "__main__":
    tf.test.main()
