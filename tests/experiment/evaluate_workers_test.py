"""Two processes measure robustness together."""

import json
import pathlib
import signal
import tempfile

import pytest
import tensorflow as tf
from absl.testing import parameterized

from tests.evaluation.robustness_test import without_seconds
from tests.support import many_workers, worker_evaluation


class EvaluateWorkersTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.directory = pathlib.Path(directory)
        self.run_dir = self.directory / "run"
        worker_evaluation.make_run(self.run_dir)

    def test_as_one_process(self):
        reports = [self.directory / f"{index}.json" for index in range(3)]
        nowhere = self.directory / "nowhere"
        ended = many_workers.run(
            worker_evaluation.measure,
            (reports[0], self.directory / "many", self.run_dir),
            # It has no such file system.
            (reports[1], nowhere, nowhere),
            directory=self.directory,
        )
        for worker in ended:
            self.assertEqual(worker.status, 0, worker.output)
        self.assertFalse(nowhere.exists())
        worker_evaluation.measure(reports[2], self.directory / "one")
        chief, other, one = (json.loads(each.read_text()) for each in reports)
        self.assertEqual(other, chief)
        found = chief.pop("run")
        written = json.loads((self.run_dir / "results.json").read_text())
        self.assertEqual(
            without_seconds(chief["evaluation"]),
            without_seconds(one["evaluation"]),
        )
        self.assertAllClose(chief["logs"], one["logs"])
        for row in written["attacks"]:
            self.assertTrue((self.run_dir / row.pop("outcomes")).exists())
        self.assertEqual(found["attacks"], written["attacks"])
        self.assertIn("pgd-1-1", ended[0].output)
        lines = ended[1].output.splitlines()
        self.assertEqual([x for x in lines if "0000 00" not in x], [])

    @parameterized.parameters(([0],), ([1],), ([0, 1],))
    @pytest.mark.slow
    def test_an_interrupt_ends_all(self, interrupted):
        with many_workers.started(
            worker_evaluation.measure_run,
            *[(self.run_dir, "square-1000000")] * 2,
            directory=self.directory,
        ) as running:
            running[0].wait_for("square", 60)
            for index in interrupted:
                running[index].send(signal.SIGINT)
            statuses = [worker.wait(60) for worker in running]
        for index, worker in enumerate(running):
            self.assertNotIn("Traceback", worker.output)
            self.assertEqual(
                statuses[index], 130 if index in interrupted else 2
            )
            *_, line = ["", *worker.output.splitlines()]
            if index not in interrupted:
                self.assertIn("error: Another worker has ended", line)
            elif index == 0:  # The other ones print no progress.
                self.assertIn("Stopped by Ctrl-C", line)


if __name__ == "__main__":
    tf.test.main()
