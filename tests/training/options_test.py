"""The settings of a training: defaults, checks, and what applies."""

import math

from absl.testing import absltest, parameterized

from fastbat_tf.errors import InputError
from fastbat_tf.training.options import (
    ATTACK_LOSSES,
    LOSSES,
    OPTIMIZERS,
    SCHEDULE_UNITS,
    SCHEDULES,
    WEIGHT_DECAY_MODES,
    WEIGHT_DECAY_ON,
    TrainingConfig,
)


class DefaultsTest(parameterized.TestCase):
    @parameterized.parameters(
        ("sgd", 0.2, 5e-4, "l2", {"momentum": 0.9, "nesterov": False}),
        ("adam", 1e-3, 5e-4, "l2", {"beta_1": 0.9, "beta_2": 0.999}),
        ("adamw", 1e-3, 0.01, "decoupled", {"beta_1": 0.9, "beta_2": 0.999}),
        ("lamb", 1e-3, 5e-4, "l2", {"beta_1": 0.9, "beta_2": 0.999}),
    )
    def test_optimizer(self, name, rate, decay, mode, options):
        config = TrainingConfig(optimizer=name)
        self.assertEqual(config.learning_rate, rate)
        self.assertEqual(config.weight_decay, decay)
        self.assertEqual(config.weight_decay_mode, mode)
        self.assertEqual(config.options("optimizer"), options)
        for option in {"momentum", "nesterov", "beta_1", "beta_2"} - {*options}:
            self.assertIsNone(getattr(config, option))

    @parameterized.parameters(
        ("cyclic", {}),
        ("piecewise", {}),
        ("onecycle", {"schedule_unit": "batch"}),
        (
            "multistep",
            {
                "schedule_unit": "batch",
                "warmup_epochs": 0,
                "milestones": (0.5, 0.75),
                "decay": 0.1,
            },
        ),
        ("cosine", {"schedule_unit": "batch", "warmup_epochs": 0}),
        ("quadratic", {"schedule_unit": "batch", "warmup_epochs": 0}),
        ("constant", {"warmup_epochs": 0}),
    )
    def test_schedule(self, name, options):
        config = TrainingConfig(schedule=name)
        self.assertEqual(config.options("schedule"), options)

    def test_loss(self):
        smoothing = TrainingConfig().options("loss")
        self.assertEqual(smoothing, {"label_smoothing": 0.0})
        self.assertEqual(TrainingConfig(loss="dlr").options("loss"), {})

    def test_what_is_given_stays(self):
        config = TrainingConfig(
            optimizer="adam",
            learning_rate=0.0,
            beta_2=0.99,
            weight_decay=0,
            weight_decay_mode="decoupled",
            schedule="multistep",
            milestones=[0.1, 0.2, 0.9],
            decay=0.5,
            label_smoothing=0.4,
        )
        self.assertEqual(config.learning_rate, 0.0)
        self.assertEqual(config.beta_1, 0.9)
        self.assertEqual(config.beta_2, 0.99)
        self.assertEqual(config.weight_decay, 0)
        self.assertEqual(config.weight_decay_mode, "decoupled")
        self.assertEqual(config.milestones, (0.1, 0.2, 0.9))
        self.assertEqual(config.decay, 0.5)
        self.assertEqual(config.label_smoothing, 0.4)


