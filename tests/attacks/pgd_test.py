"""Tests PGD with restarts, and FGSM."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.attacks.fgsm import FGSM
from fastbat_tf.attacks.pgd import PGD
from fastbat_tf.errors import InputError
from tests.support.attack_problems import (
    SHAPE,
    between,
    boxed_problem,
    linear_problem,
    predictions,
)


def direction(toward, norm):
    """The direction that lowers a margin fastest."""
    if norm == "linf":
        return -np.sign(toward)
    norms = np.linalg.norm(toward.reshape(len(toward), -1), axis=1)
    return -toward / norms[:, np.newaxis, np.newaxis, np.newaxis]


def frozen(images):
    """Returns the images, with a gradient of zero: PGD stays at its start."""
    return tf.stop_gradient(images) + 0.0 * images


def lottery(images):
    """Predicts class 0 unless the first pixel rose by more than half of 0.1.

    From images of 0.5 with epsilon = 0.1, a quarter of the uniform starts
    succeed, and no gradient helps.
    """
    first = frozen(images)[:, 0, 0, 0]
    return tf.stack([0.55 - first, tf.zeros_like(first)], axis=-1)


class PGDAttackTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters("linf", "l2")
    def test_finds_the_optimum_of_a_linear_network(self, norm):
        network, images, labels, radii, toward = linear_problem(40)
        radii = radii[norm]
        epsilon = between(radii, 16)
        result = PGD(steps=20, batch_size=40, norm=norm).on(network)(
            images, labels, epsilon
        )
        self.assertAllEqual(result.clean_correct, radii > 0)
        self.assertAllEqual(result.robust, radii > epsilon)
        self.assertEqual(result.robust.sum(), 40 - 8 - 16)
        # Where the attack fails, it ends at the optimum.
        self.assertAllClose(
            result.perturbation[result.robust],
            epsilon * direction(toward, norm)[result.robust],
            atol=1e-6 if norm == "linf" else 0.01 * epsilon,
        )
        # Where it succeeds, so does the reported perturbation.
        broken = result.clean_correct & ~result.robust
        found = predictions(network, images + result.perturbation)
        self.assertAllEqual(found[broken], 1 - labels[broken])

    @parameterized.parameters("margin", "dlr")
    def test_other_losses_among_many_classes(self, loss):
        problem = linear_problem(30, classes=5, seed=1)
        radii = problem.radii["linf"]
        epsilon = between(radii, 12)
        attack = PGD(steps=20, restarts=2, loss=loss).on(problem.network)
        result = attack(problem.images, problem.labels, epsilon)
        self.assertAllEqual(result.robust, radii > epsilon)

    def test_pixels_that_have_no_room(self):
        problem = boxed_problem(30)
        radii = problem.radii["linf"]
        epsilon = between(radii, 12)
        attack = PGD(steps=20).on(problem.network)
        result = attack(problem.images, problem.labels, epsilon)
        self.assertAllEqual(result.robust, radii > epsilon)
        images = problem.images[result.robust]
        corner = images - epsilon * np.sign(problem.toward[result.robust])
        self.assertAllClose(
            images + result.perturbation[result.robust],
            np.clip(corner, 0, 1),
            atol=1e-6,
        )

    def test_steps_of_a_quarter_of_epsilon(self):
        # From any point of the ball, 8 steps reach the corner; 7 do not.
        network, images, labels, radii, toward = linear_problem(40)
        kept = radii["linf"] > 0
        epsilon = 0.2 * float(radii["linf"][kept].min())
        corners = -epsilon * np.sign(toward)[kept]
        for arguments, reached in (
            ({"steps": 8}, True),
            ({"steps": 7}, False),
            ({"steps": 2, "relative_step_size": np.float32(1)}, True),
            ({"steps": 1, "relative_step_size": 1.0}, False),
        ):
            result = PGD(**arguments).on(network)(images, labels, epsilon)
            gap = np.abs(result.perturbation[kept] - corners).max() / epsilon
            self.assertEqual(gap < 1e-3, reached, (arguments, gap))

    @parameterized.parameters("linf", "l2")
    def test_starts_fill_the_ball(self, norm):
        images = np.full((200, *SHAPE), 0.5, np.float32)
        attack = PGD(steps=1, norm=norm).on(lottery)
        result = attack(images, np.zeros(200, np.int32), 0.01)
        starts = result.perturbation.reshape(200, -1) / 0.01
        if norm == "linf":  # Each pixel is uniformly distributed.
            self.assertAllClose(np.quantile(starts, 0.25), -0.5, atol=0.03)
            self.assertAllClose(np.quantile(starts, 0.75), 0.5, atol=0.03)
        else:  # The radius to the power of the dimension is uniform.
            share = np.linalg.norm(starts, axis=1) ** starts.shape[1]
            self.assertAllClose(np.quantile(share, 0.25), 0.25, atol=0.1)
            self.assertAllClose(np.quantile(share, 0.75), 0.75, atol=0.1)

    def test_restarts_keep_the_worst_case(self):
        images = np.full((64, *SHAPE), 0.5, np.float32)
        labels = np.zeros(64, np.int32)
        counts, earlier = [], np.ones(64, bool)
        for restarts in (1, 2, 5, 20):
            attack = PGD(steps=2, restarts=restarts).on(lottery)
            robust = attack(images, labels, 0.1).robust
            # An example that one restart breaks stays broken.
            self.assertFalse((robust & ~earlier).any())
            counts.append(robust.sum())
            earlier = robust
        # 3/4 withstand each start: 48, 36, 15 and 0 are expected.
        self.assertBetween(counts[0], 38, 58)
        self.assertBetween(counts[1], 24, 48)
        self.assertBetween(counts[2], 5, 26)
        self.assertLess(counts[3], 4)

    def test_perturbation_is_that_of_the_worst_restart(self):
        images = np.full((64, *SHAPE), 0.5, np.float32)
        labels = np.zeros(64, np.int32)

        def run(restarts):
            attack = PGD(steps=2, restarts=restarts).on(lottery)
            result = attack(images, labels, 0.1)
            return result, result.perturbation[:, 0, 0, 0]  # The loss here.

        first, first_pixel = run(1)
        last, last_pixel = run(6)
        broken = ~first.robust
        # The first misclassified one, if there is one.
        self.assertAllEqual(
            last.perturbation[broken], first.perturbation[broken]
        )
        self.assertAllEqual(last_pixel > 0.05, ~last.robust)
        # Otherwise that of the highest loss, higher than in the first restart
        # in 5 of 6 cases, and never lower.
        standing = last.robust
        self.assertFalse((last_pixel < first_pixel)[standing].any())
        self.assertGreater((last_pixel > first_pixel)[standing].mean(), 0.5)

    def test_success_counts_more_than_loss(self):
        # Correct with a loss of log 3, or wrong with a loss of log 2.
        def network(images):
            wrong = frozen(images)[:, 0, 0, :1] > 0.55
            return tf.where(wrong, [[0.0, 0.1, -9.0]], [[0.1, 0.0, 0.0]])

        images = np.full((64, *SHAPE), 0.5, np.float32)
        labels = np.zeros(64, np.int32)
        result = PGD(steps=1, restarts=3).on(
            lambda batch: network(batch) + 0.0 * tf.reduce_sum(batch)
        )(images, labels, 0.1)
        self.assertBetween(result.robust.sum(), 10, 45)  # 27 expected.
        self.assertAllEqual(
            result.perturbation[:, 0, 0, 0] > 0.05, ~result.robust
        )

    def test_keeps_the_iterate_that_succeeded(self):
        # The first pixel rises, and passes an interval in which the
        # image is misclassified, and which is wider than a step of 0.025.
        def network(batch):
            first = batch[:, 0, 0, 0]
            passes = (0.52 < first) & (first < 0.55)
            right = 0.65 - first - tf.where(passes, 0.3, 0.0)
            return tf.stack([right, 0.0 * tf.reduce_sum(batch, (1, 2, 3))], -1)

        images = np.full((64, *SHAPE), 0.5, np.float32)
        result = PGD(steps=10).on(network)(images, np.zeros(64, np.int32), 0.1)
        first = (images + result.perturbation)[:, 0, 0, 0]
        self.assertBetween(result.robust.sum(), 5, 30)  # 16 started above.
        self.assertAllInRange(first[~result.robust], 0.52, 0.55)
        self.assertAllClose(np.unique(first[result.robust]), [0.6])

    def test_restarts_and_batches_start_differently(self):
        seen = []

        def network(batch):
            def look(pixels):
                seen.append(pixels.numpy())
                return pixels[:, 0, 0, :2] * 0

            logits = tf.py_function(look, [tf.stop_gradient(batch)], tf.float32)
            return tf.ensure_shape(logits, (None, 2))

        # Four equal images: only the starts differ.
        images = np.full((4, *SHAPE), 0.5, np.float32)
        attack = PGD(steps=1, restarts=2, batch_size=2).on(network)
        attack(images, np.zeros(4, np.int32), 0.1)
        starts = np.concatenate(
            [batch for batch in seen if (batch != 0.5).any()]
        )
        # Each batch is evaluated before and after its only step, which does
        # not change it, since the gradient is zero.
        self.assertLen(starts, 2 * 2 * 4)
        self.assertLen(np.unique(starts, axis=0), 2 * 4)
        self.assertAllInRange(starts, 0.4, 0.6)
        self.assertLess(starts.min(), 0.41)
        self.assertGreater(starts.max(), 0.59)

    def test_seed(self):
        network, images, labels, radii, _ = linear_problem(8)
        attack = PGD(steps=1).on(network)
        first, again, other = (
            attack(images, labels, 1e-4, seed).perturbation
            for seed in (1, 1, 2)
        )
        self.assertAllEqual(first, again)
        # Each image has its own starts, and different ones for another seed.
        right = radii["linf"] > 0
        starts = np.concatenate([first[right], other[right]])
        self.assertLen(np.unique(starts, axis=0), len(starts))

    def test_masked_gradients_hide_from_the_cross_entropy(self):
        # The gradient underflows in float32 if the margin is 1e6 times as
        # large; the gradient of the margin does not.
        problem = linear_problem(20, wrong=False)
        epsilon = 2 * float(problem.radii["linf"].max())

        def masked(batch):
            return 1e6 * problem.network(batch)

        data = problem.images, problem.labels, epsilon
        by_loss = {
            loss: PGD(steps=10, loss=loss).on(masked)(*data).robust.mean()
            for loss in ("ce", "margin")
        }
        self.assertGreater(by_loss["ce"], 0.5)
        self.assertEqual(by_loss["margin"], 0.0)
        plain = PGD(steps=10).on(problem.network)(*data)
        self.assertEqual(plain.robust.mean(), 0.0)

    @parameterized.parameters("steps", "restarts", "batch_size")
    def test_refused_settings(self, name):
        with self.assertRaisesRegex(InputError, f"Received: {name}=0"):
            PGD(**{name: 0})

    def test_refused_loss(self):
        with self.assertRaisesRegex(InputError, "ce, margin, dlr.*loss=mse"):
            PGD(loss="mse")


class FGSMAttackTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters("linf", "l2")
    def test_one_step_to_the_optimum_of_a_linear_network(self, norm):
        network, images, labels, radii, toward = linear_problem(20)
        radii = radii[norm]
        epsilon = between(radii, 8)
        result = FGSM(norm=norm).on(network)(images, labels, epsilon)
        self.assertAllEqual(result.robust, radii > epsilon)
        right = result.clean_correct
        self.assertAllClose(
            result.perturbation[right],
            epsilon * direction(toward, norm)[right],
            atol=1e-6,
        )

    def test_needs_no_seed(self):
        problem = linear_problem(4)
        attack = FGSM().on(problem.network)
        data = problem.images, problem.labels, 0.01
        one, other = attack(*data, seed=0), attack(*data, seed=1)
        self.assertAllEqual(one.perturbation, other.perturbation)


if __name__ == "__main__":
    tf.test.main()
