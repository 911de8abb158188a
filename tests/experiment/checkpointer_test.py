"""When a training is saved; `loop_test` has what is saved."""

from unittest import mock

import tensorflow as tf

from fastbat_tf.experiment import checkpointer
from fastbat_tf.experiment.checkpointer import Interval


class IntervalTest(tf.test.TestCase):
    def test_steps(self):
        interval = Interval("3")
        found = [interval.has_passed() for _ in range(4)]
        self.assertEqual(found, [False, False, True, True])
        interval.restart()
        found = [interval.has_passed() for _ in range(3)]
        self.assertEqual(found, [False, False, True])

    def test_minutes(self):
        with mock.patch.object(checkpointer.time, "monotonic") as clock:
            clock.return_value = 50.0
            interval = Interval("1.5min")
            for now, expected in ((139.9, False), (140.0, True)):
                clock.return_value = now
                self.assertEqual(interval.has_passed(), expected)
            interval.restart()
            clock.return_value = 200.0
            self.assertFalse(interval.has_passed())


if __name__ == "__main__":
    tf.test.main()
