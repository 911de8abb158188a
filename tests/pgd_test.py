"""Tests of PGD with restarts, the attack that measures robust accuracy."""

import hypothesis
import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from hypothesis import strategies
from hypothesis.extra import numpy as hypothesis_arrays

from fastbat_tf.attacks.pgd import PGDAttack, as_pixels
from fastbat_tf.errors import InputError
from tests.testing import images_and_labels, small_network

SHAPE = (4, 4, 3)
SIZE = 48

# With bounds that float32 does not hold exactly, and both ends of the range.
EPSILONS = (8 / 255, 1 / 255, 0.0, 1.0)


def linear_problem(count, seed=0):
    """Two classes, linear logits, images that are far from 0 and 1.

    With w the difference of the weights of the right and the wrong class, the
    margin of an image is w @ x + b, and the worst in the ball of radius epsilon

        w @ x + b - epsilon * ||w||_1    at    delta = -epsilon * sign(w):

    an image is broken from the radius (w @ x + b) / ||w||_1 on. Returns the
    network, images, labels, these radii (negative where the clean image is
    misclassified), and w per image.
    """
    random = np.random.default_rng(seed)
    images = random.uniform(0.3, 0.7, (count, *SHAPE)).astype("float32")
    weights = random.normal(0, 0.3, (SIZE, 2)).astype("float32")
    offset = (images.reshape(count, SIZE) @ weights).mean(axis=0)

    def network(batch):
        return tf.reshape(batch, (-1, SIZE)) @ weights - offset

    labels = np.argmax(network(images), axis=-1).astype("int32")
    labels[::5] = 1 - labels[::5]  # Misclassified without any attack.
    toward = weights[:, labels] - weights[:, 1 - labels]
    logits = network(images).numpy()
    rows = np.arange(count)
    margins = logits[rows, labels] - logits[rows, 1 - labels]
    toward = toward.T.reshape(images.shape)
    radii = margins / np.abs(toward).sum(axis=(1, 2, 3))
    return network, images, labels, radii, toward


def between(radii, count):
    """An epsilon that breaks `count` of the images, with room to spare."""
    radii = np.sort(radii[radii > 0])
    return float(radii[count - 1] + radii[count]) / 2


def frozen(images):
    """The images with gradient zero: PGD stays where it starts."""
    return tf.stop_gradient(images) + 0.0 * images


def lottery(images):
    """Right (class 0) unless the first pixel rose by more than half of 0.1.

    From images of 0.5 with epsilon = 0.1, a quarter of the uniform starts
    succeed, and no gradient helps.
    """
    first = frozen(images)[:, 0, 0, 0]
    return tf.stack([0.55 - first, tf.zeros_like(first)], axis=-1)


