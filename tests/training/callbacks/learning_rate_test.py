"""The learning rate in the logs: that of the last step of an epoch."""

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from fastbat_tf.training import callbacks, schedules
from fastbat_tf.training.callbacks.learning_rate import last_rate

NEXT, LAST = 34, 33  # Numbers of steps, counted from 0.


class Counting(keras.optimizers.schedules.LearningRateSchedule):
    """The rate of step number n, counted from 1, is n / 1024."""

    def __call__(self, step):
        return (tf.cast(step, tf.float32) + 1) / 1024


class LearningRateTest(parameterized.TestCase):
    def rates(self, optimizer, *others, **settings):
        """The column of 2 epochs of 4 steps of a plain model."""
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(optimizer, "mse", **settings)
        return model.fit(
            np.ones((8, 2)),
            np.ones((8, 1)),
            epochs=2,
            batch_size=2,
            verbose=0,
            callbacks=[callbacks.LearningRate(), *others],
        ).history["learning_rate"]

    @parameterized.parameters(
        ({}, {}),
        ({}, {"steps_per_execution": 3}),
        ({"gradient_accumulation_steps": 2}, {}),
    )
    def test_of_a_schedule(self, settings, compilation):
        optimizer = keras.optimizers.SGD(Counting(), **settings)
        self.assertEqual(
            self.rates(optimizer, **compilation), [4 / 1024, 8 / 1024]
        )

    def test_is_changed_for_the_next_epoch(self):
        def lower(epoch, logs):
            optimizer.learning_rate = 0.05

        optimizer = keras.optimizers.SGD(0.1)
        others = keras.callbacks.LambdaCallback(on_epoch_end=lower)
        self.assertEqual(self.rates(optimizer, others), [0.1, 0.05])

    @parameterized.parameters(0, 1, 5)
    def test_of_scaled_losses(self, updates):
        """Steps that are skipped for their scale have no rate."""
        inner = keras.optimizers.SGD(Counting())
        optimizer = keras.optimizers.LossScaleOptimizer(inner)
        optimizer.build([keras.Variable([0.0])])
        inner._iterations.assign(updates)
        self.assertEqual(last_rate(optimizer), max(updates, 1) / 1024)

    @parameterized.parameters(*schedules.SCHEDULES)
    def test_of_the_schedules_of_a_run(self, name):
        schedule = schedules.get(name, 0.3, epochs=5, steps_per_epoch=7)
        optimizer = keras.optimizers.SGD(schedule)
        optimizer.build([keras.Variable([0.0])])
        optimizer._iterations.assign(NEXT)
        rate = np.float32(schedule(tf.constant(LAST)))
        self.assertEqual(np.float32(last_rate(optimizer)), rate)

    def test_of_a_function(self):
        optimizer = keras.optimizers.SGD(lambda: 0.1)
        self.assertEqual(last_rate(optimizer), 0.1)


if __name__ == "__main__":
    absltest.main()
