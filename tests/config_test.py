"""Tests of the settings: defaults, checks, and the round trip by JSON."""

import dataclasses
import json
import math

from absl.testing import absltest, parameterized

from fastbat_tf.config import (
    JIT_COMPILE,
    SCHEDULES,
    STRATEGIES,
    Config,
    DataConfig,
    EvaluationConfig,
    MethodConfig,
    ModelConfig,
    RuntimeConfig,
    TrainingConfig,
    parse_attack,
    parse_fraction,
)
from fastbat_tf.errors import InputError
from fastbat_tf.methods import METHODS, options

GRAY = 1 / 255


def options_of(method, **given):
    return MethodConfig(method, given).options


class ParseTest(parameterized.TestCase):
    @parameterized.parameters(
        ("8/255", 8 / 255),
        ("0.0314", 0.0314),
        ("1", 1.0),
        ("0", 0.0),
        (".5", 0.5),
        ("1e-2", 0.01),
        ("0.5/2", 0.25),
        ("5000/255", 5000 / 255),
        # Out of every range: refused where the range is known.
        ("-1", -1.0),
        ("2", 2.0),
    )
    def test_fraction(self, text, expected):
        self.assertEqual(parse_fraction(text), expected)

    @parameterized.parameters("abc", "", "/", "8/", "/255", "8/0", "8/255/1")
    def test_refused_fraction(self, text):
        with self.assertRaises(InputError) as caught:
            parse_fraction(text)
        self.assertEqual(
            str(caught.exception),
            "Expected a number such as 0.0314 or a quotient such as 8/255. "
            f"Received: {text!r}",
        )

    @parameterized.parameters(
        ("pgd-50-10", (50, 10)), ("pgd-1-1", (1, 1)), ("pgd-10-1", (10, 1))
    )
    def test_attack(self, text, expected):
        self.assertEqual(parse_attack(text), expected)

    @parameterized.parameters(
        "",
        "pgd",
        "pgd-50",
        "pgd-0-1",
        "pgd-1-0",
        "pgd--1-1",
        "pgd-1.5-1",
        "pgd-50-10-1",
        "pgd-50-10 ",
        "PGD-50-10",
        "fgsm-1-1",
        "xpgd-1-1",
    )
    def test_refused_attack(self, text):
        with self.assertRaises(InputError) as caught:
            parse_attack(text)
        self.assertEqual(
            str(caught.exception),
            "Expected an attack as pgd-STEPS-RESTARTS, such as pgd-50-10. "
            f"Received: attack={text}",
        )