class ChecksTest(parameterized.TestCase):
    def test_xla_cannot_compile_synchronized_statistics(self):
        config = TrainingConfig(sync_batch_norm=True)
        for allowed in ("auto", False):
            config.check_compilation(allowed)
        with self.assertRaisesRegex(InputError, "^.*jit_compile=true$"):
            config.check_compilation(True)
        TrainingConfig().check_compilation(True)

    @parameterized.parameters(
        ("optimizer", "adam", "momentum", 0.9),
        ("optimizer", "lamb", "nesterov", False),
        ("optimizer", "sgd", "beta_1", 0.9),
        ("optimizer", "sgd", "beta_2", 0.9),
        ("schedule", "cyclic", "schedule_unit", "batch"),
        ("schedule", "piecewise", "schedule_unit", "epoch"),
        ("schedule", "onecycle", "warmup_epochs", 1),
        ("schedule", "constant", "schedule_unit", "epoch"),
        ("schedule", "cosine", "milestones", (0.5,)),
        ("schedule", "quadratic", "decay", 0.1),
        ("loss", "dlr", "label_smoothing", 0.0),
    )
    def test_does_not_apply(self, choice, name, option, value):
        with self.assertRaisesRegex(
            InputError,
            rf"^`{option}` does not apply to the {choice} {name}, which has "
            rf"[a-z].*\. Received: {option}=",
        ):
            TrainingConfig(**{choice: name, option: value})

    @parameterized.parameters(
        ("epochs", 0, 1),
        ("epochs", -1, 1),
        ("batch_size", 0, 1),
        ("batch_size", -128, 1),
        ("learning_rate", -0.1, 0),
        ("learning_rate", math.inf, 0),
        ("learning_rate", math.nan, 0),
        ("weight_decay", -1e-4, 0),
        ("weight_decay", math.nan, 0),
        ("clip_norm", -1, 0),
        ("clip_norm", math.inf, 0),
        ("clip_norm", math.nan, 0),
    )
    def test_at_least(self, name, value, low):
        with self.assertRaisesRegex(
            InputError,
            rf"^`{name}` is expected to be at least {low}\b.*"
            rf"Received: {name}={value}$",
        ):
            TrainingConfig(**{name: value})

    @parameterized.product(
        (
            {"name": "momentum", "optimizer": "sgd"},
            {"name": "beta_1", "optimizer": "adam"},
            {"name": "beta_2", "optimizer": "adamw"},
            {"name": "label_smoothing", "optimizer": "sgd"},
            {"name": "weight_averaging", "optimizer": "lamb"},
        ),
        value=(-0.1, 1, 1.5, math.nan),
    )
    def test_below_one(self, name, value, optimizer):
        TrainingConfig(**{"optimizer": optimizer, name: 0})
        with self.assertRaisesRegex(
            InputError,
            rf"^`{name}` is expected in \[0, 1\)\. Received: {name}={value}$",
        ):
            TrainingConfig(**{"optimizer": optimizer, name: value})

    @parameterized.parameters(
        ("optimizer", OPTIMIZERS),
        ("schedule", SCHEDULES),
        ("loss", LOSSES),
        ("weight_decay_mode", WEIGHT_DECAY_MODES),
        ("weight_decay_on", WEIGHT_DECAY_ON),
        ("attack_loss", ATTACK_LOSSES),
        ("schedule_unit", SCHEDULE_UNITS),
    )
    def test_one_of(self, name, known):
        schedule = {"schedule": "cosine"} if name == "schedule_unit" else {}
        for value in known:
            config = TrainingConfig(**schedule, **{name: value})
            self.assertEqual(getattr(config, name), value)
        with self.assertRaisesRegex(
            InputError,
            rf"^`{name}` is expected to be one of {', '.join(known)}\. "
            rf"Received: {name}=other$",
        ):
            TrainingConfig(**schedule, **{name: "other"})

    @parameterized.parameters(-1, 2**31)
    def test_seed(self, seed):
        with self.assertRaisesRegex(
            InputError, rf"^`seed` is expected in \[0, .*Received: seed={seed}$"
        ):
            TrainingConfig(seed=seed)

    @parameterized.parameters(-1, 3, 4, math.nan)
    def test_warmup(self, epochs):
        with self.assertRaisesRegex(
            InputError, rf"\[0, 3\)\. Received: warmup_epochs={epochs}$"
        ):
            TrainingConfig(epochs=3, schedule="cosine", warmup_epochs=epochs)
        TrainingConfig(epochs=3, schedule="cosine", warmup_epochs=2)

    @parameterized.parameters(
        ((),),
        ((0.0,),),
        ((1.0,),),
        ((0.5, 0.5),),
        ((0.6, 0.5),),
        ((math.nan,),),
    )
    def test_milestones(self, milestones):
        with self.assertRaisesRegex(
            InputError,
            r"^`milestones` .* increasing, .*Received: milestones=\(",
        ):
            TrainingConfig(schedule="multistep", milestones=milestones)

    def test_milestones_behind_the_warmup(self):
        def build(warmup_epochs):
            TrainingConfig(
                epochs=10, schedule="multistep", warmup_epochs=warmup_epochs
            )

        build(4)
        with self.assertRaisesRegex(InputError, "after .* warmup_epochs=5$"):
            build(5)

    @parameterized.parameters(0, -0.1, 1.1, math.nan)
    def test_decay(self, decay):
        with self.assertRaisesRegex(InputError, rf"\(0, 1\].* decay={decay}$"):
            TrainingConfig(schedule="multistep", decay=decay)

    def test_nesterov_needs_momentum(self):
        TrainingConfig(nesterov=True)
        with self.assertRaisesRegex(
            InputError, "above 0. Received: nesterov=True, momentum=0$"
        ):
            TrainingConfig(nesterov=True, momentum=0)

    def test_adamw_is_decoupled(self):
        with self.assertRaisesRegex(
            InputError, "for adamw; adam .* Received: weight_decay_mode=l2$"
        ):
            TrainingConfig(optimizer="adamw", weight_decay_mode="l2")


if __name__ == "__main__":
    absltest.main()
