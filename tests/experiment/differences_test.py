"""Settings as one types them: what differs, and the command of a run."""

import json
import shlex

from absl.testing import absltest, parameterized

from fastbat_tf import models
from fastbat_tf.experiment import differences
from fastbat_tf.experiment.config import (
    Config,
    DataConfig,
    EvaluationConfig,
    MethodConfig,
    ModelConfig,
    OverfittingConfig,
    TrainingConfig,
    parse_fraction,
)
from fastbat_tf.methods import METHODS
from tests import recipes_test

COMMANDS = (
    "",
    "--epsilon=16/255",
    "--epsilon=16/255 --epsilons=8/255,0.05 --validation_epsilon=4/255",
    "--epsilon=0.0314 --step_size=0.1",
    "--implicit_lambda=inf",
    "--method=pgd --steps=7 --step_size=1/255 --norm=l2 --epsilon=0.5",
    "--method=fastbat --norm=l2",
    "--method=standard --norm=l2",
    "--method=standard --epsilons=0.3",
    "--method=aaer --base_attack=fastat --form=benchmark",
    "--method=free --replays=4 --epochs=8",
    "--optimizer=adam",
    "--optimizer=adamw --beta_2=0.99 --weight_decay=0",
    "--schedule=multistep --milestones=0.5,2/3 --decay=0.3",
    "--schedule=cosine --schedule_unit=epoch --warmup_epochs=2",
    "--nesterov --momentum=0.8 --clip_norm=2.5 --label_smoothing=0.3",
    "--loss=dlr --attack_loss=crossentropy --weight_averaging=0.9995",
    "--clean_epochs=1 --epsilon_ramp_epochs=2 --precision=mixed_bfloat16",
    "--awp_gamma=0.005 --awp_warmup_epochs=2",
    "--epsilon_jitter=0.1",
    "--on_overfitting=rollback --rollback_factor=0.3",
    "--on_overfitting=off",
    "--on_overfitting=stop --overfitting_threshold=0.2",
    "--validation_attack=fgsm",
    "--model=wrn16_2 --dropout=0.3",
    "--model=wrn16_2",
    "--model=keras:MobileNetV3Small --nonormalize",
    "--width=4 --activation=swish --stem=imagenet",
    "--noaugment --training_examples=1000 --validation_share=0.25",
    "--dataset=mnist",
    "--data_dir='a directory'",
    "--attacks=pgd-3-2,apgd-ce+square-5 --max_examples=11",
    "--evaluation_seed=9 --evaluation_batch_size=13 --batch_size=5 --seed=1",
    "--save_every=2.5min --steps_per_execution=10 --profile=11,20",
    "--strategy=none --jit_compile=true --deterministic",
)


def parse(line):
    """The `Config` of the flags in a line."""
    return recipes_test.parse(["--run_dir=here", *shlex.split(line)])


def arguments(command):
    """What follows `python main.py`."""
    return command.removeprefix("python main.py ")


class CommandTest(parameterized.TestCase):
    def assert_repeats(self, config):
        # As the report reads it: from the file of a run.
        read = Config.from_dict(json.loads(json.dumps(config.to_dict())))
        again = parse(arguments(differences.command(read)))
        self.assertEqual(again.to_dict(), config.to_dict())

    @parameterized.parameters(*COMMANDS)
    def test_makes_the_same_config(self, line):
        self.assert_repeats(parse(line))

    @parameterized.parameters(*METHODS)
    def test_every_method(self, method):
        self.assert_repeats(parse(f"--method={method}"))
        if METHODS[method].options:
            self.assert_repeats(parse(f"--method={method} --epsilon=5/255"))

    @parameterized.parameters(*map(str, recipes_test.ALL))
    def test_every_recipe(self, recipe):
        (given,) = recipes_test.commands(recipe)
        directory = self.create_tempdir().full_path
        recipes_test.write_extra_images(f"{directory}/1m.npz")
        given = [each.replace("DIR", directory) for each in given]
        self.assert_repeats(recipes_test.parse(given))

    def test_folder(self):
        directory = self.create_tempdir("of images").full_path
        for split in "train", "test":
            for name in "a", "b":
                self.create_tempfile(f"of images/{split}/{name}/1.png")
        self.assert_repeats(
            parse(
                f"--dataset=folder --data_dir={shlex.quote(directory)} "
                "--image_size=224"
            )
        )

    def test_is_short_and_in_the_order_of_a_reader(self):
        line = "--width=4 --epochs=3 --dataset=cifar10_mini --method=pgd"
        self.assertEqual(
            differences.command(parse(line), "fastbat-tf", run_dir="my runs/1"),
            "fastbat-tf --method=pgd --dataset=cifar10_mini --width=4 "
            "--epochs=3 '--run_dir=my runs/1'",
        )

    def test_there_is_none_for_a_measurement_in_another_norm(self):
        config = Config(
            evaluation=EvaluationConfig(
                norm="l2", epsilons=(2.0,), validation_norm="linf"
            )
        )
        self.assertIsNone(differences.command(config))
        self.assertEqual(differences.differing(config), {"epsilons": "2"})

    def test_of_a_network_that_the_zoo_completes(self):
        config = Config(model=ModelConfig("wrn16_2"))
        self.assertEqual(differences.differing(config), {"model": "wrn16_2"})