class ChecksTest(parameterized.TestCase):
    """Each message says what, what was expected, and what was received."""

    @parameterized.parameters(
        (DataConfig, {"validation_share": 0}),
        (DataConfig, {"validation_share": 1}),
        (DataConfig, {"validation_share": 1.5}),
        (DataConfig, {"validation_share": -0.1}),
        (DataConfig, {"validation_share": math.nan}),
    )
    def test_open_interval(self, group, arguments):
        share = arguments["validation_share"]
        with self.assertRaisesRegex(
            InputError,
            r"^`validation_share` is expected in \(0, 1\)\. "
            rf"Received: validation_share={share}$",
        ):
            group(**arguments)

    def test_data_dir_of_an_embedded_data_set(self):
        with self.assertRaisesRegex(InputError, "`data_dir` does not apply"):
            DataConfig("cifar10_mini", "/data")

    @parameterized.parameters(-1, 2**31)
    def test_seed(self, seed):
        with self.assertRaisesRegex(
            InputError, rf"^`seed` is expected in \[0, .*Received: seed={seed}$"
        ):
            TrainingConfig(seed=seed)

    @parameterized.parameters(
        (ModelConfig, "width", 0, 1),
        (ModelConfig, "width", -64, 1),
        (TrainingConfig, "epochs", 0, 1),
        (TrainingConfig, "epochs", -1, 1),
        (TrainingConfig, "batch_size", 0, 1),
        (TrainingConfig, "batch_size", -128, 1),
        (TrainingConfig, "learning_rate", -0.1, 0),
        (TrainingConfig, "learning_rate", math.inf, 0),
        (TrainingConfig, "learning_rate", math.nan, 0),
        (TrainingConfig, "weight_decay", -1e-4, 0),
        (TrainingConfig, "weight_decay", math.nan, 0),
        (EvaluationConfig, "test_examples", -1, 0),
        (EvaluationConfig, "validation_examples", -1, 0),
        (EvaluationConfig, "batch_size", 0, 1),
    )
    def test_at_least(self, group, name, value, low):
        with self.assertRaisesRegex(
            InputError,
            rf"^`{name}` is expected to be at least {low}\b.*"
            rf"Received: {name}={value}$",
        ):
            group(**{name: value})

    @parameterized.parameters(
        (ModelConfig, "width", 1),
        (TrainingConfig, "epochs", 1),
        (TrainingConfig, "batch_size", 1),
        (TrainingConfig, "learning_rate", 0),
        (TrainingConfig, "weight_decay", 0),
        (TrainingConfig, "seed", 0),
        (TrainingConfig, "momentum", 0),
        (EvaluationConfig, "test_examples", 0),
        (EvaluationConfig, "validation_examples", 0),
        (EvaluationConfig, "batch_size", 1),
        (EvaluationConfig, "epsilons", (0, 1)),
        (DataConfig, "validation_share", 1e-9),
    )
    def test_bounds_are_accepted(self, group, name, value):
        self.assertEqual(getattr(group(**{name: value}), name), value)

    @parameterized.parameters(-0.1, 1, 1.5, math.nan)
    def test_momentum(self, value):
        with self.assertRaisesRegex(
            InputError,
            r"^`momentum` is expected in \[0, 1\)\. "
            rf"Received: momentum={value}$",
        ):
            TrainingConfig(momentum=value)

    @parameterized.parameters(
        (TrainingConfig, "schedule", SCHEDULES),
        (RuntimeConfig, "strategy", STRATEGIES),
        (RuntimeConfig, "jit_compile", JIT_COMPILE),
    )
    def test_one_of(self, group, name, known):
        for value in known:
            self.assertEqual(getattr(group(**{name: value}), name), value)
        with self.assertRaisesRegex(
            InputError,
            rf"^`{name}` is expected to be one of {', '.join(known)}\. "
            rf"Received: {name}=other$",
        ):
            group(**{name: "other"})

    def test_dataset(self):
        with self.assertRaisesRegex(
            InputError,
            r"^Unknown data set\. Expected one of cifar10, cifar10_mini\b.*"
            r"Received: dataset=mnist$",
        ):
            DataConfig(dataset="mnist")

    @parameterized.parameters("attack", "validation_attack")
    def test_attack(self, name):
        with self.assertRaisesRegex(
            InputError, r"pgd-STEPS-RESTARTS.*Received: attack=pgd-10$"
        ):
            EvaluationConfig(**{name: "pgd-10"})

    @parameterized.parameters(-1, 1.01, 2, 8, math.nan, math.inf)
    def test_evaluation_epsilon(self, value):
        with self.assertRaisesRegex(
            InputError,
            r"^`epsilon` is a fraction of the pixel range, expected in "
            rf"\[0, 1\], such as 8/255\. Received: epsilon={value}$",
        ):
            EvaluationConfig(epsilons=(8 / 255, value))


