"""A run whose files have the names of columns of an earlier version."""

import csv
import json

import tensorflow as tf
from absl.testing import absltest

from fastbat_tf.experiment.backup import SUMS
from fastbat_tf.experiment.preemption import Preempted
from fastbat_tf.files import sha256
from tests.experiment.loop_test import Process

EARLIER = {
    "robust_gradient_norm": "gradient_norm",
    "val_clean_accuracy": "val_accuracy",
    "val_averaged_clean_accuracy": "val_averaged_accuracy",
}


def make_earlier(checkpoint):
    """Changes a checkpoint to what an earlier version would have written.

    Returns:
        The names of the columns.
    """
    history = checkpoint / "files" / "history.csv"
    with history.open(newline="") as file:
        rows = [
            {EARLIER.get(name, name): value for name, value in row.items()}
            for row in csv.DictReader(file)
        ]
    names = ["epoch", *sorted(set(rows[0]) - {"epoch"})]
    with history.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    state = json.loads((checkpoint / "state.json").read_text())
    best = state["callbacks"][0]
    best["column"] = EARLIER[best["column"]]
    (checkpoint / "state.json").write_text(json.dumps(state))
    lines = [
        f"{sha256(path)}  {path.relative_to(checkpoint).as_posix()}\n"
        for path in checkpoint.rglob("*")
        if path.is_file() and path.name != SUMS
    ]
    (checkpoint / SUMS).write_text("".join(lines))
    return names


class EarlierRunTest(tf.test.TestCase):
    def test_resumes(self):
        directory = self.get_temp_dir()
        reference = Process(f"{directory}/whole", averaging=0.9)
        reference.fit()
        begun = Process(f"{directory}/begun", averaging=0.9)
        with self.assertRaises(Preempted):
            begun.fit((1, 0))
        newest = max((begun.directory / "backup").glob("[0-9]*"))
        self.assertContainsSubset(EARLIER.values(), make_earlier(newest))
        again = Process(begun.directory, seed=9, averaging=0.9)
        self.assertTrue(again.fit())
        arrays, state, history = again.state()
        expected_arrays, expected_state, expected_history = reference.state()
        self.assertEqual(arrays, expected_arrays)
        self.assertEqual(state["callbacks"][0], expected_state["callbacks"][0])
        # Each value is below its own name, also in the row from before.
        self.assertEqual(history, expected_history)
        self.assertContainsSubset(EARLIER, history.splitlines()[0].split(","))


if __name__ == "__main__":
    absltest.main()
