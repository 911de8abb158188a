"""The settings that flags resolve to, without training."""

import tempfile

from absl.testing import absltest, parameterized

from fastbat_tf.experiment.config import Config, MethodConfig, ModelConfig
from fastbat_tf.experiment.run_directory import RunDirectory
from tests import recipes_test
from tests.support.command_line import CommandLineTest

# Flags resolve what the library leaves to the network.
MODEL = ModelConfig(width=64, activation="relu", stem="cifar")


class FlagsConfigTest(CommandLineTest):
    def test_defaults(self):
        mode, run_dir, config = self.command()
        self.assertEqual(config, Config(model=MODEL))
        self.assertEqual(mode, "train")
        self.assertIsNone(self.target)
        self.assertEqual(self.how, ("auto", 0))
        self.assertRegex(
            run_dir, r"^runs/fastbat-cifar10-preact_resnet18-\d{8}-\d{6}$"
        )

    @parameterized.parameters(("8/255", 8 / 255), ("0.0314", 0.0314))
    def test_epsilon(self, text, epsilon):
        _, _, config = self.command(f"--epsilon={text}")
        method = MethodConfig("fastbat", {"epsilon": epsilon})
        self.assertEqual(config, Config(model=MODEL, method=method))
        self.assertEqual(config.method.options["step_size"], 5000 / 255)
        self.assertEqual(config.evaluation.epsilons, (epsilon,))

    def test_epsilons(self):
        _, _, config = self.command("--epsilons=8/255,0.05")
        self.assertEqual(config.evaluation.epsilons, (8 / 255, 0.05))

    @parameterized.parameters(
        ("wrn16_2", {"activation": "relu", "stem": "cifar", "dropout": 0.0}),
        ("keras:MobileNetV3Small", {}),
    )
    def test_a_model_has_its_own_options(self, name, options):
        _, run_dir, config = self.command(f"--model={name}")
        self.assertEqual(config.model, ModelConfig(name, **options))
        self.assertNotIn(":", run_dir)

    def test_infinite_lambda(self):
        _, _, config = self.command("--implicit_lambda=inf")
        self.assertEqual(config.method.options["implicit_lambda"], float("inf"))

    def test_automatic_step_size(self):
        _, _, config = self.command(
            "--step_size=auto", "--interior_fraction=0.4", "--implicit_clip=0.1"
        )
        options = config.method.options
        self.assertEqual(options["step_size"], "auto")
        self.assertEqual(options["interior_fraction"], 0.4)
        self.assertEqual(options["implicit_clip"], 0.1)

    def test_every_flag(self):
        weights = self.directory / "some.weights.h5"
        weights.touch()
        extra = str(self.directory / "extra.npz")
        recipes_test.write_extra_images(extra)
        _, run_dir, config = self.command(
            "--run_dir=here",
            "--dataset=cifar10",
            "--data_dir=there",
            "--validation_share=0.25",
            "--training_examples=1000",
            "--noaugment",
            "--cutmix",
            f"--extra_data={extra}",
            "--extra_fraction=0.4",
            "--model=preact_resnet34",
            "--width=4",
            "--activation=silu",
            "--shortcut=activated",
            "--head=plain",
            "--nonormalize",
            "--stem=imagenet",
            f"--init_weights={weights}",
            "--method=pgd",
            "--epsilon=4/255",
            "--steps=7",
            "--step_size=1/255",
            "--epochs=3",
            "--batch_size=5",
            "--learning_rate=0.3",
            "--schedule=multistep",
            "--schedule_unit=epoch",
            "--warmup_epochs=1",
            "--milestones=0.5,2/3",
            "--decay=0.3",
            "--optimizer=sgd",
            "--momentum=0.8",
            "--nesterov",
            "--weight_decay=0",
            "--weight_decay_mode=decoupled",
            "--weight_decay_on=kernels",
            "--clip_norm=2.5",
            "--loss=crossentropy",
            "--label_smoothing=0.3",
            "--attack_loss=crossentropy",
            "--weight_averaging=0.9995",
            "--clean_epochs=1",
            "--awp_gamma=0.005",
            "--awp_warmup_epochs=1",
            "--epsilon_ramp_epochs=2",
            "--epsilon_jitter=0.25",
            "--precision=mixed_bfloat16",
            "--on_overfitting=rollback",
            "--overfitting_threshold=0.2",
            "--rollback_factor=0.3",
            "--seed=1",
            "--attacks=pgd-3-2,apgd-ce+square-5",
            "--epsilons=0.5,2",
            "--norm=l2",
            "--max_examples=11",
            "--evaluation_seed=9",
            "--validation_attack=pgd-4-5",
            "--validation_examples=12",
            "--evaluation_batch_size=13",
            "--loss_surface",
            "--distances=7",
            "--strategy=none",
            "--jit_compile=true",
            "--deterministic",
            "--save_every=2.5min",
            "--collective_timeout=2min",
            "--steps_per_execution=10",
            "--profile=11,20",
            "--resume=must",
            "--verbosity=1",
        )
        self.assertEqual(self.how, ("must", 1))
        self.assertEqual(run_dir, "here")
        groups = config.to_dict()
        del groups["evaluation"]["validation_epsilon"]
        self.assertEqual(
            groups,
            {
                "data": {
                    "dataset": "cifar10",
                    "data_dir": "there",
                    "validation_share": 0.25,
                    "training_examples": 1000,
                    "augment": False,
                    "cutmix": True,
                    "extra_data": extra,
                    "extra_fraction": 0.4,
                    "extra_fingerprint": config.data.extra_fingerprint,
                    "image_size": None,
                    "skip_unreadable": False,
                    "classes": (),
                    "reading": {
                        "height": 32,
                        "width": 32,
                        "channels": 3,
                        "short_side": None,
                        "antialias": True,
                    },
                },
                "model": {
                    "model": "preact_resnet34",
                    "width": 4,
                    "activation": "swish",
                    "normalize": False,
                    "stem": "imagenet",
                    "dropout": None,
                    "padding": None,
                    "shortcut": "activated",
                    "head": "plain",
                    "init_weights": str(weights),
                    "mean": None,
                    "std": None,
                },
                "method": {
                    "method": "pgd",
                    "options": {
                        "epsilon": 4 / 255,
                        "steps": 7,
                        "step_size": 1 / 255,
                        "attack_mode": "training",
                        "norm": "l2",
                    },
                },
                "training": {
                    "epochs": 3,
                    "batch_size": 5,
                    "learning_rate": 0.3,
                    "schedule": "multistep",
                    "schedule_unit": "epoch",
                    "warmup_epochs": 1,
                    "milestones": (0.5, 2 / 3),
                    "decay": 0.3,
                    "optimizer": "sgd",
                    "momentum": 0.8,
                    "nesterov": True,
                    "beta_1": None,
                    "beta_2": None,
                    "weight_decay": 0.0,
                    "weight_decay_mode": "decoupled",
                    "weight_decay_on": "kernels",
                    "clip_norm": 2.5,
                    "sync_batch_norm": False,  # XLA is refused with it.
                    "loss": "crossentropy",
                    "label_smoothing": 0.3,
                    "attack_loss": "crossentropy",
                    "weight_averaging": 0.9995,
                    "clean_epochs": 1,
                    "epsilon_ramp_epochs": 2,
                    "awp_gamma": 0.005,
                    "awp_warmup_epochs": 1,
                    "epsilon_jitter": 0.25,
                    "precision": "mixed_bfloat16",
                    "seed": 1,
                },
                "overfitting": {
                    "on_overfitting": "rollback",
                    "overfitting_threshold": 0.2,
                    "rollback_factor": 0.3,
                },
                "evaluation": {
                    "attacks": ("pgd-3-2", "apgd-ce+square-5"),
                    "epsilons": (0.5, 2.0),
                    "norm": "l2",
                    "validation_norm": "l2",
                    "max_examples": 11,
                    "seed": 9,
                    "validation_attack": "pgd-4-5",
                    "validation_examples": 12,
                    "batch_size": 13,
                    "loss_surface": True,
                    "distances": 7,
                },
                "runtime": {
                    "strategy": "none",
                    "jit_compile": "true",
                    "deterministic": True,
                    "save_every": "2.5min",
                    "collective_timeout": "2min",
                    "steps_per_execution": 10,
                    "profile": "11,20",
                },
            },
        )

    def test_what_does_not_make_another_run(self):
        _, _, config = self.command(
            "--save_every=7",
            "--steps_per_execution=5",
            "--profile=3,4",
            "--collective_timeout=8min",
        )
        self.assertEqual(config.runtime.collective_timeout, "8min")
        self.assertEqual(config.runtime.save_every, "7")
        self.assertEqual(config.runtime.steps_per_execution, 5)
        self.assertEqual(config.runtime.profile, "3,4")
        self.assertEqual(config, Config(model=MODEL))

    def test_export(self):
        run = RunDirectory(self.enterContext(tempfile.TemporaryDirectory()))
        run.create(Config())
        run.unlock()
        run.best.touch()
        path = str(run.path)
        self.assertEqual(
            self.command("--mode=export", f"--run_dir={path}"),
            ("export", path, None),
        )
        self.assertIsNone(self.target)


if __name__ == "__main__":
    absltest.main()