class MethodOptionsTest(parameterized.TestCase):
    def test_unknown_method(self):
        with self.assertRaisesRegex(
            InputError,
            r"^Unknown method\. Expected one of standard, fastat, pgd, "
            r"gradalign, fastbat\b.*Received: method=trades$",
        ):
            MethodConfig("trades")

    @parameterized.parameters(
        ("epsilon", -1, r"\[0, 1\]"),
        ("epsilon", 2, r"\[0, 1\]"),
        ("epsilon", math.nan, r"\[0, 1\]"),
        ("step_size", -0.1, "zero or above, and finite"),
        ("step_size", math.inf, "zero or above, and finite"),
        ("implicit_lambda", 0, "positive; inf switches"),
        ("implicit_lambda", -10, "positive; inf switches"),
        ("implicit_lambda", math.nan, "positive; inf switches"),
        ("linearization", "ns", ", ".join(options.LINEARIZATIONS)),
    )
    def test_fastbat(self, name, value, expected):
        with self.assertRaisesRegex(
            InputError,
            rf"^`{name}` is .*{expected}.* Received: {name}={value}$",
        ):
            options_of("fastbat", **{name: value})

    @parameterized.parameters(0, -1, 1.5)
    def test_steps(self, value):
        with self.assertRaisesRegex(
            InputError,
            r"^`steps` is expected to be an integer of at least 1\. "
            rf"Received: steps={value}$",
        ):
            options_of("pgd", steps=value)

    @parameterized.parameters(-0.1, math.inf, math.nan)
    def test_coefficient(self, value):
        with self.assertRaisesRegex(
            InputError,
            r"^`coefficient` is expected to be zero or above\. "
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

    @parameterized.parameters(*METHODS)
    def test_none_stands_for_the_default(self, method):
        given = dict.fromkeys(options.CHECKS)
        resolved = options_of(method, **given)
        self.assertEqual(resolved, options_of(method))
        self.assertEqual(list(resolved), list(METHODS[method].defaults))
        self.assertNotIn(None, resolved.values())

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


class ConfigTest(parameterized.TestCase):
    def test_radius_of_the_measurement_is_that_of_the_training(self):
        config = Config(method=MethodConfig("pgd", {"epsilon": 4 / 255}))
        self.assertEqual(config.evaluation.epsilons, (4 / 255,))
        self.assertEqual(config.evaluation.validation_epsilon, 4 / 255)

    def test_radius_of_the_measurement_without_one_in_training(self):
        evaluation = Config(method=MethodConfig("standard")).evaluation
        self.assertEqual(evaluation.epsilons, (8 / 255,))
        self.assertEqual(evaluation.validation_epsilon, 8 / 255)

    def test_given_radii_stay_and_validation_keeps_that_of_the_training(self):
        config = Config(
            method=MethodConfig("fastbat", {"epsilon": 16 / 255}),
            evaluation=EvaluationConfig(epsilons=(8 / 255, 16 / 255)),
        )
        self.assertEqual(config.evaluation.epsilons, (8 / 255, 16 / 255))
        self.assertEqual(config.evaluation.validation_epsilon, 16 / 255)

    @parameterized.named_parameters(
        ("default", Config()),
        (
            "standard",
            Config(
                data=DataConfig("cifar10", "/data", 0.25, False),
                model=ModelConfig("preact_resnet50", 8, "softplus", False),
                method=MethodConfig("standard"),
                training=TrainingConfig(3, 7, 0.1, "constant", 0, 0, 1),
                evaluation=EvaluationConfig("pgd-1-2", (0.1, 1 / 3)),
                runtime=RuntimeConfig("mirrored", "true"),
            ),
        ),
        (
            "infinite",
            Config(
                method=MethodConfig("fastbat", {"implicit_lambda": math.inf})
            ),
        ),
    )
    def test_round_trip_by_json(self, config):
        text = json.dumps(config.to_dict())
        restored = Config.from_dict(json.loads(text))
        self.assertEqual(restored, config)
        self.assertIsInstance(restored.evaluation.epsilons, tuple)
        self.assertEqual(json.dumps(restored.to_dict()), text)

    def test_infinite_lambda_survives(self):
        method = MethodConfig("fastbat", {"implicit_lambda": math.inf})
        groups = json.loads(json.dumps(Config(method=method).to_dict()))
        restored = Config.from_dict(groups).method.options
        self.assertEqual(restored["implicit_lambda"], math.inf)

    def test_other_keys_are_ignored(self):
        groups = {**Config().to_dict(), "versions": {"python": "3"}}
        self.assertEqual(Config.from_dict(groups), Config())

    def test_a_missing_group_is_noticed(self):
        groups = Config().to_dict()
        del groups["training"]
        with self.assertRaises(KeyError):
            Config.from_dict(groups)

    def test_from_dict_checks(self):
        groups = Config().to_dict()
        groups["training"]["epochs"] = 0
        with self.assertRaisesRegex(InputError, "epochs=0"):
            Config.from_dict(groups)

    def test_to_dict_is_a_copy(self):
        config = Config()
        config.to_dict()["method"]["options"]["epsilon"] = 1.0
        self.assertEqual(config, Config())

    def test_frozen(self):
        config = Config()
        for field in dataclasses.fields(config):
            with self.assertRaises(dataclasses.FrozenInstanceError):
                setattr(config, field.name, None)
            group = getattr(config, field.name)
            for setting in dataclasses.fields(group):
                with self.assertRaises(dataclasses.FrozenInstanceError):
                    setattr(group, setting.name, None)


if __name__ == "__main__":
    absltest.main()
