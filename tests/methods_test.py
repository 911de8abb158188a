"""The contract of the methods: one table of all of them."""

import inspect
import json

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import RobustClassifier, methods
from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError
from fastbat_tf.methods import options
from fastbat_tf.methods.base import Method, Solution
from tests import testing

# One row per method: the radius that its perturbations keep.
RADIUS = {
    "standard": 0.0,
    "fastat": 8 / 255,
    "pgd": 8 / 255,
    "gradalign": 8 / 255,
    "fastbat": 8 / 255,
}
NAMES = list(methods.METHODS)
MODES = ("eager", "graph", "xla")


def compute_in(mode, robust):
    """`compute_gradients` of the first step, as tensors, in a mode."""

    def compute(images, labels, step):
        outcome = robust.compute_gradients(
            images, labels, Draws(robust.seed, step)
        )
        return outcome._replace(solution=outcome.solution.perturbation)

    if mode == "eager":
        return compute
    return tf.function(compute, jit_compile=mode == "xla")


class MethodsTest(tf.test.TestCase, parameterized.TestCase):
    def test_every_method_has_its_row(self):
        self.assertSameElements(RADIUS, methods.METHODS)

    @parameterized.product(name=NAMES, mode=MODES)
    def test_contract(self, name, mode):
        images, labels = testing.images_and_labels(6)
        method = methods.get(name)
        robust = RobustClassifier(testing.small_network(), method, seed=3)
        robust.compile(jit_compile=mode == "xla")
        compute = compute_in(mode, robust)
        first = compute(images, labels, tf.constant(0))
        delta = first.solution.numpy()

        self.assertLessEqual(np.abs(delta).max(), RADIUS[name] + 1e-6)
        self.assertAllInRange(images + delta, -1e-6, 1 + 1e-6)
        if RADIUS[name]:
            self.assertGreater(np.abs(delta).max(), 0.9 * RADIUS[name])
        self.assertSameElements(
            first.reports, ("gradient_norm", *method.reports)
        )
        for tensor in (*first.gradients, first.loss, *first.reports.values()):
            self.assertAllInRange(tensor, -1e3, 1e3)

        again = compute(images, labels, tf.constant(0))
        other = compute(images, labels, tf.constant(1))
        # Moving statistics changed in between; nothing here depends on them.
        self.assertAllEqual(delta, again.solution)
        if name in ("fastat", "pgd", "fastbat"):  # They start at random.
            self.assertNotAllEqual(delta, other.solution)

    @parameterized.product(name=NAMES, compiled=[False, True])
    def test_a_training_step_moves_all_weights_and_is_traced_once(
        self, name, compiled
    ):
        traces = []

        class Counting(RobustClassifier):
            def compute_gradients(self, *args):
                traces.append(1)
                return super().compute_gradients(*args)

        robust = Counting(testing.small_network(), methods.get(name))
        robust.compile(keras.optimizers.SGD(0.1), jit_compile=compiled)
        before = [v.numpy() for v in robust.trainable_variables]
        for seed in range(3):
            robust.train_on_batch(*testing.images_and_labels(6, seed=seed))
        self.assertLen(traces, 1)
        for old, variable in zip(
            before, robust.trainable_variables, strict=True
        ):
            self.assertNotAllClose(old, variable, atol=1e-7, rtol=0)

    @parameterized.parameters(*NAMES)
    def test_the_table_of_options_is_the_constructor(self, name):
        cls = methods.get_class(name)
        arguments = list(inspect.signature(cls).parameters)
        self.assertEqual(arguments, list(methods.METHODS[name].defaults))
        config = cls().get_config()
        self.assertEqual(config, methods.resolve_options(name, {}))
        self.assertEqual(cls.from_config(config).get_config(), config)
        json.dumps(config)

    @parameterized.parameters(*NAMES)
    def test_flags_have_every_option(self, name):
        from flags import method

        self.assertContainsSubset(
            methods.METHODS[name].defaults, method.OPTIONS
        )
        self.assertContainsSubset(
            methods.METHODS[name].defaults, options.CHECKS
        )

    def test_unknown_method(self):
        with self.assertRaisesRegex(InputError, "standard, .*method=fgsm2"):
            methods.get("fgsm2")

    @parameterized.parameters(
        ("fastbat", "epsilon", 1.5),
        ("fastbat", "epsilon", float("nan")),
        ("fastbat", "step_size", -1.0),
        ("fastbat", "implicit_lambda", 0.0),
        ("fastbat", "linearization", "newton"),
        ("pgd", "steps", 0),
        ("gradalign", "coefficient", -0.1),
    )
    def test_options_out_of_range(self, name, option, value):
        with self.assertRaisesRegex(
            InputError, f"`{option}`.*[Ee]xpected.*Received: {option}={value}"
        ):
            methods.get(name, **{option: value})

    def test_options_of_another_method(self):
        with self.assertRaisesRegex(InputError, "`steps` does not apply"):
            methods.resolve_options("fastbat", {"steps": 3})

    def test_published_defaults(self):
        self.assertAllClose(methods.get("fastat").step_size, 10 / 255)
        self.assertAllClose(methods.get("fastbat").step_size, 5000 / 255)
        self.assertAllClose(
            methods.get("fastbat", epsilon=0.0314).step_size, 5000 / 255
        )
        self.assertAllClose(
            methods.get("fastbat", epsilon=16 / 255).step_size, 2000 / 255
        )
        self.assertAllClose(methods.get("pgd", steps=2).step_size, 4 / 255)
        self.assertAllClose(methods.get("pgd", steps=10).step_size, 2 / 255)
        for epsilon, coefficient in ((2, 0.036), (9, 0.278), (16, 2), (20, 2)):
            method = methods.get("gradalign", epsilon=epsilon / 255)
            self.assertAllClose(method.coefficient, coefficient)

    def test_a_method_of_the_user(self):
        """What the documentation promises: one class with `solve` will do."""

        class Noise(Method):
            def solve(self, step):
                return Solution(step.uniform("noise", 0.1))

        robust = RobustClassifier(testing.small_network(), Noise())
        robust.compile()
        outcome = robust.compute_gradients(
            *testing.images_and_labels(4), Draws(0, 0)
        )
        self.assertAllInRange(outcome.solution.perturbation, -0.1, 0.1)


class GradAlignTest(tf.test.TestCase):
    def test_mean_cosine_leaves_out_zero_gradients(self):
        from fastbat_tf.methods.gradalign import mean_cosine

        first = tf.constant([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
        second = tf.Variable([[1.0, 1.0], [1.0, 0.0], [2.0, 2.0]])
        with tf.GradientTape() as tape:
            mean = mean_cosine(first, second)
        self.assertAllClose(mean, (0.5**0.5 + 1.0) / 2)
        gradient = tape.gradient(mean, second)
        self.assertAllEqual(gradient[1], [0.0, 0.0])
        self.assertAllInRange(gradient, -1, 1)  # And not NaN.

    def test_no_pair_left_is_no_penalty(self):
        from fastbat_tf.methods.gradalign import mean_cosine

        zeros = tf.zeros((2, 3))
        self.assertAllEqual(mean_cosine(zeros, zeros), 1.0)


if __name__ == "__main__":
    tf.test.main()