class PGDAttackTest(parameterized.TestCase, tf.test.TestCase):
    def test_finds_the_optimum_of_a_linear_network(self):
        network, images, labels, radii, toward = linear_problem(40)
        epsilon = between(radii, 16)
        result = PGDAttack(network, steps=10, batch_size=40)(
            images, labels, epsilon
        )
        self.assertAllEqual(result.clean_correct, radii > 0)
        self.assertAllEqual(result.robust, radii > epsilon)
        self.assertEqual(result.robust.sum(), 40 - 8 - 16)
        # Where the attack fails, it ends at the optimum: no one could do more.
        self.assertAllClose(
            result.perturbation[result.robust],
            -epsilon * np.sign(toward)[result.robust],
            atol=1e-6,
        )
        # Where it succeeds, the perturbation is one that succeeds.
        broken = result.clean_correct & ~result.robust
        logits = network(images + result.perturbation).numpy()
        self.assertAllEqual(
            np.argmax(logits, axis=-1)[broken], 1 - labels[broken]
        )

    def test_steps_of_a_quarter_of_epsilon(self):
        # From anywhere in the ball, 8 steps reach the corner; 7 do not.
        network, images, labels, radii, toward = linear_problem(40)
        kept = radii > 0
        epsilon = 0.2 * float(radii[kept].min())
        corners = -epsilon * np.sign(toward)[kept]
        for arguments, reached in (
            ({"steps": 8}, True),
            ({"steps": 7}, False),
            ({"steps": 2, "relative_step_size": 1.0}, True),
            ({"steps": 1, "relative_step_size": 1.0}, False),
        ):
            result = PGDAttack(network, **arguments)(images, labels, epsilon)
            gap = np.abs(result.perturbation[kept] - corners).max() / epsilon
            self.assertEqual(gap < 1e-3, reached, (arguments, gap))

    def test_misclassified_images_are_not_attacked(self):
        network, images, labels, radii, _ = linear_problem(20)
        result = PGDAttack(network, restarts=2)(images, labels, 0.01)
        wrong = radii < 0
        self.assertEqual(wrong.sum(), 4)
        self.assertAllEqual(result.clean_correct, ~wrong)
        self.assertFalse(result.robust[wrong].any())
        self.assertAllEqual(result.perturbation.any(axis=(1, 2, 3)), ~wrong)

    def test_nothing_to_attack(self):
        network, images, _, _, _ = linear_problem(6)
        wrong = 1 - np.argmax(network(images), axis=-1)
        calls = []

        def counted(batch):
            calls.append(batch.shape)
            return network(batch)

        result = PGDAttack(counted, restarts=3)(images, wrong, 0.1)
        self.assertLen(calls, 1)  # To classify; the attack is not even traced.
        self.assertFalse(result.clean_correct.any())
        self.assertFalse(result.robust.any())
        self.assertFalse(result.perturbation.any())

    def test_radius_zero(self):
        network, images, labels, radii, _ = linear_problem(20)
        result = PGDAttack(network, restarts=2)(images, labels, 0.0)
        self.assertAllEqual(result.clean_correct, radii > 0)
        self.assertAllEqual(result.robust, result.clean_correct)
        self.assertFalse(result.perturbation.any())

    def test_restarts_keep_the_worst_case(self):
        images = np.full((64, *SHAPE), 0.5, np.float32)
        labels = np.zeros(64, np.int32)
        counts, earlier = [], np.ones(64, bool)
        for restarts in (1, 2, 5, 20):
            attack = PGDAttack(lottery, steps=2, restarts=restarts)
            robust = attack(images, labels, 0.1).robust
            # What one restart breaks stays broken.
            self.assertFalse((robust & ~earlier).any())
            counts.append(robust.sum())
            earlier = robust
        # 3/4 of them withstand a start: 48, 36, 15 and 0 are expected.
        self.assertBetween(counts[0], 38, 58)
        self.assertBetween(counts[1], 24, 48)
        self.assertBetween(counts[2], 5, 26)
        self.assertLess(counts[3], 4)

    def test_perturbation_is_that_of_the_worst_restart(self):
        images = np.full((64, *SHAPE), 0.5, np.float32)
        labels = np.zeros(64, np.int32)

        def run(restarts):
            attack = PGDAttack(lottery, steps=2, restarts=restarts)
            result = attack(images, labels, 0.1)
            return result, result.perturbation[:, 0, 0, 0]  # Is the loss here.

        first, first_pixel = run(1)
        last, last_pixel = run(6)
        broken = ~first.robust
        # The first that was misclassified, where there is one.
        self.assertAllEqual(
            last.perturbation[broken], first.perturbation[broken]
        )
        self.assertAllEqual(last_pixel > 0.05, ~last.robust)
        # Else that of the highest loss: higher than that of the first restart
        # in 5 of 6 cases, lower in none.
        standing = last.robust
        self.assertFalse((last_pixel < first_pixel)[standing].any())
        self.assertGreater((last_pixel > first_pixel)[standing].mean(), 0.5)

    def test_success_counts_more_than_loss(self):
        # Right with a loss of log 3, or wrong with one of log 2.
        def network(images):
            wrong = frozen(images)[:, 0, 0, :1] > 0.55
            return tf.where(wrong, [[0.0, 0.1, -9.0]], [[0.1, 0.0, 0.0]])

        images = np.full((64, *SHAPE), 0.5, np.float32)
        labels = np.zeros(64, np.int32)
        result = PGDAttack(
            lambda batch: network(batch) + 0.0 * tf.reduce_sum(batch),
            steps=1,
            restarts=3,
        )(images, labels, 0.1)
        self.assertBetween(result.robust.sum(), 10, 45)  # 27 expected.
        self.assertAllEqual(
            result.perturbation[:, 0, 0, 0] > 0.05, ~result.robust
        )

    def test_keeps_the_iterate_that_succeeded(self):
        # The first pixel climbs; only on its way it passes a place where the
        # image is misclassified, which is wider than a step of 0.025.
        def network(batch):
            first = batch[:, 0, 0, 0]
            passes = (0.52 < first) & (first < 0.55)
            right = 0.65 - first - tf.where(passes, 0.3, 0.0)
            return tf.stack([right, 0.0 * tf.reduce_sum(batch, (1, 2, 3))], -1)

        images = np.full((64, *SHAPE), 0.5, np.float32)
        result = PGDAttack(network, steps=10)(
            images, np.zeros(64, np.int32), 0.1
        )
        first = (images + result.perturbation)[:, 0, 0, 0]
        self.assertBetween(result.robust.sum(), 5, 30)  # 16 started above.
        self.assertAllInRange(first[~result.robust], 0.52, 0.55)
        self.assertAllClose(np.unique(first[result.robust]), [0.6])

    def test_broken_images_make_room(self):
        # Even images break at once, odd ones never do.
        images = np.full((8, *SHAPE), 0.5, np.float32)
        images[1::2] = 0.4
        calls = tf.Variable(0)

        def network(batch):
            calls.assign_add(1)
            moved = tf.abs(frozen(batch) - 0.5) < 0.05
            moved &= frozen(batch) != 0.5
            wrong = tf.reduce_any(moved, axis=(1, 2, 3))
            right = tf.cast(~wrong, tf.float32) + 0.0 * batch[:, 0, 0, 0]
            return tf.stack([right - 0.5, tf.zeros_like(right)], axis=-1)

        attack = PGDAttack(network, steps=7, restarts=3, batch_size=4)
        result = attack(images, np.zeros(8, np.int32), 0.01)
        self.assertAllEqual(result.robust, np.arange(8) % 2 == 1)
        # Two batches to classify. 7 steps and a last look at each of the two
        # batches, while there is an odd image in them. After that the four odd
        # images fill one batch: two more restarts.
        self.assertEqual(int(calls), 2 + 2 * (7 + 1) + 2 * (7 + 1))

    def test_stops_when_all_are_broken(self):
        calls = tf.Variable(0)

        def network(batch):
            calls.assign_add(1)
            wrong = tf.reduce_any(frozen(batch) != 1.0, axis=(1, 2, 3))
            right = 0.5 - tf.cast(wrong, tf.float32)
            return tf.stack([right, tf.zeros_like(right)], axis=-1) + (
                0.0 * tf.reduce_sum(batch)
            )

        images = np.ones((4, *SHAPE), np.float32)
        attack = PGDAttack(network, steps=50, restarts=10)
        result = attack(images, np.zeros(4, np.int32), 0.01)
        self.assertFalse(result.robust.any())
        # The starts succeed, and they are images.
        self.assertLess(result.perturbation.min(), 0)
        self.assertLessEqual(result.perturbation.max(), 0)
        # Once to classify, one step, and one last look; not 50 x 10.
        self.assertEqual(int(calls), 3)

    def test_partial_batch(self):
        network, images, labels, radii, _ = linear_problem(10)
        whole, packed, single = (
            PGDAttack(network, steps=10, batch_size=size)(
                images, labels, between(radii, 4)
            )
            for size in (10, 4, 1)
        )
        self.assertEqual(whole.robust.sum(), 10 - 2 - 4)
        for other in (packed, single):
            self.assertAllEqual(other.clean_correct, whole.clean_correct)
            self.assertAllEqual(other.robust, whole.robust)
            # The starts differ; where they end does not.
            self.assertAllClose(
                other.perturbation[whole.robust],
                whole.perturbation[whole.robust],
                atol=1e-6,
            )

    def test_batch_larger_than_the_data_set(self):
        network, images, labels, _, _ = linear_problem(5)
        shapes = []

        def watched(batch):
            shapes.append(tuple(batch.shape))
            return network(batch)

        PGDAttack(watched, batch_size=200)(images, labels, 0.01)
        self.assertEqual(set(shapes), {(5, *SHAPE)})

    def test_traced_once(self):
        network, images, labels, _, _ = linear_problem(11)
        traces = []

        def counted(batch):
            traces.append(batch.shape)
            return network(batch)

        attack = PGDAttack(counted, steps=3, restarts=2, batch_size=4)
        attack(images, labels, 0.02)
        count = len(traces)
        self.assertGreater(count, 0)
        self.assertEqual(set(map(tuple, traces)), {(4, *SHAPE)})
        # Another number of images, radius, type, and seed.
        attack(images[:6], labels[:6], 0.01, seed=1)
        attack(images[:4], list(labels[:4]), 1, seed=2)
        attack(images.astype("float64"), labels.astype("int64"), 8 / 255)
        self.assertLen(traces, count)

    def test_seed(self):
        network, images, labels, radii, _ = linear_problem(8)
        attack = PGDAttack(network, steps=1)
        first, again, other = (
            attack(images, labels, 1e-4, seed).perturbation
            for seed in (1, 1, 2)
        )
        self.assertAllEqual(first, again)
        # Every image has starts of its own, and others for another seed.
        starts = np.concatenate([first[radii > 0], other[radii > 0]])
        self.assertLen(np.unique(starts, axis=0), len(starts))

    def test_restarts_and_batches_start_differently(self):
        seen = []

        def network(batch):
            tf.py_function(lambda b: seen.append(b.numpy()), [batch], [])
            return tf.zeros((2, 2)) + 0.0 * tf.reduce_sum(batch)

        # One image, four times: only the starts differ.
        images = np.full((4, *SHAPE), 0.5, np.float32)
        attack = PGDAttack(network, steps=1, restarts=2, batch_size=2)
        attack(images, np.zeros(4, np.int32), 0.1)
        starts = np.concatenate(
            [batch for batch in seen if (batch != 0.5).any()]
        )
        # Each batch is looked at before and after its only step, which does
        # not move it: the gradient is zero.
        self.assertLen(starts, 2 * 2 * 4)
        self.assertLen(np.unique(starts, axis=0), 2 * 4)
        self.assertAllInRange(starts, 0.4, 0.6)
        self.assertLess(starts.min(), 0.41)
        self.assertGreater(starts.max(), 0.59)

    def test_bytes_and_floats_agree(self):
        model = small_network(seed=1)
        images, labels = images_and_labels(12, seed=1)
        gray_levels = np.round(255 * images).astype(np.uint8)
        attack = PGDAttack(model, steps=3)
        of_bytes, of_floats = (
            attack(pixels, labels, 8 / 255)
            for pixels in (
                gray_levels,
                gray_levels.astype(np.float32) / np.float32(255),
            )
        )
        for one, other in zip(of_bytes, of_floats, strict=True):
            self.assertAllEqual(one, other)
        self.assertTrue(of_bytes.perturbation.any())

    @parameterized.parameters(
        ({"images": np.full((2, 4, 4, 3), 255.0)}, r"floats in \[0, 1\]"),
        ({"images": np.zeros((0, 4, 4, 3))}, "at least one"),
        ({"images": np.full((2, 4, 4, 3), np.nan)}, r"range=\(.*nan"),
        ({"labels": np.zeros(3, int)}, r"2 integers.*labels.shape=\(3,\)"),
        ({"labels": np.zeros(2)}, "dtype=float64"),
        ({"epsilon": 8.0}, "epsilon=8.0"),
    )
    def test_refused_data(self, changed, message):
        given = {
            "images": np.zeros((2, 4, 4, 3)),
            "labels": np.zeros(2, int),
            "epsilon": 0.1,
        } | changed
        network, *_ = linear_problem(2)
        with self.assertRaisesRegex(InputError, message):
            PGDAttack(network, 1)(**given)

    @parameterized.parameters("steps", "restarts", "batch_size")
    def test_refused_settings(self, name):
        with self.assertRaisesRegex(InputError, f"Received: {name}=0"):
            PGDAttack(len, **{name: 0})

    def test_labels_in_a_column(self):
        network, images, labels, radii, _ = linear_problem(5)
        flat, column = (
            PGDAttack(network, 2)(images, given, between(radii, 2))
            for given in (labels, labels[:, np.newaxis])
        )
        self.assertAllEqual(flat.robust, column.robust)

    def test_nan_is_not_a_correct_answer(self):
        def network(images):
            return tf.fill((len(images), 2), np.nan)

        images = np.zeros((2, *SHAPE))
        result = PGDAttack(network, 1)(images, np.zeros(2, int), 0.1)
        self.assertAllEqual(result.clean_correct, [False, False])

    def test_compiled_by_xla(self):
        network, images, labels, radii, _ = linear_problem(9)
        plain, compiled = (
            PGDAttack(network, 10, batch_size=4, jit_compile=jit_compile)(
                images, labels, between(radii, 3)
            )
            for jit_compile in (False, True)
        )
        self.assertAllEqual(plain.clean_correct, compiled.clean_correct)
        self.assertAllEqual(plain.robust, compiled.robust)
        # The same starts, and so the same ends, also of the broken ones.
        self.assertAllClose(
            plain.perturbation, compiled.perturbation, atol=1e-6
        )

    @parameterized.parameters(
        (np.array([0, 51, 255], np.uint8), [0, 0.2, 1]),
        (np.array([0, 0.2, 1], np.float64), [0, 0.2, 1]),
        (np.array([0, 0.2, 1], np.float32), [0, 0.2, 1]),
        ([0, 0.2, 1], [0, 0.2, 1]),
    )
    def test_as_pixels(self, images, expected):
        pixels = as_pixels(images)
        self.assertEqual(pixels.dtype, np.float32)
        self.assertAllEqual(pixels, np.array(expected, np.float32))


