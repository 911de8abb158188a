"""Parts of the methods against closed forms and NumPy."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import Plan, RobustClassifier, layers, losses, methods
from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError
from fastbat_tf.methods import convergence, liet, nuat, trades, zerograd
from fastbat_tf.methods.relaxation import relaxed
from fastbat_tf.methods.state import Place
from fastbat_tf.step import Step
from tests import testing

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


def build(name, plan=None, network=None, seed=0, **options):
    network = network or testing.small_network()
    robust = RobustClassifier(network, methods.get(name, **options), seed)
    return robust.compile(
        keras.optimizers.SGD(0.05),
        plan=plan or Plan(10, 2, 4, examples=8),
        run_eagerly=True,
    )


def train(robust, index, seed=0):
    """One update on four images; returns its images and logs."""
    images, labels = testing.images_and_labels(4, seed=seed)
    data = {"images": images, "index": np.array(index, "int32")}
    return images, robust.train_on_batch(data, labels, return_dict=True)


def compute(robust, index, seed=0, step=None):
    images, labels = testing.images_and_labels(4, seed=seed)
    step = int(robust.step) if step is None else step
    return images, robust.compute_gradients(
        tf.constant(images),
        labels,
        Draws(robust.seed, step),
        tf.constant(index),
        step=step,
    )


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


class StateTest(tf.test.TestCase, parameterized.TestCase):
    def test_memory_is_read_in_the_next_epoch(self):
        robust = build("fgsm_pgi", label_factor=1.0)
        train(robust, [5, 2, 7, 1])
        entries = robust.method_state.entries
        self.assertAllEqual(entries["written"], [-1, 0, 0, -1, -1, 0, -1, 0])
        kept = entries["delta"].numpy()
        self.assertAllEqual(kept[[0, 3, 4, 6]], np.zeros((4, 8, 8, 3)))
        reach = np.abs(kept[[5, 2, 7, 1]]).max((1, 2, 3))
        self.assertAllClose(reach, np.full(4, EPSILON))
        # Two of them again, and two that are new: these begin at random.
        outcome = compute(robust, [1, 0, 5, 3], step=2)[1]
        start = outcome.notes["start"].numpy()
        self.assertAllEqual(start[[0, 2]], kept[[1, 5]])
        self.assertAllClose(
            np.abs(start[[1, 3]]), np.full((2, 8, 8, 3), EPSILON)
        )
        self.assertAllClose(start[[1, 3]].mean(), 0.0, atol=EPSILON / 5)

    @parameterized.parameters((2, 3, True), (2, 4, False), (3, 4, True))
    def test_memory_is_reset(self, reset, epoch, remembers):
        """Written in epoch 2 (or in 3); epochs 0, reset, ... forget."""
        plan = Plan(10, 2, 4, examples=8)
        robust = build("fgsm_pgi", plan, reset_epochs=reset)
        robust.step.assign(2 * (3 if reset == 3 else 2))
        train(robust, [0, 1, 2, 3])
        outcome = compute(robust, [0, 1, 2, 3], step=2 * epoch)[1]
        kept = robust.method_state.entries["delta"].numpy()[:4]
        same = np.array_equal(outcome.notes["start"].numpy(), kept)
        self.assertEqual(same, remembers)
        momentum = outcome.notes["momentum"].numpy()
        self.assertEqual(bool(np.abs(momentum).max() > 0), remembers)

    def test_fastbat_remembers_its_solution(self):
        robust = build("fastbat", linearization="remembered")
        first = compute(robust, [4, 5, 6, 7])[1].solution
        train(robust, [4, 5, 6, 7])
        delta = first.perturbation.numpy()
        kept = robust.method_state.entries["delta"].numpy()
        self.assertAllClose(kept[4:], delta, 1e-5, 1e-6)
        images, again = compute(robust, [4, 5, 6, 7], seed=1, step=2)
        point = again.solution.memory["linearization_point"]
        expected = np.clip(images + kept[4:], 0, 1) - images
        self.assertAllClose(point, expected, 1e-6, 1e-7)
        # In the first epoch it begins at random, as `random` does.
        other = build("fastbat", linearization="random")
        self.assertAllClose(
            compute(other, [4, 5, 6, 7])[1].solution.perturbation, delta
        )

    def test_free_carries_its_perturbation(self):
        robust = build("free", replays=2)
        images, _ = train(robust, [0, 1, 2, 3])
        kept = robust.method_state.entries["perturbation"].numpy()
        self.assertEqual(kept.shape, (4, 8, 8, 3))
        # Two steps of epsilon, each to a corner or back to zero.
        steps = np.abs(kept) / EPSILON
        self.assertAllClose(steps, np.round(steps), atol=1e-5)
        self.assertAllEqual(robust.optimizer.iterations, 2)
        images, outcome = compute(robust, [0, 1, 2, 3], seed=1)
        self.assertAllClose(
            outcome.solution.perturbation,
            np.clip(images + kept, 0, 1) - images,
        )
        zero = build("free", replays=2, start="zero")
        train(zero, [0, 1, 2, 3])
        outcome = compute(zero, [0, 1, 2, 3], seed=1)[1]
        self.assertAllEqual(outcome.solution.perturbation, tf.zeros_like(kept))

    def test_convergence_remembers_the_epoch_before(self):
        robust = build("fgsm_rs_cs", tolerance=0.0, label_factor=1.0)
        seen, signs = [], []
        for number in range(6):  # Two batches an epoch.
            _, outcome = compute(robust, [0, 1, 2, 3], seed=number)
            seen.append(float(outcome.notes["sum"]) / 4)
            signs.append(float(outcome.reports["convergence_sign"]))
            before = float(robust.method_state.entries["previous"])
            train(robust, [0, 1, 2, 3], seed=number)
            if number in (3, 5):
                mean = np.mean(seen[number - 3 : number - 1])
                self.assertAllClose(before, mean, 1e-3)
        # Off in the epochs 0 and 1.
        self.assertEqual(signs[:4], [0.0] * 4)
        expected = np.sign(np.array(seen[4:]) - np.mean(seen[2:4]))
        self.assertAllEqual(signs[4:], expected)

    @parameterized.parameters((1, 0.0), (2, 1.0), (8, 1.0), (9, 0.0))
    def test_convergence_leaves_the_ends_alone(self, epoch, sign):
        place = Place(tf.constant(epoch), tf.constant(1), 0, 10)
        state = {name: tf.constant(1.0) for name in convergence.SLOTS}
        step = Step(
            testing.small_network(),
            None,
            None,
            None,
            None,
            place=place,
            state=state,
        )
        added = convergence.term(step, tf.constant([2.0, 4.0]), 1.9, 0.5, 1)
        self.assertAllClose(added, sign * 0.5 * 3.0)
        added = convergence.term(step, tf.constant([2.0, 4.0]), 2.1, 0.5, 1)
        self.assertAllClose(added, 0.0)

    def test_adaptive_elle(self):
        method = methods.get("elle", coefficient_schedule="adaptive")
        state = {
            name: tf.constant(0.0) for name in method.initial_state(None, None)
        }
        errors, weight = [], 0.0
        for error in (1.0, 3.0, 2.0, 2.0, 9.0, 2.0, 1.0, 30.0, 2.0):
            step = Step(
                testing.small_network(),
                None,
                None,
                None,
                None,
                state=state,
                notes={"error": tf.constant(error)},
            )
            state = method.update(step)
            errors.append(error)
            limit = np.mean(errors) + 2 * np.std(errors)
            jumped = len(errors) > 2 and error > limit
            weight = 10.0 if jumped else 0.99 * weight
            self.assertAllClose(state["weight"], weight)
        self.assertGreater(weight, 9)

    def test_universal_perturbations_of_absent_classes_stay(self):
        robust = build("fgsm_cuap")
        entries = robust.method_state.entries
        before = entries["uap"].numpy()
        self.assertAllClose(np.abs(before), np.full(before.shape, 10 / 255))
        _, labels = testing.images_and_labels(4)
        self.assertLess(len(set(labels)), 4)
        train(robust, [0, 1, 2, 3])
        for label in range(4):
            moved = not np.array_equal(before[label], entries["uap"][label])
            self.assertEqual(moved, label in labels)

    def test_features_need_a_dense_end(self):
        inputs = keras.Input((8, 8, 3))
        x = keras.layers.Conv2D(4, 8)(inputs)
        network = keras.Model(inputs, keras.layers.Flatten()(x))
        with self.assertRaisesRegex(InputError, "Dense.*Received: .*=Flatten"):
            RobustClassifier(network, methods.get("fgsm_fuap"))
        network = testing.small_network()
        features = layers.before_last_dense(network)
        images, _ = testing.images_and_labels(3)
        dense = network.get_layer("dense")
        self.assertAllClose(dense(features(images)), network(images))


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
