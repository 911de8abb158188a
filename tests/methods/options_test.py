"""Tests of the options of a method: checks and defaults."""

import math

from absl.testing import absltest, parameterized

from fastbat_tf.errors import InputError
from fastbat_tf.experiment.config import MethodConfig
from fastbat_tf.methods import METHODS

GRAY = 1 / 255


def options_of(method, **given):
    return MethodConfig(method, given).options


class MethodOptionsTest(parameterized.TestCase):
    def test_unknown_method(self):
        with self.assertRaisesRegex(
            InputError,
            r"^Unknown method\. Expected one of aaer, elle, fastat, fastbat, "
            r"fgsm, .*, trades, zerograd\. Received: method=fgsm2$",
        ):
            MethodConfig("fgsm2")

    @parameterized.parameters(
        ("epsilon", -1, r"\[0, 1\]"),
        ("epsilon", 2, r"\[0, 1\]"),
        ("epsilon", math.nan, r"\[0, 1\]"),
        ("step_size", -0.1, r"in \[0, inf\)"),
        ("step_size", math.inf, r"in \[0, inf\)"),
        ("step_size", "wide", r"in \[0, inf\)"),
        ("implicit_lambda", 0, r"in \(0, inf\]; inf switches"),
        ("implicit_lambda", -10, r"in \(0, inf\]; inf switches"),
        ("implicit_lambda", math.nan, r"in \(0, inf\]; inf switches"),
        (
            "linearization",
            "ns",
            "ns-pgd, random, fgsm, pgd, ns-gd, ns-pgd-zero, remembered",
        ),
    )
    def test_fastbat(self, name, value, expected):
        # What is expected to be a number is shown as text.
        received = repr(value) if name == "step_size" else value
        with self.assertRaisesRegex(
            InputError,
            rf"^`{name}` is .*{expected}.* Received: {name}={received}$",
        ):
            options_of("fastbat", **{name: value})

    @parameterized.parameters(0, -1, 1.5)
    def test_steps(self, value):
        with self.assertRaisesRegex(
            InputError,
            r"^`steps` is expected to be an integer in \[1, inf\)\. "
            rf"Received: steps={value}$",
        ):
            options_of("pgd", steps=value)

    @parameterized.parameters(-0.1, math.inf, math.nan)
    def test_coefficient(self, value):
        with self.assertRaisesRegex(
            InputError,
            r"^`coefficient` is expected to be in \[0, inf\)\. "
            rf"Received: coefficient={value}$",
        ):
            options_of("gradalign", coefficient=value)

    @parameterized.parameters(
        ("standard", "epsilon", 8 / 255, "no options"),
        ("standard", "step_size", 0.1, "no options"),
        ("fastat", "steps", 2, "epsilon, step_size"),
        ("fastat", "coefficient", 0.2, "epsilon, step_size"),
        ("pgd", "implicit_lambda", 10, "epsilon, steps, step_size"),
        ("gradalign", "linearization", "pgd", "epsilon, .*coefficient"),
        ("fastbat", "steps", 2, "epsilon, step_size, implicit_lambda"),
        ("fastbat", "coefficient", 0.2, "epsilon, step_size, implicit_lambda"),
    )
    def test_option_of_another_method(self, method, name, value, has):
        with self.assertRaisesRegex(
            InputError,
            rf"^`{name}` does not apply to the method {method}, which has "
            rf"{has}.* Received: {name}={value}$",
        ):
            options_of(method, **{name: value})

    @parameterized.named_parameters(*zip(METHODS, METHODS, strict=True))
    def test_none_stands_for_the_default(self, method):
        every = {name for spec in METHODS.values() for name in spec.options}
        resolved = options_of(method, **dict.fromkeys(every))
        self.assertEqual(resolved, options_of(method))
        self.assertEqual(list(resolved), list(METHODS[method].options))
        declared = METHODS[method].options
        for name, value in resolved.items():
            # Where an option does not apply, it has no value.
            self.assertTrue(declared[name].applies or value is not None, name)

    def test_fastbat_defaults(self):
        self.assertEqual(
            MethodConfig(),
            MethodConfig(
                "fastbat",
                {
                    "epsilon": 8 / 255,
                    "step_size": 5000 / 255,
                    "implicit_lambda": 10.0,
                    "linearization": "ns-pgd",
                    "implicit_gradient": "exact",
                },
            ),
        )

    @parameterized.parameters(
        (0.0, 5000),
        (4 * GRAY, 5000),
        (8 * GRAY, 5000),
        (0.0314, 5000),  # As 8/255 is often written: slightly above it.
        (9 * GRAY, 2000),
        (16 * GRAY, 2000),
        (1.0, 2000),
    )
    def test_fastbat_step_size(self, epsilon, expected):
        resolved = options_of("fastbat", epsilon=epsilon)
        self.assertAlmostEqual(255 * resolved["step_size"], expected)

    def test_given_step_size_stays(self):
        for method in ("fastat", "pgd", "gradalign", "fastbat"):
            resolved = options_of(method, epsilon=16 * GRAY, step_size=0.25)
            self.assertEqual(resolved["step_size"], 0.25)

    @parameterized.parameters("fastat", "gradalign")
    def test_signed_step_size(self, method):
        resolved = options_of(method, epsilon=16 * GRAY)
        self.assertAlmostEqual(255 * resolved["step_size"], 20.0)

    @parameterized.parameters(
        (None, 16 * GRAY, 8),  # Two steps: half of epsilon.
        (2, 8 * GRAY, 4),
        (10, 8 * GRAY, 2),
        (10, 16 * GRAY, 2),
        (1, 16 * GRAY, 2),
        (7, 16 * GRAY, 2),
    )
    def test_pgd_step_size(self, steps, epsilon, expected):
        resolved = options_of("pgd", epsilon=epsilon, steps=steps)
        self.assertEqual(resolved["steps"], steps or 2)
        self.assertAlmostEqual(255 * resolved["step_size"], expected)

    @parameterized.parameters(
        (2, 0.036),
        (4, 0.063),
        (6, 0.112),
        (8, 0.200),
        (10, 0.356),
        (12, 0.632),
        (14, 1.124),
        (16, 2.000),
        # Linear in between, constant outside.
        (3, (0.036 + 0.063) / 2),
        (8.5, 0.75 * 0.200 + 0.25 * 0.356),
        (15, (1.124 + 2.000) / 2),
        (1, 0.036),
        (32, 2.000),
    )
    def test_gradalign_coefficient(self, gray_levels, expected):
        resolved = options_of("gradalign", epsilon=gray_levels / 255)
        self.assertAlmostEqual(resolved["coefficient"], expected, 12)


if __name__ == "__main__":
    absltest.main()
