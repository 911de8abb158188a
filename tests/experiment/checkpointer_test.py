"""When a training is saved, and in which order its variables are.

`loop_test` has the rest: what is saved is restored.
"""

import tempfile
from types import SimpleNamespace
from unittest import mock

import keras
import tensorflow as tf

from fastbat_tf import FGSM, FGSMPGI, EpsilonSchedule, Plan, RobustClassifier
from fastbat_tf.experiment import checkpointer
from fastbat_tf.experiment.backup import Backup
from fastbat_tf.experiment.checkpointer import Checkpointer, Interval
from fastbat_tf.experiment.loop import make_variables
from fastbat_tf.training import variables
from tests.support import testing


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


class OrderTest(tf.test.TestCase):
    def test_order_of_the_variables(self):
        """Checkpoints hold no names: another order would not resume them."""
        robust = RobustClassifier(testing.small_network(), FGSMPGI(8 / 255))
        robust.compile(
            keras.optimizers.SGD(0.1, momentum=0.9),
            metrics=["accuracy"],
            weight_averaging=0.9,
            plan=Plan(epochs=2, steps_per_epoch=2, batch_size=8, examples=16),
            epsilon_schedule=EpsilonSchedule(1, 2),
        )
        make_variables(robust)
        layers = (
            "conv_kernel bn_gamma bn_beta bn_moving_mean bn_moving_variance "
            "conv2_kernel conv2_bias dense_kernel dense_bias"
        ).split()
        momenta = [
            f"{name}_momentum" for name in layers if "moving" not in name
        ]
        expected = (
            ["step", "kernel", "gamma", "beta", "moving_mean"]
            + ["moving_variance", "kernel", "bias", "kernel", "bias"]
            + ["updates", *layers, "factor", "written", "delta", "momentum"]
            + ["iteration", "learning_rate", *momenta]
            + 3 * ["total", "count"]  # Loss, accuracy and gradient norm.
        )
        found = [v.name for v in variables.state_variables(robust)]
        self.assertEqual(found, expected)

    def test_callbacks_of_an_earlier_version(self):
        """They were fewer; the last ones keep the state of a new run."""
        robust = RobustClassifier(testing.small_network(), FGSM(8 / 255))
        robust.compile(keras.optimizers.SGD(0.1))
        make_variables(robust)
        path = self.enterContext(tempfile.TemporaryDirectory())
        backup = Backup(f"{path}/backup", path)
        callbacks = [SimpleNamespace(state=number) for number in range(3)]
        earlier = Checkpointer(robust, backup, Interval("1"), callbacks[:2])
        earlier.save(earlier.snapshot(4, 5))
        for callback in callbacks:
            callback.state = 7
        now = Checkpointer(robust, backup, Interval("1"), callbacks)
        self.assertEqual(now.restore(), (4, 5))
        self.assertEqual([each.state for each in callbacks], [0, 1, 7])


if __name__ == "__main__":
    tf.test.main()
