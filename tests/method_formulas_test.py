"""Parts of the methods against closed forms and NumPy."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import Plan, losses, methods
from fastbat_tf.draws import Draws
from fastbat_tf.methods import liet, nuat, trades, zerograd
from fastbat_tf.methods.relaxation import relaxed
from fastbat_tf.methods.state import Place
from fastbat_tf.step import Step
from tests import testing
from tests.method_steps import build, compute

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


class TradesTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters("inference", "training")
    def test_step(self, attack_mode):
        """The attack and the loss, written out once more."""
        network = testing.small_network()
        options = {"steps": 3, "coefficient": 4.0, "attack_mode": attack_mode}
        robust = build("trades", network=network, **options)
        network.get_layer("bn").moving_mean.assign(0.3 * tf.ones(4))
        kept = network.get_layer("bn").moving_variance
        before = kept.numpy()
        images, labels = testing.images_and_labels(4)
        _, outcome = compute(robust, [0, 1, 2, 3])
        delta = outcome.solution.perturbation.numpy()
        self.assertNotAllClose(kept, before)

        copy = testing.small_network()
        copy.set_weights(network.get_weights())
        copy.get_layer("bn").moving_variance.assign(before)
        copy.get_layer("bn").moving_mean.assign(0.3 * tf.ones(4))
        training = attack_mode == "training"
        drawn = Draws(0, 0).uniform("start", images.shape, 0.0, 1.0, "float32")
        found = 1e-3 * tf.math.ndtri(drawn + 2.0**-25)
        p = tf.nn.softmax(copy(images, training=training))
        for _ in range(3):
            with tf.GradientTape() as tape:
                tape.watch(found)
                q = tf.nn.softmax(copy(images + found, training=training))
                apart = tf.reduce_sum(p * tf.math.log(p / q))
            moved = found + 2 / 255 * tf.sign(tape.gradient(apart, found))
            moved = tf.clip_by_value(moved, -EPSILON, EPSILON)
            found = tf.clip_by_value(images + moved, 0.0, 1.0) - images
        agreeing = np.abs(delta - found.numpy()) < 1e-5
        self.assertGreater(agreeing.mean(), 0.99)

        p = softmax(copy(images, training=True).numpy())
        q = softmax(copy(images + delta, training=True).numpy())
        plain = -np.log(p[np.arange(4), labels])
        expected = plain.mean() + 4.0 * divergence(p, q).mean()
        self.assertAllClose(outcome.loss, expected, 1e-4)


class ScheduleTest(tf.test.TestCase, parameterized.TestCase):
    def test_place(self):
        plan = Plan(epochs=6, steps_per_epoch=5, batch_size=2)
        place = plan.place(tf.constant(3 * (2 * 5 + 4) + 1), replays=3)
        self.assertEqual([int(x) for x in place], [2, 4, 1, 6])

    @parameterized.parameters((0, 10.0), (85, 10.0), (86, 40.0), (99, 40.0))
    def test_coefficient_of_gat(self, epoch, expected):
        step = Step(
            testing.small_network(),
            None,
            tf.zeros((1, 2, 2, 3)),
            None,
            None,
            place=Place(tf.constant(epoch), 0, 0, 100),
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
            step = Step(
                plain.classifier,
                plain.loss.call,
                tf.zeros((5, 8, 8, 3)),
                tf.constant(LABELS),
                Draws(0, 0),
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
