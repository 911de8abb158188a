"""The seconds of each epoch, over several processes."""

import csv
import pathlib
import tempfile

from absl.testing import absltest

from fastbat_tf.training import callbacks
from tests.support.small_training import Clock


class TimingTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(directory, "timing.csv")
        self.clock = Clock(self)

    def epoch(self, timing, epoch, steps):
        """Runs an epoch whose steps take so many seconds."""
        timing.on_epoch_begin(epoch)
        for batch, seconds in enumerate(steps):
            self.clock.now += seconds
            timing.on_train_batch_end(batch)

    def end(self, timing, epoch):
        self.clock.now += 1000  # The validation does not count.
        logs = {}
        timing.on_epoch_end(epoch, logs)
        return logs

    def rows(self):
        with self.path.open() as file:
            head, *rows = csv.reader(file)
        self.assertEqual(head[-1], "peak_gigabytes")
        for *_, peak in rows:  # TensorFlow alone needs this much.
            self.assertBetween(float(peak), 0.1, 1000)
        return [row[:-1] for row in rows]

    def test_seconds(self):
        timing = callbacks.Timing(self.path)
        self.epoch(timing, 0, [30, 2, 2])
        self.assertEqual(self.end(timing, 0), {"seconds": 34.0})
        self.assertEqual(timing.state, 0)
        self.epoch(timing, 1, [2, 3])
        self.assertEqual(self.end(timing, 1), {"seconds": 5.0})
        self.assertEqual(
            self.rows(), [["1", "34.0", "30.0"], ["2", "5.0", "2.0"]]
        )
        self.assertEqual(timing.total(), 39)

    def test_of_several_processes(self):
        first, second, third = (callbacks.Timing(self.path) for _ in range(3))
        self.epoch(first, 0, [30, 2])
        self.assertEqual(first.state, 32)
        second.state = first.state
        self.epoch(second, 0, [20, 2, 2])
        self.assertEqual(second.state, 56)
        third.state = second.state
        # All its steps were made by earlier processes.
        self.epoch(third, 0, [])
        self.assertEqual(third.state, 56)
        self.assertEqual(self.end(third, 0), {"seconds": 56})
        self.assertEqual(self.rows(), [["1", "56.0", ""]])
        self.assertEqual(third.total(), 56)

    def test_continues_a_file_of_an_earlier_version(self):
        self.path.write_text(
            "epoch,seconds,first_step_seconds,peak_gigabytes\n"
            "0,4.5,1.25,0.5\n1,3.0,,0.5\n"
        )
        timing = callbacks.Timing(self.path)
        self.assertEqual(timing.total(), 7.5)
        self.epoch(timing, 2, [2, 3])
        self.end(timing, 2)
        self.assertEqual(
            self.rows(),
            [["1", "4.5", "1.25"], ["2", "3.0", ""], ["3", "5.0", "2.0"]],
        )
        self.assertEqual(timing.total(), 12.5)


if __name__ == "__main__":
    absltest.main()
