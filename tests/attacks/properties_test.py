"""Tests what holds for every attack, on any network, image and radius.

The weights of the network are variables, so that no example is retraced.
"""

import functools
from unittest import mock

import hypothesis
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from hypothesis import strategies
from hypothesis.extra import numpy as hypothesis_arrays

from fastbat_tf.attacks import norms
from tests.support import attack_problems
from tests.support.attack_problems import (
    NORMS,
    SHAPE,
    SIZE,
    SMALL_ATTACKS,
    size,
    sizes,
)

COUNT = 4
CLASSES = 4
WIDTH = 5

ALL_ATTACKS = (*SMALL_ATTACKS, "apgd-dlr-3", "pgd-2-1-margin", "pgd-2-1-dlr")
# Including bounds that are not exact in float32, and both ends of the range.
EPSILONS = (8 / 255, 1 / 255, 0.0, 1.0)


class Network:
    """One tanh layer, or none: linear, flat or steep."""

    def __init__(self):
        self.first = tf.Variable(tf.zeros((SIZE, WIDTH)))
        self.last = tf.Variable(tf.zeros((WIDTH, CLASSES)))
        self.straight = tf.Variable(tf.zeros((SIZE, CLASSES)))
        self.bias = tf.Variable(tf.zeros(CLASSES))

    def draw(self, seed, steepness):
        """Assigns weights."""
        random = np.random.default_rng(seed)
        for weights, scale in (
            (self.first, 0.5),
            (self.last, steepness),
            (self.straight, 0.1 * steepness * (seed % 2)),
            (self.bias, 0.1 * steepness),
        ):
            weights.assign(scale * random.normal(size=weights.shape))

    def __call__(self, batch):
        pixels = tf.reshape(batch, (-1, SIZE)) - 0.5
        bent = tf.tanh(pixels @ self.first) @ self.last
        return bent + pixels @ self.straight + self.bias


NETWORK = Network()
# One image is black, one white, one gray, and one arbitrary.
PLAIN_IMAGES = np.stack(
    [np.full(SHAPE, value, np.float32) for value in (0.0, 1.0, 0.5)]
    + [np.random.default_rng(0).random(SHAPE, np.float32)]
)