class FeasibilityTest(tf.test.TestCase):
    """Whatever the images and epsilon, delta is in the ball and the pixels."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        model = small_network(size=4, classes=3)
        cls.attack = PGDAttack(model, steps=3, restarts=2, batch_size=3)
        cls.model = staticmethod(model)

    @hypothesis.settings(max_examples=30, deadline=None, derandomize=True)
    @hypothesis.given(
        images=hypothesis_arrays.arrays(
            np.float32,
            (3, *SHAPE),
            elements=strategies.sampled_from((0.0, 0.01, 0.5, 0.99, 1.0)),
            fill=strategies.nothing(),
        ),
        epsilon=strategies.one_of(
            strategies.sampled_from(EPSILONS),
            strategies.floats(0, 1, allow_subnormal=False),
        ),
        seed=strategies.integers(0, 2**31 - 1),
    )
    def test_feasible(self, images, epsilon, seed):
        labels = np.argmax(self.model(images), axis=-1)
        labels[0] = (labels[0] + 1) % 3
        result = self.attack(images, labels, epsilon, seed)
        delta = result.perturbation
        self.assertEqual(delta.dtype, np.float32)
        self.assertEqual(delta.shape, images.shape)
        # Up to the rounding of numbers below 1 in float32.
        self.assertLessEqual(np.abs(delta).max(), epsilon + 1e-7)
        self.assertGreaterEqual((images + delta).min(), -1e-7)
        self.assertLessEqual((images + delta).max(), 1 + 1e-7)
        self.assertAllEqual(result.clean_correct, [False, True, True])
        self.assertFalse(delta[0].any())
        if epsilon > 1e-3:
            self.assertTrue(delta[1:].any(axis=(1, 2, 3)).all())


if __name__ == "__main__":
    tf.test.main()
