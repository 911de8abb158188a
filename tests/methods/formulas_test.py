"""Parts of the methods against closed forms and NumPy."""

import statistics

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import Plan, methods
from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError
from fastbat_tf.methods import liet, nuat, trades, zerograd
from fastbat_tf.methods.relaxation import relaxed
from fastbat_tf.methods.state import Progress
from fastbat_tf.methods.step import StepContext
from fastbat_tf.training import losses
from tests.support import testing
from tests.support.method_steps import build, compute

EPSILON = 8 / 255
RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(size=(5, 4))
OTHERS = RANDOM.normal(size=(5, 4))
LABELS = np.array([0, 3, 1, 1, 2])


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def divergence(p, q):
    return (p * np.log(p / q)).sum(-1)


class PartsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(0.0, 0.35, 0.45, 0.5, 0.999, 1.0)
    def test_zero_small_entries(self, quantile):
        gradient = RANDOM.normal(size=(3, 5, 7, 2))
        found = zerograd.zero_small_entries(tf.constant(gradient), quantile)
        for image, zeroed in zip(gradient, found.numpy(), strict=True):
            threshold = np.quantile(np.abs(image), quantile)
            expected = np.where(np.abs(image) >= threshold, image, 0.0)
            self.assertAllEqual(zeroed, expected)

    def test_nuclear_norm(self):
        matrix = tf.constant(LOGITS)
        with tf.GradientTape() as tape:
            tape.watch(matrix)
            norm = 3.0 * nuat.nuclear_norm(matrix)
        left, values, right = np.linalg.svd(LOGITS, full_matrices=False)
        self.assertAllClose(norm, 3.0 * values.sum())
        self.assertAllClose(tape.gradient(norm, matrix), 3.0 * left @ right)
        equal = tf.ones((5, 4))  # Singular values of zero.
        with tf.GradientTape() as tape:
            tape.watch(equal)
            norm = nuat.nuclear_norm(equal)
        self.assertAllInRange(tape.gradient(norm, equal), -1.0, 1.0)

    def test_divergences(self):
        p, q = softmax(LOGITS), softmax(OTHERS)
        self.assertAllClose(
            trades.divergence(tf.constant(LOGITS), tf.constant(OTHERS)),
            divergence(p, q),
        )
        mean = (p + q) / 2
        self.assertAllClose(
            liet.jensen_shannon(tf.constant(LOGITS), tf.constant(OTHERS)),
            (divergence(p, mean) + divergence(q, mean)) / 2,
        )

    @parameterized.product(factor=(1.0, 0.6, 0.3), smoothing=(0.0, 0.4))
    def test_relaxed_labels(self, factor, smoothing):
        loss = losses.get("crossentropy", label_smoothing=smoothing)
        found = relaxed(
            lambda z: loss.call(LABELS, z), tf.constant(LOGITS), factor
        )
        targets = np.full((5, 4), (1 - factor) / 3)
        targets[np.arange(5), LABELS] = factor
        targets = (1 - smoothing) * targets + smoothing / 4
        expected = -(targets * np.log(softmax(LOGITS))).sum(-1)
        self.assertAllClose(found, expected)

    def test_normal_start_of_trades(self):
        robust = build("trades", steps=1, step_size=0.0)
        _, outcome = compute(robust, [0, 1, 2, 3])
        delta = outcome.solution.perturbation.numpy()
        images, _ = testing.images_and_labels(4)
        inside = delta[(images > 0.01) & (images < 0.99)]
        self.assertAllClose(inside.std(), trades.START_DEVIATION, rtol=0.1)
        self.assertAllClose(inside.mean(), 0.0, atol=2e-4)
        self.assertGreater(np.abs(inside).max(), 2 * trades.START_DEVIATION)


