"""The settings of a run: defaults, checks, and the way through JSON."""

import dataclasses
import json
import math
import pathlib
import re

from absl.testing import absltest, parameterized

from fastbat_tf.errors import InputError
from fastbat_tf.experiment.config import (
    NORMS,
    Config,
    DataConfig,
    EvaluationConfig,
    MethodConfig,
    ModelConfig,
    OverfittingConfig,
    RuntimeConfig,
    TrainingConfig,
    parse_fraction,
)
from fastbat_tf.runtime.options import JIT_COMPILE, STRATEGIES, parse_timeout


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
        # Parsed here; the settings refuse what is out of range.
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


class ChecksTest(parameterized.TestCase):
    """Each message says what is wrong, what was expected, and the value."""

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

    @parameterized.parameters(
        (ModelConfig, "width", 0, 1),
        (ModelConfig, "width", -64, 1),
        (EvaluationConfig, "max_examples", -1, 0),
        (EvaluationConfig, "seed", -1, 0),
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
        (EvaluationConfig, "max_examples", 0),
        (EvaluationConfig, "validation_examples", 0),
        (EvaluationConfig, "batch_size", 1),
        (EvaluationConfig, "seed", 0),
        (EvaluationConfig, "epsilons", (1e-9, 1)),
        (DataConfig, "validation_share", 1e-9),
    )
    def test_bounds_are_accepted(self, group, name, value):
        self.assertEqual(getattr(group(**{name: value}), name), value)

    @parameterized.parameters(
        (RuntimeConfig, "strategy", STRATEGIES),
        (RuntimeConfig, "jit_compile", JIT_COMPILE),
        (EvaluationConfig, "norm", NORMS),
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
            r"^Unknown data set\. Expected one of cifar10, cifar100\b.*"
            r"Received: dataset=imagenet$",
        ):
            DataConfig(dataset="imagenet")

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
    def test_attack(self, attack):
        for given in (
            {"attacks": ("pgd-1-1", attack)},
            {"validation_attack": attack},
        ):
            with self.assertRaisesRegex(
                InputError,
                r"^Unknown attack\. Expected one of fgsm\[.*, pgd-STEPS.*"
                rf"\bautoattack\b.* Received: attack={attack}$",
            ):
                EvaluationConfig(**given)

    def test_no_attack(self):
        with self.assertRaisesRegex(
            InputError,
            r"^`attacks` .* at least one, .* Received: attacks=\(\)$",
        ):
            EvaluationConfig(attacks=())

    @parameterized.parameters(
        {"attacks": ("pgd-1-1", "fgsm", "pgd-1-1")},
        {"epsilons": (0.1, 0.2, 0.1)},
    )
    def test_twice(self, **given):
        ((name, values),) = given.items()
        with self.assertRaisesRegex(
            InputError,
            rf"^`{name}` is expected to hold .*none twice\. Received: {name}="
            rf"{re.escape(str(values))}$",
        ):
            EvaluationConfig(**given)

    def test_validation_knows_no_surrogate(self):
        EvaluationConfig(attacks=("transfer",))
        with self.assertRaisesRegex(
            InputError,
            "^`validation_attack` is expected to be an attack without a "
            "surrogate. Received: "
            "validation_attack=transfer$",
        ):
            EvaluationConfig(validation_attack="transfer")

    @parameterized.parameters(-1, 0, 1.01, 2, 8, math.nan, math.inf)
    def test_evaluation_epsilon(self, value):
        with self.assertRaisesRegex(
            InputError,
            r"^`epsilons` are expected above 0 and finite, at most 1 for linf, "
            rf"such as 8/255\. Received: epsilon={value}$",
        ):
            EvaluationConfig(epsilons=(8 / 255, value))

    @parameterized.parameters(-1, 1.01, math.nan)
    def test_validation_epsilon(self, value):
        with self.assertRaisesRegex(
            InputError,
            r"`validation_epsilon` .* in \[0, 1\], such as 8/255\. "
            rf"Received: validation_epsilon={value}$",
        ):
            EvaluationConfig(validation_epsilon=value)

    def test_an_epsilon_of_l2_can_be_above_1(self):
        EvaluationConfig(norm="l2", epsilons=(0.5, 20.0))
        for value in (0, -1, math.inf, math.nan):
            with self.assertRaisesRegex(InputError, f"epsilon={value}$"):
                EvaluationConfig(norm="l2", epsilons=(value,))


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

    def test_another_norm_has_no_default_radius(self):
        with self.assertRaisesRegex(
            InputError,
            r"^`epsilons` is required with a norm other than linf, such as 0.5 "
            r"for l2\. Received: norm=l2, epsilons=\(\)$",
        ):
            Config(evaluation=EvaluationConfig(norm="l2"))

    @parameterized.named_parameters(
        ("default", Config()),
        (
            "standard",
            Config(
                data=DataConfig("cifar10", "/data", 0.25, False),
                model=ModelConfig("preact_resnet50", 8, "softplus", False),
                method=MethodConfig("standard"),
                training=TrainingConfig(
                    epochs=3,
                    optimizer="adamw",
                    schedule="multistep",
                    milestones=(0.25, 0.5),
                    weight_averaging=0.9995,
                ),
                evaluation=EvaluationConfig(
                    ("pgd-1-2", "autoattack"),
                    (0.1, 1 / 3),
                    norm="l2",
                    max_examples=7,
                    seed=8,
                ),
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
    def test_round_trip_through_json(self, config):
        text = json.dumps(config.to_dict())
        restored = Config.from_dict(json.loads(text))
        self.assertEqual(restored, config)
        self.assertIsInstance(restored.evaluation.epsilons, tuple)
        self.assertIsInstance(restored.evaluation.attacks, tuple)
        milestones = restored.training.milestones
        self.assertIsInstance(milestones, (tuple, type(None)))
        self.assertEqual(json.dumps(restored.to_dict()), text)

    def test_a_config_that_an_earlier_version_wrote(self):
        """Its run resumes: the settings are equal."""
        path = pathlib.Path(__file__).parents[1] / "golden/run/config.json"
        expected = Config(
            data=DataConfig("cifar10_mini", training_examples=400),
            model=ModelConfig(width=2, activation="relu", stem="cifar"),
            method=MethodConfig("fgsm_pgi"),
            training=TrainingConfig(
                epochs=4, batch_size=25, weight_averaging=0.9
            ),
            overfitting=OverfittingConfig("rollback"),
            evaluation=EvaluationConfig(
                attacks=("fgsm",),
                max_examples=20,
                validation_attack="pgd-2-1",
                validation_examples=20,
            ),
        )
        self.assertEqual(
            Config.from_dict(json.loads(path.read_text())), expected
        )

    def test_options_of_networks_that_earlier_versions_did_not_have(self):
        given = ModelConfig(
            padding="symmetric", shortcut="input", head="normalized"
        )
        self.assertEqual(given, ModelConfig())
        self.assertNotEqual(ModelConfig(padding="same"), ModelConfig())
        config = Config(model=ModelConfig("wrn10_1", padding="same"))
        self.assertEqual(Config.from_dict(config.to_dict()), config)
        groups = Config().to_dict()
        for name in ("padding", "shortcut", "head", "mean", "std"):
            self.assertIsNone(groups["model"].pop(name))
        self.assertEqual(Config.from_dict(groups), Config())

    def test_constants_of_initial_weights(self):
        model = ModelConfig(mean=(0.4, 0.5, 0.25), std=[0.1, 0.2, 0.125])
        config = Config(model=model)
        groups = json.loads(json.dumps(config.to_dict()))
        self.assertEqual(Config.from_dict(groups), config)
        self.assertNotEqual(config, Config())
        hash(config.model)

    def test_settings_of_an_earlier_version(self):
        """A config.json with fewer settings gets the current defaults."""
        groups = Config().to_dict()
        for name in ("optimizer", "nesterov", "loss", "clip_norm"):
            del groups["training"][name]
        self.assertEqual(Config.from_dict(groups), Config())

    def test_without_an_attack_there_is_no_loss_of_the_attack(self):
        training = TrainingConfig(attack_loss="crossentropy")
        Config(training=training)
        with self.assertRaisesRegex(
            InputError,
            "^`attack_loss` does not apply to the method standard, which has "
            "no attack. Received: attack_loss=crossentropy$",
        ):
            Config(method=MethodConfig("standard"), training=training)

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


class ParseTimeoutTest(parameterized.TestCase):
    def test_seconds_and_minutes(self):
        self.assertEqual(parse_timeout("90"), 90)
        self.assertEqual(parse_timeout("1.5min"), 90)

    @parameterized.parameters("0", "0.5", "2000min", "nan", "5mins", "", "min")
    def test_refused(self, text):
        with self.assertRaisesRegex(
            InputError, f"300, or of minutes.* collective_timeout={text}$"
        ):
            parse_timeout(text)


if __name__ == "__main__":
    absltest.main()
