"""Several seeds: their summary, and what is refused."""

import contextlib
import io
import json
import pathlib
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized

from fastbat_tf.errors import InputError
from fastbat_tf.experiment import seeds, train
from fastbat_tf.experiment.config import (
    Config,
    DataConfig,
    EvaluationConfig,
    MethodConfig,
)
from fastbat_tf.experiment.run_directory import RunDirectory, seed_directory

CONFIG = Config(
    data=DataConfig("cifar10_mini"),
    method=MethodConfig("fgsm"),
    evaluation=EvaluationConfig(
        attacks=("pgd-2-1", "fgsm"), epsilons=(0.01, 0.02)
    ),
)


def row(attack, epsilon, accuracy, examples=50):
    return {
        "attack": attack,
        "epsilon": epsilon,
        "norm": "linf",
        "examples": examples,
        "robust_accuracy": accuracy,
    }


def results(clean, base, *others):
    """A results.json to which evaluations have added rows."""
    rows = [
        row(attack, epsilon, base + number / 100)
        for number, (epsilon, attack) in enumerate(
            (e, a) for e in (0.01, 0.02) for a in ("pgd-2-1", "fgsm")
        )
    ]
    return {
        "clean_accuracy": clean,
        "examples": 50,
        "attacks": [*others, *rows, row("square", 0.01, 0.9)],
    }


class SummaryTest(absltest.TestCase):
    def test_rows(self):
        both = [
            results(0.5, 0.2),
            results(0.7, 0.4, row("pgd-2-1", 0.01, 0.9, examples=20)),
        ]
        summary = seeds.summarize(CONFIG, (3, 1), both)
        self.assertEqual(summary["seeds"], [3, 1])
        self.assertEqual(
            [(r["attack"], r["epsilon"]) for r in summary["rows"]],
            [
                ("none (clean)", ""),
                ("pgd-2-1", "0.01"),
                ("fgsm", "0.01"),
                ("pgd-2-1", "0.02"),
                ("fgsm", "0.02"),
            ],
        )
        expected = (0.6, 0.3, 0.31, 0.32, 0.33)
        for found, mean in zip(summary["rows"], expected, strict=True):
            self.assertAlmostEqual(found["mean"], mean)
            # The two values are 0.2 apart: 0.2 / sqrt(2).
            self.assertAlmostEqual(found["standard_deviation"], 0.1414214)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            seeds.show(CONFIG, summary)
        lines = printed.getvalue().splitlines()
        self.assertEqual(lines[:2], ["", "method: fgsm"])
        self.assertEqual(
            lines[3].split(),
            ["none", "(clean)", "60.00%", "14.14", "50.00", "70.00"],
        )
        self.assertEqual(lines[-1], "50 examples, seeds 3, 1.")


class DirectoryTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.parent = pathlib.Path(directory, "runs")
        self.trained = []

    def train(self, config=CONFIG, which=(0, 1), resume="auto"):
        def train_one(config, directory, *_, **__):
            self.trained.append(config.training.seed)
            begun = RunDirectory(directory)
            begun.create(config)
            begun.unlock()
            return results(0.5, 0.01 * config.training.seed)

        with mock.patch.object(train, "train", train_one):
            return seeds.train_each(
                config, which, self.parent, None, resume=resume, verbosity=-1
            )

    def refuse(self, message, **arguments):
        before = list(self.trained)
        with self.assertRaisesRegex(InputError, message):
            self.train(**arguments)
        self.assertEqual(self.trained, before)

    def test_again_and_more(self):
        summary = self.train()
        path = self.parent / "seeds.json"
        self.assertEqual(json.loads(path.read_text()), summary)
        self.train(which=(0, 1, 2), resume="must")
        self.assertEqual(self.trained, [0, 1, 0, 1, 2])
        self.assertLen(json.loads(path.read_text())["seeds"], 3)

    def test_other_runs(self):
        other = Config(
            data=CONFIG.data,
            method=MethodConfig("fastat"),
            evaluation=CONFIG.evaluation,
        )
        self.train()
        # None of the existing directories has these names.
        self.refuse("holds a different run.*/seed-0$", config=other)
        self.refuse(
            "holds a different run.*/seed-0$", config=other, which=(2, 3)
        )
        self.refuse("holds this run already.*/seed-", resume="never")
        with self.assertRaisesRegex(InputError, "runs of several seeds"):
            RunDirectory(self.parent).check(CONFIG)

    def test_a_later_seed_is_in_the_way(self):
        begun = RunDirectory(seed_directory(self.parent, 1))
        begun.create(CONFIG.with_seed(9))
        begun.unlock()
        self.refuse("holds a different run.*/seed-1$")

    def test_a_run_of_one_seed(self):
        begun = RunDirectory(self.parent)
        begun.create(CONFIG)
        begun.unlock()
        self.refuse("holds a run of one seed; .*/runs$")

    def test_must(self):
        self.refuse("`resume` is must, .*/runs$", resume="must")

    def test_no_room(self):
        error = OSError(28, "No space left on device")
        with mock.patch.object(seeds, "write_json", side_effect=error):
            with self.assertRaisesRegex(InputError, "free space.*/runs "):
                self.train()


if __name__ == "__main__":
    absltest.main()
