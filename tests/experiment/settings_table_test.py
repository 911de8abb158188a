"""The table of the settings that are not the defaults."""

import contextlib
import dataclasses
import io
import shlex

from absl.testing import absltest, flagsaver, parameterized

import flags
from fastbat_tf import methods
from fastbat_tf.experiment import settings_table
from fastbat_tf.experiment.config import Config, MethodConfig, Target
from fastbat_tf.runtime import display

SHORT = (
    "data    --dataset=cifar10",
    "model   --model=preact_resnet18",
    "method  --method=fastbat",
    "        --epsilon=8/255",
    settings_table.REST,
)


@flagsaver.flagsaver
def parse(*arguments):
    flags.parse(["main.py", *arguments])
    return flags.get_command()


def show(command, verbosity=0):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), display.shown(verbosity):
        found = settings_table.of_training(command.config, command.seeds)
        settings_table.show(found)
        assert not printed.getvalue()  # An error may follow.
        display.result("next")
    *lines, last = printed.getvalue().splitlines()
    assert last == "next"
    return lines


def typed(lines):
    """The flags in a table, as a shell would take them."""
    words = [shlex.split(line) for line in lines]
    return [word for line in words for word in line if word.startswith("--")]


class SettingsTableTest(parameterized.TestCase):
    def test_nothing_but_defaults(self):
        self.assertEqual(show(parse()), [*SHORT])
        self.assertEqual(show(parse("--width=64", "--epochs=20")), [*SHORT])

    def test_a_recipe(self):
        command = parse("--flagfile=recipes/demo.cfg", "--attacks=pgd-5-1")
        self.assertEqual(
            show(command),
            [
                "data        --dataset=cifar10_mini     default cifar10",
                "model       --model=preact_resnet18",
                "            --width=8                  default 64",
                "method      --method=fastbat",
                "            --epsilon=8/255",
                "training    --epochs=10                default 20",
                "            --batch_size=64            default 128",
                "evaluation  --attacks=pgd-5-1          default pgd-50-10",
                "            --max_examples=500         default 0",
                "            --validation_examples=200  default 0",
                settings_table.REST,
            ],
        )

    @parameterized.parameters(
        # What depends on other settings is not told.
        ("--method=fastat", "--epsilon=16/255"),
        ("--method=fgsm_uap", "--epsilon=0.0314"),
        ("--method=fastat", "--norm=l2"),
        ("--method=pgd", "--norm=l2", "--epsilon=0.5", "--steps=4"),
        ("--optimizer=adamw", "--weight_decay=0.02"),
        ("--schedule=multistep", "--milestones=0.5,0.8"),
        ("--on_overfitting=rollback",),
        ("--on_overfitting=off", "--noaugment"),
        ("--epsilons=4/255,0.03,0.0314", "--step_size=10/255"),
        ("--method=standard", "--epsilons=128/255,0.5", "--norm=l2"),
        ("--norm=l2", "--epsilons=2", "--validation_epsilon=1"),
        ("--model=wrn28_10", "--dropout=0.3", "--seeds=0,1"),
        ("--save_every=5", "--data_dir=/a b", "--profile=1,2"),
    )  # fmt: skip
    def test_what_was_typed(self, *arguments):
        """Only that is shown, and as it was typed."""
        shown = typed(show(parse(*arguments))[:-1])
        always = [f"--{name}=" for name in settings_table.ALWAYS]
        given = [
            "--augment=false" if x == "--noaugment" else x for x in arguments
        ]
        self.assertContainsSubset(given, shown)
        for flag in set(shown) - set(given):
            self.assertStartsWith(flag, tuple(always))

    @parameterized.parameters(*methods.METHODS)
    def test_every_method_is_its_own_default(self, name):
        found = settings_table.of_training(Config(method=MethodConfig(name)))
        others = [s.name for s in found if not s.is_default]
        self.assertEqual(others, [] if name == "fastbat" else ["method"])

    def test_all_settings(self):
        """They can be typed again, and give the same run."""
        command = parse("--seed=3", "--optimizer=adam", "--epsilon=0.0314")
        lines = show(command, verbosity=1)
        self.assertGreater(len(lines), 40)
        self.assertNotIn(settings_table.REST, lines)
        self.assertEqual(parse(*typed(lines)).config, command.config)
        for line in lines:
            self.assertLessEqual(len(line), 80)

    def test_an_evaluation(self):
        command = parse("--epsilons=8/255,16/255", "--evaluation_seed=2")
        for target, run_dir, expected in (
            (Target(), "runs/a", ["--run_dir=runs/a"]),
            (
                Target(model_path="m.keras", save_images=True),
                None,
                ["--model_path=m.keras", "--save_images=true"],
            ),
        ):
            found = settings_table.of_evaluation(
                command.config, target, run_dir
            )
            chosen = [s.flag for s in found if not s.is_default]
            expected += ["--epsilons=8/255,16/255", "--evaluation_seed=2"]
            self.assertEqual(chosen, expected)

    def test_another_norm_than_that_of_the_training(self):
        config = parse("--method=pgd").config
        evaluation = dataclasses.replace(
            config.evaluation, norm="l2", epsilons=(0.5,)
        )
        config = dataclasses.replace(config, evaluation=evaluation)
        found = settings_table.of_evaluation(config, Target(), "runs/a")
        self.assertEqual(
            settings_table.lines([s for s in found if not s.is_default]),
            [
                "target      --run_dir=runs/a",
                "evaluation  --epsilons=0.5",
                "            --norm=l2         default linf",
            ],
        )


if __name__ == "__main__":
    absltest.main()