class TradesTest(tf.test.TestCase):
    """Where it starts; `method_reference_test.py` has its steps and loss."""

    def test_start_is_the_normal_quantile_of_the_draw(self):
        robust = build("trades", steps=1, step_size=0.0)
        gray = tf.fill((4, 8, 8, 3), 0.5)
        draws = Draws(0, 3)
        outcome = robust.compute_gradients(gray, LABELS[:4], draws)
        quantile = np.vectorize(statistics.NormalDist(0, 0.001).inv_cdf)
        expected = quantile(draws.uniform("start", gray.shape, 0, 1, "float64"))
        # The perturbed image is rounded to 6e-8.
        self.assertAllClose(outcome.solution.perturbation, expected, 1e-5, 1e-7)

    def test_a_draw_next_to_one(self):
        """The 28th batch of CIFAR-10 from seed 37 has one."""
        images = tf.zeros((128, 32, 32, 3))
        draws = Draws(37, 27)
        drawn = draws.uniform("start", images.shape, 0.0, 1.0, "float32")
        self.assertEqual(drawn.numpy().max(), 1 - 2**-24)
        network = testing.small_network()
        step = StepContext(network, None, images, None, draws=draws)
        start = step.normal("start", trades.START_DEVIATION)
        self.assertAllInRange(start, -5.3e-3, 5.3e-3)
        self.assertAllClose(
            start.numpy().max(),
            -statistics.NormalDist(0, 0.001).inv_cdf(2.0**-24),
        )

    def test_a_draw_has_a_row_for_each_example(self):
        """Replicas would draw the same numbers for different examples."""
        images = tf.zeros((6, 2, 2, 3))
        network = testing.small_network()
        step = StepContext(network, None, images, None, draws=Draws(3, 0))
        for shape, shown in (
            ((), r"\(\)"),
            ((1, 4), r"\(1, 4\)"),
            (tf.constant([3, 6]), r"\(3, 6\)"),
        ):
            line = f"row for each example.*shared=True.*name=a, shape={shown}$"
            with self.assertRaisesRegex(InputError, line):
                step.draw("a", shape)
        self.assertEqual(step.draw("a", (6, 4)).shape, (6, 4))
        self.assertEqual(step.draw("a", (3, 6), shared=True).shape, (3, 6))

    def test_a_start_in_l2_is_uniform_in_the_ball_of_each_image(self):
        """In d dimensions, the share r^d of the starts is within r."""
        gray = tf.fill((4000, 2, 2, 1), 0.5)
        network = testing.small_network()
        context = StepContext(network, None, gray, None, draws=Draws(3, 0))
        start = context.random_start(0.3, norm="l2").numpy()
        sizes = np.linalg.norm(start.reshape(4000, 4), axis=-1)
        counts, _ = np.histogram((sizes / 0.3) ** 4, 5, (0, 1 + 1e-5))
        self.assertAllInRange(counts, 700, 900)
        self.assertEqual(sum(counts), 4000)
        # The same starts, of images that are close to white.
        context.images = tf.fill((4000, 2, 2, 1), 0.9)
        clipped = context.random_start(0.3, norm="l2")
        self.assertAllClose(clipped, np.minimum(start, 0.1), atol=1e-6)


class ScheduleTest(tf.test.TestCase, parameterized.TestCase):
    def test_progress(self):
        plan = Plan(epochs=6, steps_per_epoch=5, batch_size=2)
        progress = plan.progress(tf.constant(3 * (2 * 5 + 4) + 1), replays=3)
        self.assertEqual([int(x) for x in progress], [2, 4, 1, 6])

    @parameterized.parameters((0, 10.0), (85, 10.0), (86, 40.0), (99, 40.0))
    def test_coefficient_of_gat(self, epoch, expected):
        step = StepContext(
            testing.small_network(),
            None,
            tf.zeros((1, 2, 2, 3)),
            None,
            draws=None,
            progress=Progress(tf.constant(epoch), 0, 0, 100),
        )
        self.assertAllClose(methods.get("gat")._weight(step), expected)

    def test_guided_attack_every_other_batch(self):
        """The guiding term changes the step of odd batches alone."""
        found = []
        for coefficient in (0.0, 1e4):
            robust = build("gat", coefficient=coefficient)
            found.append(
                [
                    compute(robust, [0, 1, 2, 3], step=s)[
                        1
                    ].solution.perturbation.numpy()
                    for s in (0, 1)
                ]
            )
        self.assertAllEqual(found[0][0], found[1][0])
        self.assertNotAllEqual(found[0][1], found[1][1])

    @parameterized.parameters((8 / 255, 1), (12 / 255, 3))
    def test_liet_projects_small_perturbations(self, epsilon, reach):
        robust = build("liet", epsilon=epsilon)
        _, outcome = compute(robust, [0, 1, 2, 3])
        largest = np.abs(outcome.solution.perturbation).max()
        self.assertAllInRange(largest / (reach * epsilon), 0.85, 1 + 1e-5)

    def test_random_smoothing_of_liet(self):
        """Everything spread, and nothing: a loss without and with labels."""
        plain = build("fastat")
        logits = tf.constant(LOGITS, tf.float32)
        for smoothing in (0.0, 0.6):
            method = methods.get("liet", random_smoothing=smoothing)
            step = StepContext(
                plain.classifier,
                plain.loss.call,
                tf.zeros((5, 8, 8, 3)),
                tf.constant(LABELS),
                draws=Draws(0, 0),
            )
            found = method._losses(step, logits, "smoothing").numpy()
            shares = step.draw("smoothing", (5, 4)).numpy()
            shares[np.arange(5), LABELS] = 0
            targets = smoothing * shares / shares.sum(-1, keepdims=True)
            targets[np.arange(5), LABELS] = 1 - smoothing
            expected = -(targets * np.log(softmax(LOGITS))).sum(-1)
            self.assertAllClose(found, expected, 1e-5)

    def test_nuat_begins_with_clean_training(self):
        robust = build("nuat")
        clean = build("standard")
        images, labels = testing.images_and_labels(4)
        outcomes = [
            r.compute_gradients(tf.constant(images), labels, Draws(0, 0))
            for r in (robust, clean)
        ]
        self.assertAllClose(outcomes[0].loss, outcomes[1].loss)
        for ours, theirs in zip(
            outcomes[0].gradients, outcomes[1].gradients, strict=True
        ):
            self.assertAllClose(ours, theirs, 1e-4, 1e-6)
        later = robust.compute_gradients(
            tf.constant(images), labels, Draws(0, 0), step=2 * 5
        )
        difference = robust.classifier(images, training=True) - later.logits
        norm = np.linalg.svd(difference.numpy(), compute_uv=False).sum()
        expected = outcomes[1].loss + 4.5 * 5 / 10 * norm / 4
        self.assertAllClose(later.loss, expected, 1e-4)


if __name__ == "__main__":
    tf.test.main()
