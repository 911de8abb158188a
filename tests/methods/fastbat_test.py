"""Fast-BAT against closed forms and finite differences."""

import math
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import FastBAT, RobustClassifier, perturbation
from fastbat_tf.draws import Draws
from fastbat_tf.layers import FusedBatchNormalization
from fastbat_tf.methods import fastbat
from tests.support import golden_network, golden_steps, model_kinds, testing


class CountingNormalization(FusedBatchNormalization):
    """Counts its forward passes in training mode."""

    forwards = 0

    def call(self, inputs, training=None, mask=None):
        # Not in the graph that is traced once to look for wrong layers.
        if training and tf.executing_eagerly():
            CountingNormalization.forwards += 1
        return super().call(inputs, training=training, mask=mask)


class FastBATTest(tf.test.TestCase, parameterized.TestCase):
    def test_closed_form_of_one_pixel_and_two_weights(self):
        """The whole step by hand.

        One image with one pixel x, logits (w0 u, w1 u) at u = x + delta, label
        0. With d = w1 - w0 and s(u) = sigmoid(d u):

            CE(u)            = log(1 + exp(d u))
            g(delta)         = s d
            dg / dw1         = s + d s (1 - s) u = -dg / dw0
            dCE / dw1        = s u               = -dCE / dw0

        Everything stays inside the ball and the pixels, so H = 1.
        """
        x, noise, w0, w1 = 0.5, 0.02, 0.3, 1.1
        epsilon, step_size, implicit_lambda = 0.4, 0.1, 7.0
        d = w1 - w0

        def s(u):
            return 1 / (1 + math.exp(-d * u))

        z = noise + step_size * s(x + noise) * d
        delta = z + step_size * s(x + z) * d
        mixed = s(x + z) + d * s(x + z) * (1 - s(x + z)) * (x + z)
        implicit = s(x + delta) * d * mixed / implicit_lambda
        plain = s(x + delta) * (x + delta)

        with golden_network.precision("float64"):
            network = keras.Sequential(
                [
                    keras.Input((1, 1, 1)),
                    keras.layers.Flatten(),
                    keras.layers.Dense(2, use_bias=False),
                ]
            )
            network.set_weights([np.array([[w0, w1]])])
            method = FastBAT(epsilon, step_size, implicit_lambda)
            robust = RobustClassifier(network, method)
            robust.compile()
            draws = golden_network.RecordedDraws(
                {"start": np.full((1, 1, 1, 1), noise)}
            )
            outcome = robust.compute_gradients(
                tf.fill((1, 1, 1, 1), tf.constant(x, tf.float64)),
                tf.constant([0]),
                draws,
            )
        self.assertAllClose(
            outcome.solution.perturbation, [[[[delta]]]], rtol=1e-12
        )
        self.assertAllClose(
            outcome.gradients,
            [[[-plain - implicit, plain + implicit]]],
            rtol=1e-12,
        )
        self.assertAllClose(outcome.reports["interior_fraction"], 1.0)
        self.assertAllClose(
            outcome.reports["implicit_ratio"], implicit / plain, rtol=1e-9
        )
        self.assertAllClose(outcome.reports["implicit_cosine"], 1.0)

    @parameterized.parameters(
        lambda: testing.small_network(normalization=None),
        testing.small_network,  # The layer of the zoo.
        lambda: model_kinds.subclassed(keras.layers.BatchNormalization),
        lambda: model_kinds.subclassed(
            lambda: keras.layers.GroupNormalization(2)
        ),
        model_kinds.vision_transformer,
    )
    def test_implicit_term_is_the_derivative(self, build):
        """Central differences, in random directions, of the scalar

            (1 / (B lambda)) <g(z; theta), H * g(delta*)>

        with z and H * g(delta*) constant.
        """
        images, labels = testing.images_and_labels(5, dtype="float64")
        with golden_network.precision("float64"):
            network = build()
            # A step size small enough to leave coordinates inside.
            method = golden_steps.RecordingFastBAT(
                epsilon=0.1, step_size=0.3, implicit_lambda=2.0
            )
            robust = RobustClassifier(network, method)
            robust.compile()
            outcome = robust.compute_gradients(images, labels, Draws(1, 0))

            def input_gradient(delta):
                with tf.GradientTape() as tape:
                    tape.watch(delta)
                    logits = network(images + delta, training=True)
                    losses = robust.loss.call(labels, logits)
                return tape.gradient(losses, delta)

            delta = outcome.solution.perturbation
            point = outcome.solution.memory["linearization_point"]
            interior = perturbation.interior_mask(delta, images, 0.1)
            self.assertBetween(float(tf.reduce_mean(interior)), 0.1, 0.9)
            vector = interior * input_gradient(delta) / 2.0 / len(labels)

            def scalar():
                return float(tf.reduce_sum(input_gradient(point) * vector))

            implicit = [
                full - plain
                for full, plain in zip(
                    outcome.gradients,
                    outcome.solution.memory["plain_gradients"],
                    strict=True,
                )
            ]
            variables = network.trainable_variables
            theta = [v.numpy() for v in variables]
            random = np.random.default_rng(0)
            for _ in range(3):
                direction = [random.normal(size=t.shape) for t in theta]
                values = []
                for sign in (1, -1):
                    for v, t, u in zip(
                        variables, theta, direction, strict=True
                    ):
                        v.assign(t + sign * 1e-5 * u)
                    values.append(scalar())
                difference = (values[0] - values[1]) / 2e-5
                derivative = sum(
                    np.sum(i * u)
                    for i, u in zip(implicit, direction, strict=True)
                )
                self.assertGreater(abs(derivative), 1e-6)
                self.assertAllClose(derivative, difference, rtol=1e-6)

    @parameterized.parameters(
        ("ns-pgd", 3),
        ("ns-pgd-zero", 3),
        ("ns-gd", 3),
        ("pgd", 3),
        ("fgsm", 3),
        ("random", 2),
    )
    def test_linearization_points(self, linearization, forwards):
        """Each point by its definition, and one update of the moving
        statistics for each forward pass, of which there are so many."""
        images, labels = testing.images_and_labels(4, dtype="float64")
        epsilon, step = 0.1, 2.0
        with golden_network.precision("float64"):
            network = testing.small_network(normalization=CountingNormalization)
            method = FastBAT(epsilon, step, linearization=linearization)
            robust = RobustClassifier(network, method)
            robust.compile()
            noise = np.random.default_rng(0).uniform(
                -epsilon, epsilon, images.shape
            )
            CountingNormalization.forwards = 0
            outcome = robust.compute_gradients(
                images, labels, golden_network.RecordedDraws({"start": noise})
            )
            self.assertEqual(CountingNormalization.forwards, forwards)

            def project(delta):
                return (
                    np.clip(images + np.clip(delta, -epsilon, epsilon), 0, 1)
                    - images
                )

            def gradient(delta):
                delta = tf.constant(delta)
                with tf.GradientTape() as tape:
                    tape.watch(delta)
                    logits = network(images + delta, training=True)
                    losses = robust.loss.call(labels, logits)
                return tape.gradient(losses, delta).numpy()

            start = np.clip(images + noise, 0, 1) - images
            zero = np.zeros_like(images)
            expected = {
                "ns-pgd": lambda: project(start + step * gradient(start)),
                "ns-pgd-zero": lambda: project(step * gradient(zero)),
                "ns-gd": lambda: start + step * gradient(start),
                "pgd": lambda: project(
                    start + 1.25 * epsilon * np.sign(gradient(start))
                ),
                "fgsm": lambda: project(epsilon * np.sign(gradient(zero))),
                "random": lambda: start,
            }[linearization]()
            delta = project(expected + step * gradient(expected))
        memory = outcome.solution.memory
        self.assertAllClose(memory["linearization_point"], expected, 1e-9, 1e-9)
        self.assertAllClose(outcome.solution.perturbation, delta, 1e-9, 1e-9)

    @parameterized.parameters(
        # At the width that is used, and where its error is that of rounding.
        ("float64", None, 5e-3),
        ("float64", 1e-6, 1e-5),
        ("float32", None, 2e-2),
    )
    def test_finite_difference_of_a_smooth_network(self, dtype, width, error):
        images, labels = testing.images_and_labels(6, dtype=dtype)
        gradients = []
        for kind in ("exact", "finite_difference"):
            with golden_network.precision(dtype):
                robust = RobustClassifier(
                    testing.small_network("softplus"),
                    FastBAT(0.1, 0.3, 0.01, implicit_gradient=kind),
                )
                robust.compile()
                with mock.patch.object(
                    fastbat, "DIFFERENCE", width or fastbat.DIFFERENCE
                ):
                    outcome = robust.compute_gradients(
                        images, labels, Draws(1, 0)
                    )
            # The term is worth being compared.
            self.assertGreater(outcome.reports["implicit_ratio"], 0.05)
            gradients.append([np.array(g) for g in outcome.gradients])
        exact, finite = (np.concatenate([*map(np.ravel, g)]) for g in gradients)
        norm = np.linalg.norm(exact)
        self.assertLess(np.linalg.norm(finite - exact), error * norm)

    def test_finite_difference_differentiates_once(self):
        method = FastBAT(implicit_gradient="finite_difference")
        self.assertFalse(method.differentiates_twice)
        self.assertTrue(method.needs_perturbation_gradient)

    def test_infinite_lambda_is_the_plain_gradient(self):
        images, labels = testing.images_and_labels(4)
        network = testing.small_network()
        gradients = {}
        for value in (10.0, math.inf):
            method = golden_steps.RecordingFastBAT(implicit_lambda=value)
            robust = RobustClassifier(network, method)
            robust.compile()
            outcome = robust.compute_gradients(images, labels, Draws(0, 0))
            gradients[value] = outcome
        plain = gradients[10.0].solution.memory["plain_gradients"]
        self.assertAllClose(gradients[math.inf].gradients, plain)
        self.assertNotAllClose(
            gradients[10.0].gradients, plain, rtol=1e-6, atol=1e-9
        )
        self.assertAllEqual(gradients[math.inf].reports["implicit_ratio"], 0.0)
        self.assertFalse(method.differentiates_twice)

    def test_first_lower_gradient_is_a_first_order_graph(self):
        """No tape records the first gradient, and no weight gradient is taken
        where only the input gradient is used: the convolution's filter
        gradients are as many as the outer and the implicit pass need."""
        images, labels = testing.images_and_labels(4)
        operations = {}
        for value in (10.0, math.inf):
            network = testing.small_network("relu", normalization=None)
            method = FastBAT(implicit_lambda=value)
            robust = RobustClassifier(network, method)
            robust.compile()

            @tf.function
            def step(images, labels, robust=robust):
                outcome = robust.compute_gradients(images, labels, Draws(0, 0))
                return outcome.gradients

            graph = step.get_concrete_function(images, labels).graph
            pruned = tf.compat.v1.graph_util.extract_sub_graph(
                graph.as_graph_def(),
                [t.op.name for t in tf.nest.flatten(graph.outputs)],
            )
            names = [node.op for node in pruned.node]
            operations[value] = (
                names.count("Conv2D"),
                names.count("Conv2DBackpropInput"),
                names.count("Conv2DBackpropFilter"),
            )
        # Two convolutions. Without the term: three forward passes, input
        # gradients of two of them and, for the outer, of all but the first
        # convolution; filter gradients of the outer alone.
        self.assertEqual(operations[math.inf], (6, 5, 2))
        # The mixed derivative: per convolution a forward and a filter pass
        # over the input gradient, and a backward pass through the forward.
        self.assertEqual(operations[10.0], (8, 7, 6))


if __name__ == "__main__":
    tf.test.main()
