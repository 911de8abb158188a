"""Tests Square, the attack without gradients."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.attacks.square import (
    Square,
    Window,
    bumps,
    square_sizes,
)
from fastbat_tf.errors import InputError
from tests.support import attack_problems
from tests.support.attack_problems import NORMS, between, linear_problem, sizes


def published_share(query):
    """p of the published schedule, in units of 0.8."""
    for last, divisor in (
        (10, 1),
        (50, 2),
        (200, 4),
        (500, 8),
        (1000, 16),
        (2000, 32),
        (4000, 64),
        (6000, 128),
        (8000, 256),
    ):
        if query <= last:
            return 1 / divisor
    return 1 / 512


def published_bumps(size):
    """eta of section 4.3 of arXiv 1912.00049, by loops over rectangles."""

    def rectangles(height, width):
        bump = np.zeros((height, width))
        row, column = height // 2, width // 2
        for k in range(max(height // 2 + 1, width // 2 + 1)):
            for i in range(row - k, row + k + 1):
                for j in range(column - k, column + k + 1):
                    if 0 <= i < height and 0 <= j < width:
                        bump[i, j] += 1 / (k + 1) ** 2
        return bump / np.linalg.norm(bump)

    half = size // 2
    upper, lower = rectangles(half, size), -rectangles(size - half, size)
    pair = np.concatenate([upper, lower])
    return pair / np.linalg.norm(pair)


def published_move(delta, size, corners, *, signs, bump, epsilon):
    """Algorithm 3: moves the mass of two windows and the unused mass to one.

    Args:
        delta: Array `(height, width, channels)`.
        size: Integer, the side of the windows.
        corners: The `(row, column)` of both windows.
        signs: Array `(channels,)`.
        bump: Array `(size, size)`.
        epsilon: Float.
    """
    first, second = (
        np.s_[row : row + size, column : column + size]
        for row, column in corners
    )
    channels = delta.shape[-1]
    unused = max(epsilon**2 - (delta**2).sum(), 0) / channels
    moved = delta.copy()
    moved[first] = moved[second] = 0
    for c in range(channels):
        both = np.zeros(delta.shape[:2], bool)
        both[first] = both[second] = True
        mass = np.sqrt((delta[..., c][both] ** 2).sum() + unused)
        old = delta[first][..., c]
        norm = np.linalg.norm(old)
        new = signs[c] * bump + (old / norm if norm else 0)
        moved[(*first, c)] = new / np.linalg.norm(new) * mass
    return moved * epsilon / np.linalg.norm(moved)


class Recorder:
    """A network without gradients that records its input."""

    def __init__(self, network):
        self.network = network
        self.seen = []

    def __call__(self, batch):
        def look(pixels):
            self.seen.append(pixels.numpy())
            return self.network(pixels)

        return tf.ensure_shape(
            tf.py_function(look, [tf.stop_gradient(batch)], tf.float32),
            (None, 2),
        )


class ScheduleTest(parameterized.TestCase, tf.test.TestCase):
    def test_published_sizes(self):
        found = square_sizes(10000, 32, 32, odd=False)
        shares = [0.8 * published_share(query) for query in range(10000)]
        expected = [max(round((share * 32 * 32) ** 0.5), 1) for share in shares]
        self.assertAllEqual(found, expected)
        self.assertAllEqual(
            found[[0, 10, 11, 50, 51, 4999]], [29, 29, 20, 20, 14, 3]
        )

    def test_odd_sizes_of_l2(self):
        plain = square_sizes(10000, 32, 32, odd=False)
        odd = square_sizes(10000, 32, 32, odd=True)
        expected = np.maximum(plain, 3)
        expected += expected % 2 == 0
        self.assertAllEqual(odd, expected)

    def test_not_rescaled(self):
        self.assertAllEqual(
            square_sizes(300, 32, 32, False),
            square_sizes(5000, 32, 32, False)[:300],
        )

    @parameterized.parameters((1, 1), (2, 5), (4, 4), (28, 20))
    def test_fit_the_image(self, height, width):
        for odd in (False, True):
            found = square_sizes(9000, height, width, odd)
            self.assertAllInRange(found, 1, min(height, width))


class BumpsTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(2, 3, 4, 5, 7, 9)
    def test_published(self, size):
        turned = tf.reshape([False, True], (2, 1, 1, 1))
        window = Window(
            tf.zeros((2, 11, 12, 3)), tf.fill((2, 1, 1, 1), size), 1, 2
        )
        found = bumps(window, turned).numpy()[..., 0]
        expected = np.zeros((2, 11, 12))
        expected[0, 1 : 1 + size, 2 : 2 + size] = published_bumps(size)
        expected[1, 1 : 1 + size, 2 : 2 + size] = published_bumps(size).T
        self.assertAllClose(found, expected, atol=1e-6)
        self.assertAllClose(np.square(found).sum(axis=(1, 2)), [1, 1])

    def test_moves_the_mass(self):
        random = np.random.default_rng(0)
        attack = Square(queries=2, norm="l2")
        shape, epsilon, size = (9, 10, 3), 2.0, 5
        for number in range(6):
            delta = random.normal(size=shape)
            if number == 4:
                delta[:] = 0  # Without any mass.
            # With nearly all of the budget, or half of it.
            share = (0.999, 0.5)[number % 2]
            delta *= share * epsilon / max(np.linalg.norm(delta), 1e-9)
            draws = random.random(4 + 3 + 1).astype("float32")
            down = np.floor(draws[[0, 5]] * (9 - size + 1)).astype(int)
            right = np.floor(draws[[1, 6]] * (10 - size + 1)).astype(int)
            bump = published_bumps(size)
            expected = published_move(
                delta,
                size,
                list(zip(down, right, strict=True)),
                signs=np.where(draws[2:5] < 0.5, -1, 1),
                bump=bump.T if draws[7] < 0.5 else bump,
                epsilon=epsilon,
            )
            found = attack._move_mass(
                tf.constant(delta[np.newaxis], tf.float32),
                tf.fill((1, 1, 1, 1), size),
                draws[np.newaxis],
                tf.constant(epsilon),
            )
            self.assertAllClose(found[0], expected, atol=1e-5)


class SquareAttackTest(parameterized.TestCase, tf.test.TestCase):
    def record(self, norm, queries=40, epsilon=0.05, bounds=False):
        """The queries to a network that is never fooled."""
        random = np.random.default_rng(0)
        images = random.uniform(0.3, 0.7, (2, 8, 8, 3)).astype("float32")
        if bounds:
            images = random.choice((0.0, 0.02, 1.0), images.shape)
            images = images.astype("float32")
        weights = random.normal(size=(8 * 8 * 3, 1)).astype("float32")

        def network(batch):
            score = batch.numpy().reshape(len(batch), -1) @ weights
            return np.concatenate([1e3 - score, 0 * score], axis=1)

        recorder = Recorder(network)
        attack = Square(queries=queries, norm=norm).on(recorder)
        self.assertFalse(attack.white_box)
        result = attack(images, np.zeros(2, int), epsilon)
        self.assertAllEqual(result.robust, [True, True])
        self.assertAllEqual(recorder.seen[0], images)
        scores = [seen.reshape(2, -1) @ weights for seen in recorder.seen]
        queries = np.array(recorder.seen[1:])
        return images, queries, np.array(scores)[1:, :, 0], result

    @parameterized.parameters(*NORMS)
    def test_as_many_queries_as_asked_for(self, norm):
        for count in (1, 2, 49, 50, 51, 120):
            _, queries, _, _ = self.record(norm, count)
            self.assertLen(queries, count)

    @parameterized.product(norm=NORMS, bounds=(False, True))
    def test_keeps_only_what_is_better(self, norm, bounds):
        images, queries, scores, result = self.record(norm, 60, bounds=bounds)
        for example in range(2):
            # The highest score so far, and its query.
            best = scores[:, example].argmax()
            self.assertAllClose(
                images[example] + result.perturbation[example],
                queries[best, example],
                atol=1e-6,
            )
            rises = np.maximum.accumulate(scores[:, example])
            self.assertBetween(len(np.unique(rises)), 3, 50)
            if norm == "linf" and not bounds:
                # A candidate differs from the best one so far in one square.
                sides = square_sizes(60, 8, 8, odd=False)
                for number in range(1, 60):
                    best = scores[:number, example].argmax()
                    differs = np.abs(
                        queries[number, example] - queries[best, example]
                    ).max(axis=-1)
                    differs = differs > 1e-5
                    rows = np.flatnonzero(differs.any(axis=1))
                    columns = np.flatnonzero(differs.any(axis=0))
                    for positions in (rows, columns):
                        if len(positions):
                            extent = positions[-1] - positions[0] + 1
                            self.assertLessEqual(extent, sides[number])

    def test_stripes_first(self):
        images, queries, _, _ = self.record("linf", 1)
        delta = (queries[0] - images) / 0.05
        self.assertAllClose(np.abs(delta), np.ones_like(delta), atol=1e-5)
        # Equal in all rows, for each channel separately.
        self.assertAllClose(delta, delta[:, :1] + 0 * delta, atol=1e-5)
        self.assertLen(np.unique(np.round(delta[:, 0]), axis=-1)[0], 8)
        self.assertNotAllClose(delta[..., 0], delta[..., 1])
        self.assertNotAllClose(delta[0], delta[1])

    def test_every_query_is_a_corner_of_the_ball(self):
        images, queries, _, _ = self.record("linf")
        delta = np.abs(queries - images)
        self.assertAllClose(delta, np.full_like(delta, 0.05), atol=1e-6)
        images, queries, _, _ = self.record("linf", bounds=True)
        delta = queries - images
        cut = (queries == 0) | (queries == 1)
        self.assertAllClose(
            np.abs(delta)[~cut], np.full((~cut).sum(), 0.05), atol=1e-6
        )
        self.assertAllInRange(np.abs(delta), 0, 0.05 + 1e-6)

    def test_every_query_lies_on_the_sphere(self):
        images, queries, _, _ = self.record("l2")
        for query in queries:
            self.assertAllClose(
                sizes(query - images, "l2"), [0.05, 0.05], rtol=1e-4
            )

    def test_signs_and_places_are_uniform(self):
        images, queries, scores, _ = self.record("linf", 400)
        rows, columns, signs = [], [], []
        for number in range(201, 400):  # Squares of 3 x 3.
            best = scores[:number, 0].argmax()
            differs = np.abs(queries[number, 0] - queries[best, 0]) > 1e-5
            positions = np.argwhere(differs)
            if len(positions) and len(np.unique(positions[:, 2])) == 3:
                rows.append(positions[:, 0].min())
                columns.append(positions[:, 1].min())
                row, column = rows[-1], columns[-1]
                delta = queries[number, 0, row, column] - images[0, row, column]
                signs.append(delta > 0)
        self.assertGreater(len(rows), 15)
        self.assertGreater(len(np.unique(rows)), 4)
        self.assertGreater(len(np.unique(columns)), 4)
        self.assertBetween(np.mean(signs), 0.25, 0.75)

    def test_grid_of_tiles_first(self):
        attack = Square(queries=1, norm="l2")
        generators = [np.random.default_rng(number) for number in range(2)]
        grid = attack._grid((2, 11, 10, 3), generators).numpy()
        bump = published_bumps(2)
        for row in range(5):
            for column in range(5):
                tile = np.s_[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                for example in range(2):
                    for channel in range(3):
                        found = grid[example][tile][..., channel]
                        self.assertTrue(
                            any(
                                np.allclose(found, sign * turned, atol=1e-5)
                                for sign in (1, -1)
                                for turned in (bump, bump.T)
                            )
                        )
        self.assertAllEqual(grid[:, 10], np.zeros((2, 10, 3)))
        self.assertNotAllClose(grid[0], grid[1])

    @parameterized.parameters(2, 5)
    def test_finds_the_optimum_of_a_linear_network(self, classes):
        problem = linear_problem(20, classes, seed=1)
        radii = problem.radii["linf"]
        epsilon = between(radii, 8)
        attack = Square(queries=1500).on(problem.network)
        result = attack(problem.images, problem.labels, epsilon)
        self.assertAllEqual(result.clean_correct, radii > 0)
        self.assertFalse(result.robust[radii < 0.95 * epsilon].any())
        self.assertTrue(result.robust[radii > epsilon].all())

    def test_breaks_no_more_than_can_be_broken_in_l2(self):
        problem = linear_problem(20, seed=1)
        radii = problem.radii["l2"]
        epsilon = between(radii, 8)
        attack = Square(queries=1000, norm="l2").on(problem.network)
        result = attack(problem.images, problem.labels, epsilon)
        # Squares of at least 3 x 3 cannot reach all points of 4 x 4 pixels.
        self.assertFalse(result.robust[radii < 0.4 * epsilon].any())
        self.assertTrue(result.robust[radii > epsilon].all())
        found = attack_problems.predictions(
            problem.network, problem.images + result.perturbation
        )
        broken = result.clean_correct & ~result.robust
        self.assertFalse((found == problem.labels)[broken].any())

    def test_refused(self):
        with self.assertRaisesRegex(InputError, "Received: queries=0"):
            Square(queries=0)


if __name__ == "__main__":
    tf.test.main()
