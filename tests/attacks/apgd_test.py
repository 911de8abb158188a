"""Tests APGD against the published algorithm in NumPy."""

import functools

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.attacks.apgd import (
    APGD,
    APGDTargeted,
    checkpoint_windows,
)
from fastbat_tf.errors import InputError
from tests.support import attack_problems
from tests.support.attack_problems import NORMS, SHAPE, between, linear_problem

PUBLISHED = [22, 41, 57, 70, 80, 87, 93, 99]


def reference(loss_and_gradient, image, start, *, epsilon, steps, norm):
    """Algorithm 1 of arXiv 2003.01690 for one image, in float64.

    Args:
        loss_and_gradient: Function of one point.
        image: Array.
        start: Array, x^(0).
        epsilon: Float.
        steps: Integer, N_iter.
        norm: `"linf"` or `"l2"`.

    Returns:
        f_max after each of the `steps + 1` points, and the number of halvings.
    """

    def project(point):
        delta = point - image
        if norm == "linf":
            delta = np.clip(delta, -epsilon, epsilon)
        else:
            delta = delta * min(1, epsilon / np.linalg.norm(delta))
        return np.clip(image + delta, 0, 1)

    def direction(gradient):
        if norm == "linf":
            return np.sign(gradient)
        return gradient / np.linalg.norm(gradient)

    # The checkpoints w_j = p_j * N_iter, in integers.
    window, smallest = int(0.22 * steps), int(0.06 * steps)
    shrink = int(0.03 * steps)
    checkpoints, last = [window], window
    while last <= steps:
        window = max(window - shrink, smallest)
        last += window
        checkpoints.append(last)

    step_size, halvings = 2 * epsilon, []
    before = start
    loss, gradient = loss_and_gradient(before)
    history, best_losses = [loss], [loss]
    best_point, best_loss, best_gradient = before, loss, gradient
    point = project(before + step_size * direction(gradient))
    last_check, checked_best, halved = 0, loss, True
    for number in range(1, steps + 1):
        loss, gradient = loss_and_gradient(point)
        history.append(loss)
        if loss > best_loss:
            best_point, best_loss, best_gradient = point, loss, gradient
        best_losses.append(best_loss)
        if number in checkpoints:
            rises = sum(
                history[i + 1] > history[i] for i in range(last_check, number)
            )
            oscillates = rises <= 0.75 * (number - last_check)
            stalls = not halved and best_loss == checked_best
            halved = oscillates or stalls
            if halved:
                step_size /= 2
                halvings.append(number)
                point, gradient = best_point, best_gradient
            last_check, checked_best = number, best_loss
        ahead = project(point + step_size * direction(gradient))
        moved = point + 0.75 * (ahead - point) + 0.25 * (point - before)
        before, point = point, project(moved)
    return np.array(best_losses), halvings


class CheckpointTest(tf.test.TestCase):
    def test_published_for_a_hundred_steps(self):
        windows = checkpoint_windows(100)
        self.assertAllEqual(np.flatnonzero(windows), PUBLISHED)
        self.assertAllEqual(windows[PUBLISHED], np.diff([0, *PUBLISHED]))
        self.assertLen(windows, 101)

    def test_every_number_of_steps(self):
        for steps in range(1, 150):
            windows = checkpoint_windows(steps)
            self.assertLen(windows, steps + 1)
            checks = np.flatnonzero(windows)
            self.assertEqual(windows[0], 0)
            self.assertAllEqual(windows[checks], np.diff([0, *checks]))
            self.assertTrue((np.diff(windows[checks]) <= 0).all())


class AlgorithmTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.product(norm=NORMS, loss=("ce", "margin"), seed=(0, 3))
    def test_like_the_published_algorithm(self, norm, loss, seed):
        random = np.random.default_rng(3)
        image = random.random((1, *SHAPE)).astype("float32")
        image[image < 0.1], image[image > 0.9] = 0, 1
        network = attack_problems.smooth_network(seed=seed, width=16, scale=2.0)
        first, last = (w.astype("float64") for w in network.weights)
        label = int(network(image)[0].numpy().argmax())
        epsilon = 0.3 if norm == "linf" else 2.0

        def loss_and_gradient(point):
            hidden = np.tanh((point.ravel() - 0.5) @ first)
            z = hidden @ last
            if loss == "ce":
                p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
                value, slope = -np.log(p[label]), p - np.eye(4)[label]
            else:
                other = np.argmax(np.where(np.arange(4) == label, -np.inf, z))
                value = z[other] - z[label]
                slope = np.eye(4)[other] - np.eye(4)[label]
            gradient = first @ ((1 - hidden**2) * (last @ slope))
            return value, gradient.reshape(SHAPE)

        attack = APGD(loss=loss, norm=norm)
        attack.stops = False  # Without stopping, to compare all steps.
        problem = {
            "images": tf.constant(image),
            "labels": tf.constant([label]),
            "targets": tf.constant([0]),
        }
        _, state = attack.start(
            image,
            np.array([label]),
            np.array([0]),
            np.float32(epsilon),
            [np.random.default_rng(4)],
        )
        start = np.array(state["point"][0], np.float64)
        state = {key: tf.convert_to_tensor(v) for key, v in state.items()}
        state |= {
            "found": problem["images"],
            "loss": tf.constant([-np.inf]),
            "predicted": problem["labels"],
            "confidence": tf.constant([1.0]),
        }
        best, step_sizes = [], []
        step = tf.function(
            functools.partial(attack.step, network), autograph=False
        )
        for iteration in range(101):
            state["iteration"] = tf.constant([iteration])
            state = step(problem, state, tf.constant(epsilon))
            best.append(float(state["loss"][0]))
            step_sizes.append(float(state["step_size"][0]))
        expected, halvings = reference(
            loss_and_gradient,
            image[0].astype("float64"),
            start,
            epsilon=epsilon,
            steps=100,
            norm=norm,
        )
        self.assertAllClose(best, expected, rtol=1e-4, atol=1e-4)
        self.assertAllClose(step_sizes[0], 2 * epsilon)
        falls = 1 + np.flatnonzero(np.diff(step_sizes) < 0)
        self.assertAllEqual(falls, halvings)
        self.assertContainsSubset(halvings, PUBLISHED)
        self.assertBetween(len(halvings), 2, 8)
        self.assertAllClose(step_sizes[-1], 2 * epsilon / 2 ** len(halvings))
        # The best loss rises many times, so that many numbers are compared.
        self.assertGreater(len(np.unique(expected)), 5)

    @parameterized.parameters(*NORMS)
    def test_starts_on_the_sphere(self, norm):
        problem = linear_problem(6)
        attack = APGD(norm=norm)
        generators = [np.random.default_rng(i) for i in range(6)]
        _, state = attack.start(
            problem.images, problem.labels, None, np.float32(0.1), generators
        )
        deltas = state["point"].numpy() - problem.images
        self.assertAllClose(
            attack_problems.sizes(deltas, norm), np.full(6, 0.1), atol=1e-5
        )
        self.assertLen(np.unique(deltas, axis=0), 6)


class OptimumTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.product(loss=("ce", "dlr", "margin"), norm=NORMS)
    def test_linear_network_of_two_classes(self, loss, norm):
        problem = linear_problem(30, seed=1)
        radii = problem.radii[norm]
        epsilon = between(radii, 12)
        attack = APGD(loss=loss, steps=20, norm=norm).on(problem.network)
        result = attack(problem.images, problem.labels, epsilon)
        self.assertAllEqual(result.clean_correct, radii > 0)
        self.assertAllEqual(result.robust, radii > epsilon)

    @parameterized.product(classes=(3, 5), norm=NORMS)
    def test_linear_network_of_many_classes(self, classes, norm):
        problem = linear_problem(30, classes, seed=1)
        radii = problem.radii[norm]
        epsilon = between(radii, 12)
        attack = APGDTargeted(steps=20, norm=norm).on(problem.network)
        result = attack(problem.images, problem.labels, epsilon)
        self.assertAllEqual(result.robust, radii > epsilon)

    @parameterized.parameters(*NORMS)
    def test_dlr_among_many_classes(self, norm):
        problem = linear_problem(30, classes=5, seed=1)
        radii = problem.radii[norm]
        epsilon = between(radii, 12)
        attack = APGD(loss="dlr", steps=30, norm=norm).on(problem.network)
        result = attack(problem.images, problem.labels, epsilon)
        # It targets the likeliest class, which need not be the nearest.
        self.assertFalse(result.robust[radii < 0.9 * epsilon].any())
        self.assertTrue(result.robust[radii > epsilon].all())


class TargetTest(tf.test.TestCase):
    def targets(self, attack, logits, labels):
        """The targets of all rounds of an attack, by example."""
        seen = [[] for _ in labels]
        start = attack.attack.start

        def watched(images, labels, targets, epsilon, generators):
            for image, target in zip(images, targets, strict=True):
                seen[int(round(float(image[0, 0, 0]) * 100))].append(target)
            return start(images, labels, targets, epsilon, generators)

        attack.attack.start = watched
        images = np.zeros((len(labels), *SHAPE), np.float32)
        images[:, 0, 0, 0] = np.arange(len(labels)) / 100
        attack(images, labels, 1e-3)
        return seen

    def network(self, logits):
        def network(images):
            number = tf.cast(tf.round(images[:, 0, 0, 0] * 100), tf.int32)
            return tf.gather(tf.constant(logits), number)

        return network

    def test_from_the_likeliest_down(self):
        logits = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
        labels = logits.argmax(axis=-1)
        attack = APGDTargeted(steps=2).on(self.network(logits))
        self.assertEqual(attack.rounds(6), 5)
        expected = np.argsort(-logits, axis=-1)[:, 1:]
        seen = self.targets(attack, logits, labels)
        self.assertAllEqual(seen, expected)

    def test_no_more_than_nine(self):
        logits = np.random.default_rng(0).normal(size=(2, 12)).astype("float32")
        labels = logits.argmax(axis=-1)
        attack = APGDTargeted(steps=1).on(self.network(logits))
        expected = np.argsort(-logits, axis=-1)[:, 1:10]
        self.assertAllEqual(self.targets(attack, logits, labels), expected)

    def test_equal_and_infinite_logits(self):
        logits = np.array([[0, 0, 0, 0], [1, -np.inf, 0, -np.inf]], np.float32)
        attack = APGDTargeted(steps=1).on(self.network(logits))
        seen = self.targets(attack, logits, np.array([0, 0]))
        self.assertAllEqual(np.sort(seen, axis=-1), [[1, 2, 3]] * 2)
        self.assertEqual(seen[1][0], 2)


class SamplesTest(tf.test.TestCase):
    def test_asks_so_often(self):
        problem = linear_problem(4, wrong=False)
        calls = tf.Variable(0)

        def network(batch):
            calls.assign_add(1)
            return problem.network(batch)

        attack = APGD(steps=3, samples=5).on(network)
        attack(problem.images, problem.labels, 1e-4)
        self.assertEqual(int(calls), 1 + 4 * 5)  # One call to classify.

    def test_refused(self):
        for name in ("steps", "restarts", "samples"):
            with self.assertRaisesRegex(InputError, f"Received: {name}=0"):
                APGD(**{name: 0})
        with self.assertRaisesRegex(InputError, "target_classes=0"):
            APGDTargeted(target_classes=0)


if __name__ == "__main__":
    tf.test.main()
