"""Tests what all attacks share: the loop over a data set."""

import collections

import numpy as np
import pytest
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import attacks
from fastbat_tf.attacks.base import SteppedAttack
from fastbat_tf.attacks.pgd import PGD
from fastbat_tf.attacks.records import Record
from fastbat_tf.errors import InputError
from tests.support import attack_problems
from tests.support.attack_problems import (
    SHAPE,
    SIZE,
    SMALL_ATTACKS,
    between,
    linear_problem,
)

# One attack of each class, and one that averages gradients.
COMPILED_ATTACKS = (
    "pgd-3-2",
    "apgd-t-3",
    "apgd-dlr-rand-2",
    "fab-t-3",
    "square-12",
    "transfer-pgd-2-2",
)


def counting(network):
    """The network, and a list that grows with each trace."""
    traces = []

    def counted(batch):
        traces.append(tuple(batch.shape))
        return network(batch)

    return counted, traces


class LoopTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(
        *((name, False) for name in SMALL_ATTACKS),
        *((name, True) for name in COMPILED_ATTACKS),
    )
    def test_traced_once(self, name, jit_compile):
        problem = linear_problem(11, classes=4)
        radius = between(problem.radii["linf"], 4)
        counted, traces = counting(attack_problems.smooth_network())
        attack = attack_problems.get(
            name, counted, batch_size=4, jit_compile=jit_compile
        )
        data = problem.images, problem.labels
        attack(*data, radius)
        count = len(traces)
        self.assertGreater(count, 1)
        sizes = {shape[0] for shape in traces}
        self.assertEqual(sizes, {None, 4} if jit_compile else {None})
        # A different radius, seed, number of images, and dtype.
        attack(*data, 2 * radius, seed=1)
        attack(data[0][:6], list(data[1][:6]), 1)
        attack(data[0].astype("float64"), data[1].astype("int64"), 8 / 255)
        self.assertLen(traces, count)

    @parameterized.product(norm=("linf", "l2"), name=("apgd-ce-60", "fab-t-20"))
    def test_pixels_that_have_no_room(self, norm, name):
        problem = attack_problems.boxed_problem(30)
        radii = problem.radii[norm]
        epsilon = between(radii, 12)
        attack = attacks.get(name, problem.network, norm=norm)
        result = attack(problem.images, problem.labels, epsilon)
        self.assertFalse(result.robust[radii < 0.99 * epsilon].any())
        self.assertTrue(result.robust[radii > epsilon].all())
        self.assertGreater(result.robust.sum(), 10)

    @parameterized.parameters(False, True)
    def test_fewer_and_more_examples_than_before(self, jit_compile):
        network, images, labels, radii, _ = linear_problem(9)
        radii = radii["linf"]
        epsilon = between(radii, 3)
        attack = PGD(steps=10, batch_size=4, jit_compile=jit_compile).on(
            network
        )
        for count in (3, 9, 1, 4):
            result = attack(images[:count], labels[:count], epsilon)
            self.assertAllEqual(result.robust, (radii > epsilon)[:count])

    @parameterized.product(
        name=(
            "pgd-5-2",
            "apgd-t-6",
            "fab-t-5",
            "square-60",
            "transfer-pgd-5-2",
        ),
        norm=("linf", "l2"),
    )
    # Each attack once, and each norm with half of them.
    @pytest.mark.quick("pgd linf", "apgd l2", "fab l2", "square linf")
    def test_batch_size_and_compiler_change_nothing(self, name, norm):
        problem = linear_problem(9, classes=4)
        network = attack_problems.smooth_network(seed=1)
        clean = network(problem.images).numpy()
        labels = clean.argmax(axis=-1)
        labels[4] = (labels[4] + 1) % 4
        epsilon = 0.012 if norm == "linf" else 0.06
        results = [
            attack_problems.get(name, network, norm=norm, **settings)(
                problem.images, labels, epsilon
            )
            for settings in (
                {"batch_size": 9},
                {"batch_size": 4},
                {"batch_size": 4, "jit_compile": True},
            )
        ]
        first = results[0]
        # Some are fooled and some are not: both paths of the loop are taken.
        self.assertBetween(first.robust.sum(), 1, 7)
        for other in results[1:]:
            self.assertAllEqual(first.clean_correct, other.clean_correct)
            self.assertAllEqual(first.robust, other.robust)
        uncompiled, compiled = results[1:]
        self.assertAllClose(
            first.perturbation, uncompiled.perturbation, atol=1e-6, rtol=0
        )
        # XLA sums in a different order, which steps amplify.
        self.assertAllClose(
            first.perturbation, compiled.perturbation, atol=1e-4, rtol=0
        )

    @parameterized.parameters(
        "pgd-5-3", "apgd-t-12", "fab-t-5", "square-120", "transfer-pgd-5-3"
    )
    def test_goes_on_after_an_interruption(self, name):
        problem = linear_problem(9, classes=4, wrong=False)
        network = attack_problems.smooth_network(seed=1)
        labels = network(problem.images).numpy().argmax(axis=-1)
        attack = attack_problems.get(name, network, batch_size=3)
        clean = attack.classify(problem.images, labels)

        def run(record, listener=None):
            attack.run(clean, record, 0.012, seed=5, listener=listener)

        whole = Record.start(clean.correct, clean)
        run(whole)
        self.assertBetween(whole.robust.sum(), 1, 8)

        class Interruption(Exception):
            pass

        record = Record.start(clean.correct, clean)
        seen = [0]

        def interrupt():  # Whenever a round has ended.
            if record.rounds.sum() > seen[-1]:
                seen.append(record.rounds.sum())
                raise Interruption

        interruptions = 0
        while True:
            try:
                run(record, interrupt)
                break
            except Interruption:
                interruptions += 1
        self.assertGreater(interruptions, 2)
        self.assertAllEqual(record.robust, whole.robust)
        self.assertAllEqual(record.rounds, whole.rounds)
        self.assertAllClose(record.loss, whole.loss, rtol=1e-5)
        self.assertAllClose(
            record.perturbation, whole.perturbation, atol=1e-6, rtol=0
        )

    def test_a_finished_record_is_left_alone(self):
        problem = linear_problem(4, wrong=False)
        attack = PGD(steps=2).on(problem.network)
        clean = attack.classify(problem.images, problem.labels)
        record = Record.start(clean.correct, clean)
        attack.run(clean, record, 1e-4)
        self.assertAllEqual(record.rounds, np.ones(4))
        calls = []
        attack.run(clean, record, 1e-4, listener=lambda: calls.append(1))
        self.assertEmpty(calls)
        self.assertAllEqual(record.rounds, np.ones(4))

    @parameterized.parameters(*SMALL_ATTACKS)
    def test_misclassified_images_are_not_attacked(self, name):
        problem = linear_problem(10)
        attack = attack_problems.get(name, problem.network)
        result = attack(problem.images, problem.labels, 0.005)
        wrong = problem.radii["linf"] < 0
        self.assertEqual(wrong.sum(), 2)
        self.assertAllEqual(result.clean_correct, ~wrong)
        self.assertFalse(result.robust[wrong].any())
        self.assertFalse(result.perturbation[wrong].any())

    def test_nothing_to_attack(self):
        problem = linear_problem(6)
        wrong = 1 - attack_problems.predictions(problem.network, problem.images)
        counted, traces = counting(problem.network)
        result = PGD(restarts=3).on(counted)(problem.images, wrong, 0.1)
        self.assertLen(
            traces, 1
        )  # Calls to classify; the attack is not traced.
        self.assertFalse(result.clean_correct.any())
        self.assertFalse(result.robust.any())
        self.assertFalse(result.perturbation.any())

    @parameterized.product(name=("pgd-3-2", "square-9"), norm=("linf", "l2"))
    def test_radius_zero(self, name, norm):
        problem = linear_problem(10)
        attack = attack_problems.get(name, problem.network, norm=norm)
        result = attack(problem.images, problem.labels, 0.0)
        self.assertAllEqual(result.clean_correct, problem.radii[norm] > 0)
        self.assertAllEqual(result.robust, result.clean_correct)
        self.assertFalse(result.perturbation.any())

    def test_decided_examples_make_room(self):
        # Images of 1 are fooled at once, the others never.
        images = np.full((12, *SHAPE), 0.5, np.float32)
        images[::3] = 1.0
        seen = []

        def network(batch):
            def look(pixels):
                pixels = pixels.numpy()
                seen.append(pixels)
                wrong = (pixels != 1) & (pixels > 0.9)
                return np.float32(wrong.any(axis=(1, 2, 3)))

            wrong = tf.py_function(look, [tf.stop_gradient(batch)], tf.float32)
            wrong = tf.ensure_shape(wrong, [None])
            return tf.stack([0.5 - wrong, tf.zeros_like(wrong)], axis=-1)

        attack = PGD(steps=19, restarts=2, batch_size=4).on(network)
        result = attack(images, np.zeros(12, np.int32), 0.01)
        self.assertAllEqual(result.robust, np.arange(12) % 3 != 0)
        calls = collections.Counter()
        for batch in seen[3:]:  # Three batches are classified.
            self.assertLessEqual(len(batch), 4)
            calls["broken"] += (batch > 0.9).all(axis=(1, 2, 3)).sum()
            calls["standing"] += (batch < 0.9).all(axis=(1, 2, 3)).sum()
        # Two rounds of 19 steps and a final check for each robust one, while
        # the others stay for at most the stride of 10.
        self.assertEqual(calls["standing"], 8 * 2 * 20)
        self.assertEqual(calls["broken"], 4 * 10)

    def test_stops_when_all_are_broken(self):
        calls = tf.Variable(0)

        def network(batch):
            calls.assign_add(1)
            wrong = tf.reduce_any(batch != 1.0, axis=(1, 2, 3))
            right = 0.5 - tf.cast(wrong, tf.float32)
            return tf.stack([right, tf.zeros_like(right)], axis=-1)

        images = np.ones((4, *SHAPE), np.float32)
        attack = PGD(steps=50, restarts=10).on(network)
        result = attack(images, np.zeros(4, np.int32), 0.01)
        self.assertFalse(result.robust.any())
        self.assertEqual(int(calls), 2)  # To classify, and at the start.

    def test_the_batch_is_no_larger_than_the_data_set(self):
        problem = linear_problem(5)
        counted, traces = counting(problem.network)
        attack = PGD(batch_size=200, jit_compile=True).on(counted)
        attack(problem.images, problem.labels, 0.01)
        self.assertEqual(set(traces), {(None, *SHAPE), (5, *SHAPE)})

    def test_bytes_and_floats_agree(self):
        problem = linear_problem(12)
        attack = PGD(steps=3).on(problem.network)
        gray_levels = np.round(255 * problem.images).astype(np.uint8)
        of_bytes, of_floats = (
            attack(pixels, problem.labels, 8 / 255)
            for pixels in (
                gray_levels,
                gray_levels.astype(np.float32) / np.float32(255),
            )
        )
        for one, other in zip(of_bytes, of_floats, strict=True):
            self.assertAllEqual(one, other)
        self.assertTrue(of_bytes.perturbation.any())

    def test_labels_of_floats(self):
        """Those of two classes often are; other numbers are no classes."""
        problem = linear_problem(12)
        attack = PGD(steps=1).on(problem.network)
        labels = np.float32(problem.labels)[:, None]
        of_floats = attack(problem.images, labels, 0.01)
        of_integers = attack(problem.images, problem.labels, 0.01)
        self.assertAllEqual(of_floats.robust, of_integers.robust)
        for wrong, message in (
            (0.5, r"likeliest class.*labels\[0\] with several of 0.5"),
            (2.5, "integers.*label=2.5, dtype=float32"),
            (np.nan, "integers.*label=nan"),
        ):
            with self.assertRaisesRegex(InputError, message):
                attack(problem.images, 0 * labels + wrong, 0.01)

    def test_gradients_leave_the_weights_alone(self):
        weights = tf.Variable(tf.ones((SIZE, 2)) * [[1.0, -1.0]])

        def network(batch):
            return tf.reshape(batch, (-1, SIZE)) @ weights

        images = np.full((2, *SHAPE), 0.5, np.float32)
        with tf.GradientTape() as tape:
            PGD(steps=2).on(network)(images, np.zeros(2, int), 0.01)
        self.assertAllEqual(weights[0], [1.0, -1.0])
        del tape

    @parameterized.parameters(
        ("linf", 1.01, r"linf=0.10"),
        ("l2", 1.01, r"l2=0.10"),
        ("linf", 9.0, r"pixels=\["),
        ("linf", np.nan, "linf=nan"),
    )
    def test_an_attack_that_leaves_its_ball(self, norm, factor, received):
        class Outside(SteppedAttack):
            name = "outside"
            steps = 1

            def start(self, images, labels, targets, epsilon, generators):
                return {}, {}

            def step(self, network, problem, state, epsilon):
                delta = tf.one_hot(0, SIZE) * epsilon * factor
                found = problem["images"] + tf.reshape(delta, (1, *SHAPE))
                return {**state, "iteration": state["iteration"] + 1} | {
                    "found": found
                }

        problem = linear_problem(3, wrong=False)
        data = problem.images, problem.labels
        with self.assertRaisesRegex(AssertionError, f"outside.*{received}"):
            Outside(norm=norm).on(problem.network)(*data, 0.1)
        factor = 1.0
        Outside(norm=norm).on(problem.network)(*data, 0.1)


if __name__ == "__main__":
    tf.test.main()
