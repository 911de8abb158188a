"""The table of the methods, their options, and a method of the user."""

import inspect
import json
import re

import tensorflow as tf
from absl import flags as absl_flags
from absl.testing import parameterized

from fastbat_tf import RobustClassifier, methods
from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError
from fastbat_tf.methods.base import Method, Solution
from tests.support import testing

NAMES = list(zip(methods.METHODS, methods.METHODS, strict=True))


class MethodsTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(*NAMES)
    def test_the_table_of_options_is_the_constructor(self, name):
        cls = methods.get_class(name)
        self.assertEqual(cls.name, name)
        self.assertEqual(cls.options, methods.METHODS[name].options)
        arguments = list(inspect.signature(cls).parameters)
        self.assertEqual(arguments, list(methods.METHODS[name].options))
        config = cls().get_config()
        self.assertEqual(config, methods.resolve_options(name, {}))
        self.assertEqual(cls.from_config(config).get_config(), config)
        json.dumps(config)

    @parameterized.named_parameters(*NAMES)
    def test_flags_have_every_option(self, name):
        import flags.evaluation  # noqa: F401 It defines that of the norm.
        import flags.method  # noqa: F401 It defines the others.

        for option, declaration in methods.METHODS[name].options.items():
            text = absl_flags.FLAGS[option].help
            self.assertIn(declaration.shown_default, text)
            for word in declaration.choices:
                self.assertIn(word, text)

    @parameterized.named_parameters(*NAMES)
    def test_docstring_tells_options_and_defaults(self, name):
        cls = methods.get_class(name)
        argument = r"(?m)^    (\w+): (.*\n(?:        .*\n)*)"
        described = dict(re.findall(argument, inspect.getdoc(cls) + "\n"))
        self.assertEqual(list(described), list(cls.options))
        for option, declaration in cls.options.items():
            text = " ".join(described[option].split()).replace(" / ", "/")
            _, default = text.split("Defaults to")
            shown = declaration.shown_default.replace(" / ", "/")
            self.assertIn(shown, default, option)

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
        ("trades", "attack_mode", "eval"),
        ("gat", "form", "published"),
        ("free", "replays", 0),
        ("free", "start", "random"),
        ("nfgsm", "noise_scale", -1.0),
        ("zerograd", "quantile", 1.1),
        ("fgsm_pgi", "momentum_decay", 1.0),
        ("fgsm_pgi", "reset_epochs", 0),
        ("fgsm_pco", "label_factor", 0.0),
        ("fgsm_uap", "uap_epsilon", 2.0),
        ("fgsm_fuap", "uaps", 0),
        ("fgsm_rs_cs", "stride", -1),
        ("fgsm_rs_cs", "tolerance", float("nan")),
        ("liet", "random_smoothing", 1.0),
        ("elle", "coefficient_schedule", "onoff"),
        ("aaer", "base_attack", "pgd"),
        ("ssat", "checkpoints", 1.5),
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

    def test_options_that_do_not_fit_together(self):
        with self.assertRaisesRegex(
            InputError,
            r"`max_mask_ratio` .* in \[min_mask_ratio, 1\]\. "
            "Received: max_mask_ratio=0.5, min_mask_ratio=0.6$",
        ):
            methods.get("liet", min_mask_ratio=0.6)

    def test_published_defaults_of_the_others(self):
        self.assertAllClose(methods.get("trades").step_size, 2 / 255)
        self.assertAllClose(methods.get("trades", steps=1).step_size, 8 / 255)
        self.assertAllClose(methods.get("zerograd").step_size, 16 / 255)
        self.assertAllClose(methods.get("ssat").step_size, 10 / 255)
        self.assertAllClose(methods.get("fgsm_uap").uap_epsilon, 10 / 255)
        self.assertEqual(methods.get("elle").coefficient, 1)
        adaptive = methods.get("elle", coefficient_schedule="adaptive")
        self.assertEqual(adaptive.coefficient, 10)
        for attack, expected in (
            ("nfgsm", (8 / 255, 1.5, 0.15)),
            ("fastat", (10 / 255, 2.5, 1.5)),
        ):
            method = methods.get("aaer", base_attack=attack)
            self.assertAllClose(
                expected,
                (
                    method.step_size,
                    method.loss_coefficient,
                    method.logit_coefficient,
                ),
            )

    def test_a_method_of_the_user(self):
        """What the documentation promises: one class with `solve` will do."""

        class Noise(Method):
            def solve(self, context):
                return Solution(context.uniform("noise", 0.1))

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
