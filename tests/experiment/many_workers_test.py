"""Two processes train a run, are killed, resume, and are refused."""

import json
import pathlib
import random
import shutil
import signal
import tempfile
import time

import numpy as np
import pytest
from absl.testing import absltest

from fastbat_tf.experiment import history, train
from tests.support import chaos, many_workers, worker_training
from tests.support.worker_training import CONFIG, build_model, change

TOLERANCE = 1e-6  # Of float32 sums in another order.


def weights(run_dir):
    arrays = chaos._arrays(run_dir / "checkpoints" / "last.weights.h5")
    return {name: array for name, array in arrays.items() if array.ndim}


class ManyWorkersTest(absltest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.directory = pathlib.Path(directory)
        cls.run_dirs = [cls.directory / f"run{index}" for index in range(2)]
        arguments = []
        for index, run_dir in enumerate(cls.run_dirs):
            other_seed = change(CONFIG, training={"seed": index})
            other_data = change(
                CONFIG, data={"training_examples": 24, "augment": not index}
            )
            runs = [
                (CONFIG, run_dir),
                (CONFIG, run_dir),
                (other_seed, cls.directory / "seed"),
                (other_data, cls.directory / "data"),
            ]
            report = cls.directory / f"{index}.json"
            arguments.append((report, *runs))
        cls.ended = many_workers.run(
            worker_training.train_runs, *arguments, directory=directory
        )
        for worker in cls.ended:
            assert worker.status == 0, worker.output
        cls.found = [
            json.loads((cls.directory / f"{index}.json").read_text())
            for index in range(2)
        ]

    def test_only_the_chief_writes_and_prints(self):
        names = {path.name for path in self.directory.iterdir()}
        self.assertEqual(
            names, {"run0", "0.json", "1.json", "worker0.log", "worker1.log"}
        )
        chief, other = (worker.output for worker in self.ended)
        self.assertIn("workers: 2, replicas: 2", chief)
        self.assertIn("none (clean)", chief)
        config = json.loads((self.run_dirs[0] / "config.json").read_text())
        self.assertEqual(config["environment"]["replicas"], 2)
        rows = history.read(self.run_dirs[0] / "history.csv")
        self.assertNotIn(None, [row["learning_rate"] for row in rows])
        self.assertEqual(chief.count("This run is finished: "), 1)
        lines = [line for line in other.splitlines() if "0000 00" not in line]
        self.assertEqual(lines, [])

    def test_all_return_the_results(self):
        written = json.loads((self.run_dirs[0] / "results.json").read_text())
        for found in self.found:
            self.assertEqual(found[0], written)
            self.assertEqual(found[1], written)

    def test_other_settings_are_refused(self):
        for found in self.found:
            self.assertEqual(
                found[2:],
                [
                    "All workers are expected to have the same configuration; "
                    f"worker 1 has {name}={theirs}, and the chief "
                    f"{name}={ours}. Received: {name}={theirs}"
                    for name, theirs, ours in (
                        ("seed", 1, 0),
                        ("augment", False, True),
                    )
                ],
            )

    def test_one_process_ends_with_the_same(self):
        run_dir = self.directory / "one"
        self.addCleanup(shutil.rmtree, run_dir)
        # The number of threads cannot change in this process.
        config = change(CONFIG, runtime={"deterministic": False})
        train.train(config, run_dir, build_model)
        ours, theirs = weights(self.run_dirs[0]), weights(run_dir)
        self.assertEqual(ours.keys(), theirs.keys())
        for name, array in theirs.items():
            np.testing.assert_allclose(ours[name], array, atol=TOLERANCE)

    def test_a_killed_worker(self):
        """The other one says so in a line, and both resume exactly."""
        run_dir = self.directory / "killed"
        self.addCleanup(shutil.rmtree, run_dir)
        ended = self.train(run_dir, die_at=4)
        self.assertEqual(ended[1].status, -signal.SIGKILL)
        self.assertEqual(ended[0].status, 2)
        *_, line = ended[0].output.splitlines()
        self.assertRegex(
            line,
            "^error: Another worker has ended, .* all 2 until .* resumes from "
            "the last checkpoint. Received: worker 1: ",
        )
        self.assertNotIn("Traceback", ended[0].output)
        expected = chaos.resume_line(run_dir)
        ended = self.train(run_dir)
        self.assertEqual([worker.status for worker in ended], [0, 0])
        self.assertIn(expected, ended[0].output)
        self.assertEqual(chaos.differences(run_dir, self.run_dirs[0]), [])

    def train(self, run_dir, die_at=None):
        scratch = self.enterContext(tempfile.TemporaryDirectory())
        return many_workers.run(
            worker_training.train_run,
            (CONFIG, run_dir),
            (CONFIG, f"{scratch}/nothing", die_at),
            directory=scratch,
        )


class StartTest(absltest.TestCase):
    def test_a_worker_ends_before_tensorflow_has_started(self):
        scratch = self.enterContext(tempfile.TemporaryDirectory())
        chief, _ = many_workers.run(
            worker_training.start_or_die,
            (False, 3),
            (True, 3),
            directory=scratch,
        )
        self.assertEqual(chief.status, 1)
        self.assertRegex(
            chief.output,
            "^error: Another of the 2 workers has ended before TensorFlow "
            "started; .* Received: no answer for 3 seconds\n$",
        )


# With all that a checkpoint keeps: statistics of each replica, random layers,
# averages, and what a rollback restores.
FLAGS = (
    "--dataset=cifar10_mini",
    "--validation_share=0.9",
    "--training_examples=60",
    "--epochs=3",
    "--batch_size=20",
    "--validation_examples=20",
    "--max_examples=10",
    "--attacks=pgd-1-1",
    "--validation_attack=pgd-1-1",
    "--model=wrn10_1",
    "--dropout=0.2",
    "--method=fgsm",
    "--weight_averaging=0.9",
    "--on_overfitting=rollback",
    "--overfitting_threshold=0.001",
    "--epsilon_ramp_epochs=1",
    "--save_every=1",
    "--deterministic",
    "--strategy=multiworker",
)


@pytest.mark.slow
class FiveKillsTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.directory = pathlib.Path(directory)

    def train(self, run_dir, kill_after=None, who=0):
        """Returns the statuses and outputs of two workers."""
        scratch = self.enterContext(tempfile.TemporaryDirectory())
        with many_workers.started(
            many_workers.main,
            (*FLAGS, f"--run_dir={run_dir}"),
            (*FLAGS, f"--run_dir={scratch}/nothing"),
            directory=scratch,
        ) as running:
            if kill_after is not None:
                running[0].wait_for("Running on", 300)
                running[who].wait(kill_after)
                if running[who].status is None:
                    running[who].send(signal.SIGKILL)
            for worker in running:
                worker.wait(600)
            return (
                [worker.status for worker in running],
                [worker.output for worker in running],
            )

    def test_five_random_moments(self):
        draws, reference = random.Random(17), self.directory / "reference"
        begin = time.monotonic()
        statuses, outputs = self.train(reference)
        self.assertEqual(statuses, [0, 0], outputs)
        duration = time.monotonic() - begin
        run_dir = self.directory / "killed"
        for _ in range(5):
            who = draws.randrange(2)
            wait = draws.uniform(0, 0.5 * duration)
            statuses, outputs = self.train(run_dir, wait, who)
            if statuses == [0, 0]:
                break  # The run was faster than its killer.
            self.assertEqual(statuses[who], -signal.SIGKILL)
            self.assertEqual(statuses[1 - who], 2, outputs)
            self.assertIn("error: Another worker", outputs[1 - who])
            self.assertNotIn("Traceback", outputs[1 - who])
        statuses, outputs = self.train(run_dir)
        self.assertEqual(statuses, [0, 0], outputs)
        self.assertEqual(chaos.differences(run_dir, reference), [])


if __name__ == "__main__":
    absltest.main()
