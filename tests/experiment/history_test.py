"""What a run has recorded per epoch, also if an earlier version began it."""

import csv
import json
import pathlib
import tempfile

import tensorflow as tf
from absl.testing import absltest, parameterized

from fastbat_tf.experiment import history
from fastbat_tf.experiment.backup import SUMS
from fastbat_tf.experiment.config import Config, MethodConfig
from fastbat_tf.experiment.preemption import Preempted
from fastbat_tf.experiment.run_directory import RunDirectory
from fastbat_tf.files import sha256
from tests.experiment.loop_test import Process

EARLIER = {
    "robust_gradient_norm": "gradient_norm",
    "val_clean_accuracy": "val_accuracy",
    "val_averaged_clean_accuracy": "val_averaged_accuracy",
}


class ReadTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.directory = RunDirectory(directory)
        self.directory.history.write_text("epoch,perturbed_accuracy\n0,0.5\n")

    @parameterized.parameters(
        ("standard", "accuracy"), ("fastat", "perturbed_accuracy")
    )
    def test_the_method_tells_the_kind_of_accuracy(self, method, name):
        self.directory.create(Config(method=MethodConfig(method)))
        self.directory.unlock()
        expected = [{"epoch": 1, name: 0.5}]
        self.assertEqual(history.read(self.directory.history), expected)

    @parameterized.parameters(
        ("{", "perturbed_accuracy"),
        ('{"method": {"method": "of a user", "options": {}}}', "accuracy"),
        (
            '{"method": {"method": "of a user", "options": {"epsilon": 1}}}',
            "perturbed_accuracy",
        ),
    )
    def test_other_configs(self, text, name):
        self.directory.config.write_text(text)
        expected = [{"epoch": 1, name: 0.5}]
        self.assertEqual(history.read(self.directory.history), expected)
        self.assertEqual(
            history.read(str(self.directory.history), has_attack=False),
            [{"epoch": 1, "accuracy": 0.5}],
        )

    def test_timing(self):
        self.directory.timing.write_text("epoch,seconds\n0,2.5\n1,\n")
        self.assertEqual(
            history.read_timing(self.directory.timing),
            [{"epoch": 1, "seconds": 2.5}, {"epoch": 2, "seconds": None}],
        )

    @parameterized.parameters(
        ({"best_epoch": 7}, 7),
        ({"best_epoch": None, "weights": "best val_x"}, 2),
        ({"weights": "best val_x"}, 2),
        ({"weights": "best val_accuracy"}, 1),  # Of an earlier version.
        ({"weights": "best val_y"}, None),
        ({"weights": "init"}, None),
        ({}, None),
    )
    def test_best_epoch(self, results, expected):
        rows = [
            {"epoch": 1, "val_x": 0.1, "val_clean_accuracy": 0.2},
            {"epoch": 2, "val_x": 0.3, "val_clean_accuracy": 0.1},
        ]
        self.assertEqual(history.best_epoch(rows, results), expected)


def make_earlier(checkpoint):
    """Changes a checkpoint to what an earlier version would have written.

    Returns:
        The names of the columns.
    """
    for name in ("history.csv", "timing.csv"):
        _count_from_0(checkpoint / "files" / name)
    with (checkpoint / "files" / "history.csv").open(newline="") as file:
        rows = [
            {EARLIER.get(name, name): value for name, value in row.items()}
            for row in csv.DictReader(file)
        ]
    for row in rows:
        del row["learning_rate"]
    names = ["epoch", *sorted(set(rows[0]) - {"epoch"})]
    _write(checkpoint / "files" / "history.csv", names, rows)
    state = json.loads((checkpoint / "state.json").read_text())
    best = state["callbacks"][0]
    best["column"] = EARLIER[best["column"]]
    del best["epoch"]
    (checkpoint / "state.json").write_text(json.dumps(state))
    lines = [
        f"{sha256(path)}  {path.relative_to(checkpoint).as_posix()}\n"
        for path in checkpoint.rglob("*")
        if path.is_file() and path.name != SUMS
    ]
    (checkpoint / SUMS).write_text("".join(lines))
    return names


def _count_from_0(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["epoch"] = int(row["epoch"]) - 1
    _write(path, list(rows[0]), rows)


def _write(path, names, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


class EarlierRunTest(tf.test.TestCase):
    def test_resumes(self):
        directory = pathlib.Path(self.get_temp_dir())
        reference = Process(directory / "whole", averaging=0.9)
        reference.fit()
        begun = Process(directory / "begun", averaging=0.9)
        with self.assertRaises(Preempted):
            begun.fit((1, 0))
        newest = max((begun.directory / "backup").glob("[0-9]*"))
        self.assertContainsSubset(EARLIER.values(), make_earlier(newest))
        again = Process(begun.directory, seed=9, averaging=0.9)
        self.assertTrue(again.fit())
        arrays, state, found, _ = again.state()
        expected_arrays, expected_state, expected, _ = reference.state()
        self.assertEqual(arrays, expected_arrays)
        best, expected_best = state["callbacks"][0], expected_state["callbacks"]
        # Unless a later epoch is better, the history tells.
        if expected_best[0]["epoch"] == 1:
            expected_best[0]["epoch"] = None
        self.assertEqual(best, expected_best[0])
        # Each value is below its own name, also in the row from before.
        head, first, *rest = expected.splitlines()
        names, values = head.split(","), first.split(",")
        values[names.index("learning_rate")] = ""
        self.assertEqual(found.splitlines(), [head, ",".join(values), *rest])
        self.assertContainsSubset(EARLIER, names)
        timing = history.read_timing(again.directory / "timing.csv")
        self.assertEqual([row["epoch"] for row in timing], [1, 2])


if __name__ == "__main__":
    absltest.main()
