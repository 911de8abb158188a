"""The methods that train in L2: closed forms, derivatives, and the ball."""

import math

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import (
    PGD,
    EpsilonSchedule,
    FastAT,
    FastBAT,
    Plan,
    RobustClassifier,
    evaluate_robustness,
    methods,
    perturbation,
)
from fastbat_tf.draws import Draws
from tests.support import golden_network, golden_steps, testing

NAMES = ("fastat", "fastbat", "mart", "pgd", "trades")
LINEARIZATIONS = FastBAT.options["linearization"].choices


def linear_network(weights):
    """Logits `x @ weights`, in float64."""
    network = keras.Sequential(
        [
            keras.Input((2, 2, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(2, use_bias=False),
        ]
    )
    network.set_weights([weights])
    return network


def build(network, method, **compiled):
    robust = RobustClassifier(network, method, seed=4)
    return robust.compile("sgd", **compiled)


def sizes(delta):
    delta = np.asarray(delta).astype("float64")
    return np.linalg.norm(delta.reshape(len(delta), -1), axis=-1)


class Recorder(keras.layers.Layer):
    """Keeps the pixels that enter a network, in eager mode."""

    def __init__(self, seen):
        super().__init__(autocast=False)
        self.record = seen.append

    def call(self, images):
        if tf.executing_eagerly():
            self.record(tf.cast(images, "float64").numpy())
        return images


class ClosedFormTest(tf.test.TestCase, parameterized.TestCase):
    """One image of four pixels, two logits, label 0.

    With d = w1 - w0 and s(u) = sigmoid(d . u):

        CE(u)         = log(1 + exp(d . u))
        g(delta)      = s d
        d CE / d w1   = s u                              = -d CE / d w0
        d<g, v>/d w1  = s v + (d . v) s (1 - s) u        = -d<g, v>/d w0
    """

    def setUp(self):
        super().setUp()
        random = np.random.default_rng(6)
        self.weights = random.normal(size=(4, 2))
        self.image = np.array([0.4, 0.97, 0.5, 0.02])
        self.noise = np.array([0.3, 0.1, -0.2, 0.2])
        self.share = 0.5
        self.along = self.weights[:, 1] - self.weights[:, 0]

    def gradient(self, delta):
        odds = self.along @ (self.image + delta)
        return self.along / (1 + math.exp(-odds))

    def project(self, moved, epsilon):
        scaled = moved * min(1, epsilon / np.linalg.norm(moved))
        return np.clip(scaled, -self.image, 1 - self.image)

    def start(self, epsilon):
        """From normal draws, made of uniform ones, and a radius."""
        shares = tf.constant(self.noise + 0.5)
        point = tf.math.ndtri((tf.floor(shares * 2**23) + 0.5) * 2**-23).numpy()
        radius = epsilon * self.share ** (1 / 4)
        return self.project(radius * point / np.linalg.norm(point), epsilon)

    def run_step(self, method):
        with golden_network.precision("float64"):
            robust = build(linear_network(self.weights), method)
            draws = golden_network.RecordedDraws(
                {
                    "start": self.noise.reshape(1, 2, 2, 1) + 0.5,
                    "start_radius": np.full((1, 1, 1, 1), self.share),
                }
            )
            return robust.compute_gradients(
                tf.constant(self.image.reshape(1, 2, 2, 1)),
                tf.constant([0]),
                draws,
            )

    @parameterized.parameters(
        lambda: FastAT(0.3, norm="l2"), lambda: PGD(0.3, 3, 0.1, norm="L2")
    )
    def test_normalized_steps(self, make):
        method = make()
        unit = self.along / np.linalg.norm(self.along)
        delta = self.start(0.3)
        for _ in range(getattr(method, "steps", 1)):
            delta = self.project(delta + method.step_size * unit, 0.3)
        found = self.run_step(method).solution.perturbation
        self.assertAllClose(found.numpy().ravel(), delta, 1e-9, 1e-12)

    @parameterized.parameters(0.3, 5.0)
    def test_fastbat(self, epsilon):
        step_size, implicit_lambda = 0.4, 7.0
        outcome = self.run_step(
            FastBAT(epsilon, step_size, implicit_lambda, norm="l2")
        )
        start = self.start(epsilon)
        z = self.project(start + step_size * self.gradient(start), epsilon)
        moved = z + step_size * self.gradient(z)
        delta = self.project(moved, epsilon)
        self.assertAllClose(
            outcome.solution.perturbation.numpy().ravel(), delta, 1e-9, 1e-12
        )
        # v = J_ball D g(delta*) / lambda.
        free = (-self.image < delta) & (delta < 1 - self.image)
        self.assertBetween(free.sum(), 1, 3)
        vector = free * self.gradient(delta)
        size = np.linalg.norm(moved)
        self.assertEqual(size > epsilon, epsilon < 1)
        if size > epsilon:
            outward = moved / size
            vector = epsilon / size * (vector - outward * (outward @ vector))
        vector /= implicit_lambda

        def s(delta):
            return 1 / (1 + math.exp(-self.along @ (self.image + delta)))

        plain = s(delta) * (self.image + delta)
        curvature = s(z) * (1 - s(z)) * (self.along @ vector)
        implicit = s(z) * vector + curvature * (self.image + z)
        total = plain + implicit
        self.assertAllClose(
            outcome.gradients, [np.stack([-total, total], -1)], 1e-9, 1e-12
        )
        self.assertAllClose(outcome.reports["interior_fraction"], free.mean())


class DerivativeTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        inside=(False, True),
        clipped=(False, True),
        linearization=("ns-pgd", "random"),
    )
    def test_gradient_is_the_total_derivative(
        self, inside, clipped, linearization
    ):
        """With step_size = 1 / lambda, the corrected gradient is that of

            F(theta) = mean CE(theta, x + P_C(z + g(z; theta) / lambda)),

        where z is a constant. Central differences, in random directions.
        """
        images, labels = testing.images_and_labels(4, dtype="float64")
        if not clipped:
            images = 0.4 + 0.2 * images
        epsilon, step_size = (40.0, 3.0) if inside else (1.0, 300.0)
        with golden_network.precision("float64"):
            network = testing.small_network(normalization=None, width=2)
            method = FastBAT(
                epsilon,
                step_size,
                1 / step_size,
                linearization=linearization,
                norm="l2",
            )
            robust = build(network, method)
            draws = golden_network.RecordedDraws(
                {
                    "start": np.random.default_rng(1).random(images.shape),
                    # Small, so that the start is inside.
                    "start_radius": np.full((4, 1, 1, 1), 1e-300),
                }
            )
            outcome = robust.compute_gradients(images, labels, draws)
            point = outcome.solution.memory["linearization_point"]
            moved = outcome.solution.memory["moved"]
            self.assertAllEqual(sizes(moved) < epsilon, [inside] * 4)
            fraction = float(outcome.reports["interior_fraction"])
            self.assertEqual(fraction < 1, clipped)
            self.assertGreater(float(outcome.reports["implicit_ratio"]), 1e-3)

            def objective():
                with tf.GradientTape() as tape:
                    tape.watch(point)
                    losses = robust.loss.call(labels, network(images + point))
                gradient = tape.gradient(losses, point)
                delta = perturbation.project(
                    point + step_size * gradient, images, epsilon, norm="l2"
                )
                logits = network(images + delta)
                return float(tf.reduce_mean(robust.loss.call(labels, logits)))

            differences = differentiate(network, objective)
            for direction, difference in differences:
                derivative = sum(
                    np.sum(g * u)
                    for g, u in zip(outcome.gradients, direction, strict=True)
                )
                self.assertAllClose(derivative, difference, 1e-7, 1e-9)

    def test_finite_difference(self):
        images, labels = testing.images_and_labels(4, dtype="float64")
        found = {}
        with golden_network.precision("float64"):
            for kind in ("exact", "finite_difference"):
                network = testing.small_network(normalization=None, width=2)
                method = golden_steps.RecordingFastBAT(
                    0.3, 3.0, 0.3, implicit_gradient=kind, norm="l2"
                )
                outcome = build(network, method).compute_gradients(
                    images, labels, Draws(1, 0)
                )
                plain = outcome.solution.memory["plain_gradients"]
                found[kind] = [
                    a - b for a, b in zip(outcome.gradients, plain, strict=True)
                ]
        error = tf.linalg.global_norm(
            [a - b for a, b in zip(*found.values(), strict=True)]
        )
        self.assertLess(error, 0.01 * tf.linalg.global_norm(found["exact"]))


def differentiate(network, objective):
    """Yields random directions, and central differences along them."""
    variables = network.trainable_variables
    theta = [v.numpy() for v in variables]
    random = np.random.default_rng(0)
    for _ in range(2):
        direction = [random.normal(size=t.shape) for t in theta]
        values = []
        for sign in (1, -1):
            for v, t, u in zip(variables, theta, direction, strict=True):
                v.assign(t + sign * 1e-6 * u)
            values.append(objective())
        yield direction, (values[0] - values[1]) / 2e-6


class BallTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(
        name=NAMES, policy=("float32", "mixed_bfloat16"), epsilon=(0.5, 3.0)
    )
    def test_pixels_that_the_network_receives(self, name, policy, epsilon):
        """Rounding makes the ball larger by at most 1e-6 of its radius."""
        seen = []
        with golden_network.policy(policy):
            inner = testing.small_network(width=2)
            inputs = keras.Input((8, 8, 3))
            network = keras.Model(inputs, inner(Recorder(seen)(inputs)))
        images, labels = testing.images_and_labels(6)
        robust = build(
            network,
            methods.get(name, epsilon=epsilon, norm="l2"),
            run_eagerly=True,
        )
        seen.clear()
        robust.train_on_batch(images, labels)
        deltas = [pixels - images for pixels in seen]
        self.assertGreaterEqual(len(deltas), 2)
        # The start of these is bounded by nothing.
        if name in ("mart", "trades"):
            first = 0 if name == "mart" else 1
            del seen[first], deltas[first]
        for pixels, delta in zip(seen, deltas, strict=True):
            self.assertAllInRange(pixels, 0.0, 1.0)
            self.assertLessEqual(sizes(delta).max(), epsilon * (1 + 1e-6))
        self.assertGreater(sizes(deltas[-1]).max(), 0.5 * min(epsilon, 1))

    @parameterized.parameters(*LINEARIZATIONS)
    def test_linearizations(self, linearization):
        """z is where it is said to be, in the ball unless not projected."""
        network = testing.small_network(width=2)
        options = {"linearization": linearization, "norm": "l2"}
        method = FastBAT(0.5, **options)
        plan = Plan(epochs=2, steps_per_epoch=2, batch_size=6, examples=6)
        robust = build(network, method, plan=plan, run_eagerly=True)
        images, labels = testing.images_and_labels(6)
        outcome = robust.compute_gradients(
            tf.constant(images),
            tf.constant(labels),
            Draws(0, 0),
            index=tf.range(6),
            step=0,
        )
        point = outcome.solution.memory["linearization_point"]
        if linearization != "ns-gd":
            self.assertLessEqual(sizes(point).max(), 0.5 * (1 + 1e-6))
            self.assertAllInRange(images + point, 0.0, 1.0)
        delta = outcome.solution.perturbation
        self.assertLessEqual(sizes(delta).max(), 0.5 * (1 + 1e-6))
        self.assertGreater(outcome.reports["implicit_ratio"], 0)

    @parameterized.parameters(*NAMES)
    def test_no_gradient(self, name):
        network = testing.small_network(width=2)
        dense = network.get_layer("dense")
        dense.set_weights([0.0 * w for w in dense.get_weights()])
        robust = build(network, methods.get(name, norm="l2"), run_eagerly=True)
        outcome = robust.compute_gradients(
            *map(tf.constant, testing.images_and_labels(4)), Draws(0, 0)
        )
        for tensor in (
            outcome.solution.perturbation,
            *outcome.gradients,
            *outcome.reports.values(),
        ):
            self.assertAllInRange(tensor, -1e3, 1e3)

    @parameterized.parameters(*NAMES)
    def test_schedule_scales_the_ball(self, name):
        network = testing.small_network(width=2, normalization=None)
        schedule = EpsilonSchedule(clean_steps=1, ramp_steps=4)
        robust = build(
            network,
            methods.get(name, norm="l2"),
            epsilon_schedule=schedule,
            run_eagerly=True,
        )
        images, labels = map(tf.constant, testing.images_and_labels(4))
        for step, share in ((0, 0.0), (2, 0.5), (9, 1.0)):
            outcome = robust.compute_gradients(
                images, labels, Draws(0, step), step=step
            )
            radius = share * 128 / 255
            largest = sizes(outcome.solution.perturbation).max()
            self.assertLessEqual(largest, radius * (1 + 1e-6))
            self.assertGreaterEqual(largest, 0.8 * radius)


class RobustnessTest(tf.test.TestCase):
    def test_pgd_withstands_what_breaks_standard_training(self):
        """Two features: a large one that is right in 9 of 10 images, and 12
        small ones that are right together. Standard training uses them all,
        and an attack in L2 turns the small ones over."""
        random = np.random.default_rng(0)
        labels = random.integers(0, 2, 400).astype("int32")
        sign = 2.0 * labels[:, None] - 1
        right = np.where(random.random((400, 1)) < 0.9, sign, -sign)
        small = sign + 0.5 * random.normal(size=(400, 12))
        pixels = 0.5 + np.concatenate([0.4 * right, 0.05 * small], -1)
        images = np.pad(pixels, ((0, 0), (0, 3)), constant_values=0.5)
        images = images.clip(0, 1).reshape(400, 4, 4, 1).astype("float32")
        accuracies = {}
        for name, options in (
            ("standard", {}),
            ("pgd", {"epsilon": 0.3, "norm": "l2"}),
        ):
            keras.utils.set_random_seed(0)
            network = keras.Sequential(
                [
                    keras.Input((4, 4, 1)),
                    keras.layers.Rescaling(10.0, offset=-5.0),
                    keras.layers.Flatten(),
                    keras.layers.Dense(2),
                ]
            )
            robust = RobustClassifier(network, methods.get(name, **options))
            robust.compile(keras.optimizers.Adam(0.05))
            robust.fit(images, labels, epochs=15, batch_size=50, verbose=0)
            results = evaluate_robustness(
                network,
                (images, labels),
                attacks=("apgd-ce-20",),
                epsilons=(0.3,),
                norm="l2",
            )
            accuracies[name] = results["attacks"][0]["robust_accuracy"]
        self.assertGreater(accuracies["pgd"], 0.75)
        self.assertLess(accuracies["standard"], 0.5)


if __name__ == "__main__":
    tf.test.main()
