"""Epsilon that another draw scales in each step."""

import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from fastbat_tf import (
    FGSM,
    PGD,
    EpsilonSchedule,
    FastAT,
    Method,
    RobustClassifier,
    Solution,
    Standard,
)
from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError
from tests.support import golden_network, testing

EPSILON, JITTER, SEED = 0.1, 0.4, 5
GRAY = np.full((4, 8, 8, 3), 0.5, np.float32)
LABELS = np.array([0, 1, 2, 3], "int32")


def shares(schedule, steps, seed=SEED):
    return np.array(
        [schedule.jittered(k, Draws(seed, k)).numpy() for k in range(steps)]
    )


def build(method, schedule, **compiled):
    network = testing.small_network(normalization=None, width=2)
    robust = RobustClassifier(network, method, seed=SEED)
    return robust.compile(
        keras.optimizers.SGD(0.05),
        epsilon_schedule=schedule,
        **(compiled or {"run_eagerly": True}),
    )


class SharesTest(tf.test.TestCase, parameterized.TestCase):
    def test_distribution(self):
        """Uniform in [1 - J, 1 + J): bounds, mean, variance, independence."""
        schedule = EpsilonSchedule(jitter=JITTER)
        drawn = shares(schedule, 100)
        self.assertAllInRange(drawn, 1 - JITTER, 1 + JITTER)
        self.assertLess(drawn.min(), 1 - 0.9 * JITTER)
        self.assertGreater(drawn.max(), 1 + 0.9 * JITTER)
        self.assertAllClose(drawn.mean(), 1.0, atol=0.08)
        self.assertAllClose(drawn.std(), JITTER / np.sqrt(3), rtol=0.2)
        self.assertLess(abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]), 0.3)
        self.assertAllEqual(drawn[:5], shares(schedule, 5))
        self.assertNotAllClose(drawn[:5], shares(schedule, 5, seed=6))

    def test_it_multiplies_the_schedule(self):
        alone = shares(EpsilonSchedule(jitter=JITTER), 8)
        schedule = EpsilonSchedule(2, 4, jitter=JITTER)
        schedule.lower(0.5)
        line = np.array([0, 0, 0.25, 0.5, 0.75, 1, 1, 1]) / 2
        self.assertAllClose(shares(schedule, 8), alone * line)
        # What the history shows has no jitter.
        self.assertAllClose([schedule.share(k) for k in range(8)], line)

    def test_none(self):
        """Nothing is drawn, and nothing is computed otherwise."""
        schedule = EpsilonSchedule(0, 3)
        for step in range(4):
            self.assertAllEqual(
                schedule.jittered(step, None), schedule.share(step)
            )

    @parameterized.parameters(-0.1, 1.0, float("nan"))
    def test_out_of_range(self, jitter):
        with self.assertRaisesRegex(
            InputError, rf"in \[0, 1\)\. Received: jitter={jitter}$"
        ):
            EpsilonSchedule(jitter=jitter)


class StepsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(
        (FGSM(EPSILON), np.inf),
        # It starts in the ball, and ends on its boundary.
        (PGD(EPSILON, steps=6, step_size=EPSILON, norm="l2"), 2),
    )
    def test_radius_of_each_step(self, method, norm):
        robust = build(method, EpsilonSchedule(jitter=JITTER))
        expected = EPSILON * shares(robust.epsilon_schedule, 3)
        for step in range(3):
            outcome = robust.compute_gradients(
                tf.constant(GRAY), LABELS, robust.draws(step), step=step
            )
            delta = outcome.solution.perturbation.numpy().reshape(4, -1)
            sizes = np.linalg.norm(delta, norm, axis=-1)
            self.assertAllClose(sizes, np.full(4, expected[step]), 1e-5)

    def test_modes(self):
        """Eagerly, as a graph, by XLA and on two replicas: the same.

        In float64: a sign of a gradient that is next to zero flips otherwise.
        """
        images, labels = testing.images_and_labels(12, dtype="float64")

        def train(strategy, schedule, **compiled):
            with strategy.scope():
                robust = build(FastAT(EPSILON), schedule(), **compiled)
            # `fit` gives each replica its part of a batch.
            robust.fit(images, labels, batch_size=4, shuffle=False, verbose=0)
            return [v.numpy() for v in robust.trainable_variables]

        def jittered():
            return EpsilonSchedule(0, 2, jitter=JITTER)

        here = tf.distribute.get_strategy()
        with golden_network.precision("float64"):
            eager = train(here, jittered)
            for strategy, jit_compile in (
                (here, False),
                (here, True),
                (testing.two_cpu_strategy(), False),
            ):
                found = train(strategy, jittered, jit_compile=jit_compile)
                for one, two in zip(eager, found, strict=True):
                    # The share is float32, which XLA rounds otherwise.
                    self.assertAllClose(one, two, 1e-6, 1e-9)
            plain = train(here, lambda: EpsilonSchedule(0, 2))
        self.assertNotAllClose(plain[0], eager[0], atol=1e-5)

    def test_a_loaded_model_goes_on(self):
        robust = build(FastAT(EPSILON), EpsilonSchedule(1, 3, jitter=JITTER))
        images, labels = testing.images_and_labels(4)
        for _ in range(2):
            robust.train_on_batch(images, labels)
        directory = self.enterContext(tempfile.TemporaryDirectory())
        path = pathlib.Path(directory, "robust.keras")
        robust.save(path)
        again = keras.models.load_model(path)
        self.assertEqual(again.epsilon_schedule.jitter, JITTER)
        again.run_eagerly = True
        for model in (robust, again):
            for _ in range(2):
                model.train_on_batch(images, labels)
        for one, two in zip(robust.weights, again.weights, strict=True):
            self.assertAllEqual(one, two)

    def test_earlier_models(self):
        config = EpsilonSchedule(1, 3).get_config()
        del config["jitter"]
        self.assertEqual(EpsilonSchedule.from_config(config).jitter, 0.0)


class RefusedTest(absltest.TestCase):
    def test_a_method_without_a_radius(self):
        class Nothing(Method):
            def solve(self, context):
                return Solution(tf.zeros_like(context.images))

        for method in (Standard(), Nothing()):
            with self.assertRaisesRegex(
                InputError,
                "that has a radius. Received: jitter=0.4, method="
                f"{type(method).__name__}$",
            ):
                build(method, EpsilonSchedule(jitter=JITTER))
        build(Standard(), EpsilonSchedule(1))

    def test_beyond_the_pixel_range(self):
        with self.assertRaisesRegex(
            InputError, "at most 1, .* Received: jitter=0.4, epsilon=0.8$"
        ):
            build(FastAT(0.8), EpsilonSchedule(jitter=JITTER))
        build(FastAT(0.7), EpsilonSchedule(jitter=JITTER))
        build(FastAT(0.8, norm="l2"), EpsilonSchedule(jitter=JITTER))


if __name__ == "__main__":
    absltest.main()