class DifferingTest(parameterized.TestCase):
    @parameterized.parameters(*COMMANDS)
    def test_are_those_that_were_typed(self, line):
        typed = {}
        for word in shlex.split(line):
            name, _, text = word.removeprefix("--").partition("=")
            typed[name] = text or "true"
            if not text and name.startswith("no"):
                typed[name.removeprefix("no")] = "false"
        found = differences.differing(parse(line))
        self.assertLessEqual(found.keys(), typed.keys())
        for name, text in found.items():
            self.assertIn(text, (typed[name], f"{2 / 3},", f"0.5,{2 / 3}"))

    def test_defaults_differ_in_nothing(self):
        self.assertEqual(differences.differing(parse("")), {})
        self.assertEqual(differences.differing(Config()), {})

    def test_a_default_may_depend_on_another_setting(self):
        line = "--optimizer=adam --learning_rate=0.001 --epsilon=16/255"
        given = parse(f"{line} --epsilons=16/255 --beta_1=0.9")
        self.assertEqual(
            differences.differing(given),
            {"epsilon": "16/255", "optimizer": "adam"},
        )

    @parameterized.parameters(
        "resnet18", "preact_resnet50", "wrn28_10", "keras:VGG16"
    )
    def test_defaults_of_the_zoo(self, model):
        for dataset in "cifar10", "stl10":
            shape = DataConfig(dataset).spec.image_shape
            options = models.resolve_options(model, {}, shape)
            config = Config(
                data=DataConfig(dataset), model=ModelConfig(model, **options)
            )
            self.assertEqual(
                differences.differing(config),
                {"dataset": dataset, "model": model}
                if dataset != "cifar10"
                else {"model": model},
            )


class DifferencesTest(absltest.TestCase):
    def test_resolve_defaults(self):
        found = differences.differences(
            [
                Config(overfitting=OverfittingConfig("warn")),
                Config(method=MethodConfig("standard")),
                Config(
                    method=MethodConfig("fastat", {"epsilon": 4 / 255}),
                    training=TrainingConfig(epochs=5, seed=1),
                ),
            ]
        )
        expected = {
            "method": ("fastbat", "standard", "fastat"),
            "epsilon": ("8/255", None, "4/255"),
            "step_size": ("5000/255", None, "5/255"),
            "epochs": ("20", "20", "5"),
            "seed": ("37", "37", "1"),
            "on_overfitting": ("warn", "off", "warn"),
            "epsilons": ("8/255", "8/255", "4/255"),
        }
        self.assertEqual(found, {**found, **expected})
        self.assertNotIn("norm", found)
        self.assertNotIn("learning_rate", found)

    def test_of_equal_configs(self):
        self.assertEqual(differences.differences([Config(), Config()]), {})


class FractionTest(parameterized.TestCase):
    @parameterized.parameters(
        (8 / 255, "8/255"),
        (1.25 * 8 / 255, "10/255"),
        (2.5 / 255, "2.5/255"),
        (128 / 255, "128/255"),
        (5000 / 255, "5000/255"),
        (0.5, "0.5"),
        (1.0, "1"),
        (0.3, "0.3"),
        (0.0, "0"),
        (0.0314, "0.0314"),
        (1 / 3, "85/255"),
        (float("inf"), "inf"),
    )
    def test_text(self, value, text):
        self.assertEqual(differences.fraction(value), text)

    def test_every_text_is_exact(self):
        for k in range(1, 3000):
            value = k / 2551
            text = differences.fraction(value)
            self.assertEqual(parse_fraction(text), value)


if __name__ == "__main__":
    absltest.main()