class Ends:
    """A generator that always draws the least, largest or central value.

    What is central for a uniform draw has no direction as a perturbation; a
    normal draw of 0 has none, and one beyond 12 never comes.
    """

    def __init__(self, end):
        self.end = end

    def random(self, size=None, dtype=np.float64):
        below_one = np.nextafter(dtype(1), dtype(0))
        share = {"least": 0, "central": 0.5, "largest": below_one}[self.end]
        return np.full(size or (), share, dtype)

    def standard_normal(self, size=None, dtype=np.float64):
        value = {"least": -12, "central": 0, "largest": 12}[self.end]
        return np.full(size or (), value, dtype)

    def integers(self, low, high, size=None):
        value = {"least": low, "central": (low + high) // 2}
        return np.full(size or (), value.get(self.end, high - 1))


@functools.cache
def attack(name, norm):
    """One attack per name and norm, traced once."""
    return attack_problems.get(name, NETWORK, norm=norm, batch_size=3)


def given(test):
    """Random networks, images, radii and seeds, equal in every run."""
    test = hypothesis.given(
        images=hypothesis_arrays.arrays(
            np.float32,
            (COUNT, *SHAPE),
            elements=strategies.sampled_from((0.0, 0.01, 0.4, 0.6, 0.99, 1.0)),
            fill=strategies.nothing(),
        ),
        model=strategies.tuples(
            strategies.integers(0, 1000),
            strategies.sampled_from((0.0, 0.01, 1.0, 1.0, 1e4)),
        ),
        epsilon=strategies.one_of(
            strategies.sampled_from(EPSILONS),
            strategies.floats(0, 1, allow_subnormal=False),
        ),
        seed=strategies.integers(0, 2**31 - 1),
    )(test)
    return hypothesis.settings(
        max_examples=10,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )(test)


def labels_of(images):
    """The logits of the network, except for the first image."""
    labels = attack_problems.predictions(NETWORK, images)
    labels[0] = (labels[0] + 1) % CLASSES
    return labels


class PropertyTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.product(name=SMALL_ATTACKS, norm=NORMS)
    def test_any(self, name, norm):
        @given
        def check(images, model, epsilon, seed):
            NETWORK.draw(*model)
            labels = labels_of(images)
            radius = epsilon if norm == "linf" else 4 * epsilon
            result = attack(name, norm)(images, labels, radius, seed)
            delta = result.perturbation
            self.assertEqual(delta.dtype, np.float32)
            self.assertEqual(delta.shape, images.shape)
            # Within the ball and the pixel range, up to float32 rounding.
            self.assertLessEqual(
                sizes(delta, norm).max(), radius * (1 + 1e-5) + 2e-7
            )
            self.assertGreaterEqual((images + delta).min(), -1e-7)
            self.assertLessEqual((images + delta).max(), 1 + 1e-7)
            # Images that are misclassified without an attack are not attacked.
            self.assertAllEqual(
                result.clean_correct, [False] + [True] * (COUNT - 1)
            )
            self.assertFalse(result.robust[0])
            self.assertFalse(delta[0].any())
            # Perturbations of broken examples are misclassified.
            logits = NETWORK(images + delta).numpy()
            rows = np.arange(COUNT)
            of_label = logits[rows, labels]
            logits[rows, labels] = -np.inf
            lead = of_label - logits.max(axis=-1)
            rounding = 1e-5 * (1e-30 + np.abs(of_label))
            broken = result.clean_correct & ~result.robust
            self.assertFalse((lead > rounding)[broken].any())
            if radius == 0:
                self.assertFalse(broken.any())
                self.assertFalse(delta.any())

        check()

    def check_ends(self, built, norm, steepness, radius):
        labels = np.argmax(built.network(tf.constant(PLAIN_IMAGES)), axis=-1)
        for end in ("least", "central", "largest"):
            with mock.patch.object(
                np.random, "default_rng", lambda _, end=end: Ends(end)
            ):
                result = built(PLAIN_IMAGES, labels, radius)
            message = f"{end}, {steepness}, {radius}"
            delta = result.perturbation
            self.assertTrue(np.isfinite(delta).all(), message)
            self.assertLessEqual(
                sizes(delta, norm).max(), radius * (1 + 1e-5) + 2e-7, message
            )
            pixels = PLAIN_IMAGES + delta
            self.assertBetween(pixels.min(), 0, 1, message)
            self.assertBetween(pixels.max(), 0, 1, message)
            if not steepness:  # The same logits everywhere.
                self.assertTrue(result.robust.all(), message)

    @parameterized.product(name=ALL_ATTACKS, norm=NORMS)
    def test_ends_of_the_draws(self, name, norm):
        """Also if gradients are zero and logits as large as possible."""
        for steepness, radius in ((0.0, 8 / 255), (1.0, 1.0), (1e4, 0.03)):
            # Weights first, since drawing them needs a generator, too.
            NETWORK.draw(3, steepness)
            self.check_ends(attack(name, norm), norm, steepness, radius)

    @parameterized.product(name=ALL_ATTACKS, logits=(0.0, 1e4))
    def test_no_path_to_the_images(self, name, logits):
        fixed = tf.constant([[logits, -logits, 0.0, logits]])

        def network(batch):
            return tf.repeat(fixed, tf.shape(batch)[0], 0)

        built = attack_problems.get(name, network, batch_size=4)
        self.check_ends(built, "linf", 0, 8 / 255)

    @parameterized.parameters(*NORMS)
    def test_starts_have_a_direction(self, norm):
        for end in ("least", "central", "largest"):
            point = norms.get(norm).on_sphere(Ends(end), SHAPE)
            self.assertAllClose(size(point, norm), 1.0)

    @parameterized.product(
        norm=NORMS, shape=((1, 1, 1), (2, 3, 1), (5, 2, 3), (9, 7, 3))
    )
    def test_squares_of_small_images(self, norm, shape):
        """Squares lie inside of the image, whatever is drawn."""
        images = np.full((2, *shape), 0.5, np.float32)

        def network(batch):
            first = tf.reshape(batch, (tf.shape(batch)[0], -1))[:, :1]
            return tf.concat([first, first - 1.0], -1)

        built = attack_problems.get("square-60", network, norm=norm)
        for end in ("least", "central", "largest"):
            with mock.patch.object(
                np.random, "default_rng", lambda _, end=end: Ends(end)
            ):
                result = built(images, np.zeros(2, np.int32), 0.1)
            delta = result.perturbation
            self.assertLessEqual(sizes(delta, norm).max(), 0.1 * (1 + 1e-5))
            self.assertGreater(sizes(delta, norm).min(), 0.099)

    @parameterized.product(name=("pgd", "apgd-ce"), norm=NORMS)
    def test_more_restarts_break_no_less(self, name, norm):
        attacks = []
        for restarts in (1, 2, 3):
            built = attack_problems.get(
                {"pgd": "pgd-2-1", "apgd-ce": "apgd-ce-2"}[name],
                NETWORK,
                norm=norm,
                batch_size=3,
            )
            built.restarts = restarts
            attacks.append(built)

        @given
        def check(images, model, epsilon, seed):
            NETWORK.draw(*model)
            labels = labels_of(images)
            results = [
                built(images, labels, 0.3 * epsilon, seed) for built in attacks
            ]
            for fewer, more in zip(results[:-1], results[1:], strict=True):
                self.assertFalse((more.robust & ~fewer.robust).any())
                broken = ~fewer.robust
                self.assertAllEqual(
                    more.perturbation[broken], fewer.perturbation[broken]
                )

        check()

    @parameterized.parameters(*NORMS)
    def test_the_properties_see_both_outcomes(self, norm):
        # Otherwise the properties would be tested on nothing.
        random = np.random.default_rng(0)
        images = random.random((COUNT, *SHAPE)).astype("float32")
        outcomes = []
        for seed in range(6):
            NETWORK.draw(seed, 1.0)
            result = attack("apgd-t-3", norm)(images, labels_of(images), 0.03)
            outcomes += list(result.robust[1:])
        self.assertBetween(np.mean(outcomes), 0.1, 0.9)


if __name__ == "__main__":
    tf.test.main()
