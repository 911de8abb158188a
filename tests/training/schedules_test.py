"""Learning-rate schedules against closed forms and PyTorch's numbers."""

import math

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.training import schedules
from fastbat_tf.training.options import SCHEDULES

STEPS = 12  # Per epoch.

# From PyTorch 2.14's OneCycleLR(max_lr=0.1): rates of steps.
ONECYCLE = (
    ("one", 1, {0: 4e-07}),
    ("two", 2, {0: 0.0811745654, 1: 4e-07}),
    ("four", 4, {0: 0.004, 1: 0.0811745654, 2: 0.0283060998, 3: 4e-07}),
    (
        "ten",
        10,
        {
            0: 0.004,
            1: 0.052,
            2: 0.1,
            3: 0.0950484632,
            4: 0.0811745654,
            5: 0.0611262022,
            6: 0.0388741978,
            7: 0.0188258346,
            8: 0.0049519368,
            9: 4e-07,
        },
    ),
    (
        "hundred",
        100,
        {
            0: 0.004,
            1: 0.00428137806,
            10: 0.0295163948,
            29: 0.1,
            30: 0.0999496535,
            50: 0.0793893451,
            98: 5.07464715e-05,
            99: 4e-07,
        },
    ),
)


def rates(name, peak=0.4, epochs=10, **options):
    """Returns the learning rates of all steps."""
    schedule = schedules.get(name, peak, epochs, STEPS, **options)
    return np.array([float(schedule(t)) for t in range(epochs * STEPS)])


class ClosedFormTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(
        ("cyclic", lambda s: 0.4 * (1 - abs(2 * s - 1))),
        (
            "piecewise",
            lambda s: np.interp(s, [0, 0.4, 0.8, 1], [0, 0.4, 0.02, 0]),
        ),
        ("cosine", lambda s: 0.2 * (1 + math.cos(math.pi * s))),
        ("quadratic", lambda s: 0.4 * (1 - s) ** 2),
        ("constant", lambda s: 0.4),
        (
            "multistep",
            lambda s: 0.4 if s < 0.5 else 0.04 if s < 0.75 else 0.004,
        ),
    )
    def test_of_the_share(self, name, formula):
        expected = [formula(t / 120) for t in range(120)]
        self.assertAllClose(rates(name), expected, 1e-5, 1e-7)

    def test_documented_points(self):
        self.assertAllClose(
            rates("cyclic")[[0, 30, 60, 90]], [0, 0.2, 0.4, 0.2]
        )
        self.assertAllClose(
            rates("piecewise")[[0, 24, 48, 72, 96, 108]],
            [0, 0.2, 0.4, 0.21, 0.02, 0.01],
        )
        self.assertAllClose(rates("cosine")[[0, 40, 60]], [0.4, 0.3, 0.2])
        self.assertAllClose(rates("quadratic")[[0, 60, 90]], [0.4, 0.1, 0.025])

    def test_milestones(self):
        found = rates("multistep", milestones=(0.07, 0.7), decay=0.5)
        # 0.07 * 120 = 8.4; 0.7 * 120 = 84.
        expected = np.repeat([0.4, 0.2, 0.1], [9, 75, 36])
        self.assertAllClose(found, expected)

    def test_a_milestone_is_the_first_step_with_the_new_rate(self):
        for epochs in (7, 30, 100, 200):
            schedule = schedules.multistep(1.0, epochs, (7 / epochs,), 0.1)
            self.assertAllClose(schedule(6), 1.0)
            self.assertAllClose(schedule(7), 0.1)

    @parameterized.parameters("onecycle", "multistep", "cosine", "quadratic")
    def test_per_epoch(self, name):
        found = rates(name, schedule_unit="epoch").reshape(10, STEPS)
        self.assertAllEqual(found, np.tile(found[:, :1], (1, STEPS)))
        steps = schedules.get(name, 0.4, 10, 1)
        self.assertAllClose(found[:, 0], [float(steps(e)) for e in range(10)])
        self.assertGreater(len(set(found[:, 0])), 2)

    @parameterized.parameters("cosine", "quadratic", "constant")
    def test_warmup_comes_first(self, name):
        found = rates(name, warmup_epochs=2)
        self.assertAllClose(found[:24], 0.4 * np.arange(1, 25) / 24)
        self.assertAllClose(found[24:], rates(name, epochs=8))

    def test_warmup_and_milestones(self):
        found = rates("multistep", warmup_epochs=2, milestones=(0.5, 0.7))
        self.assertAllClose(found[:24], 0.4 * np.arange(1, 25) / 24)
        self.assertAllClose(
            found[24:], np.repeat([0.4, 0.04, 0.004], [36, 24, 36])
        )

    def test_warmup_per_epoch(self):
        found = rates("cosine", warmup_epochs=4, schedule_unit="epoch")
        found = found.reshape(10, STEPS)[:, 0]
        self.assertAllClose(found[:5], [0.1, 0.2, 0.3, 0.4, 0.4])
        self.assertAllClose(found[7], 0.2)  # Half of the six epochs after it.


class OneCycleTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.named_parameters(*ONECYCLE)
    def test_numbers_of_pytorch(self, total, recorded):
        schedule = schedules.OneCycle(0.1, total)
        found = {step: float(schedule(step)) for step in recorded}
        self.assertAllClose(found, recorded, 1e-5, 1e-9)

    def test_per_epoch(self):
        """As in the FastAT Benchmark: 100 epochs, a step after each."""
        schedule = schedules.get(
            "onecycle", 0.1, 100, 390, schedule_unit="epoch"
        )
        for step, rate in ((0, 0.004), (389, 0.004), (29 * 390, 0.1)):
            self.assertAllClose(schedule(step), rate)
        self.assertAllClose(schedule(390 * 100 - 1), 4e-7, 1e-5, 1e-12)


class SerializationTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.parameters(*SCHEDULES)
    def test_round_trip_with_an_optimizer(self, name):
        options = {}
        if "warmup_epochs" in SCHEDULES[name]:
            options["warmup_epochs"] = 2
        if "schedule_unit" in SCHEDULES[name]:
            options["schedule_unit"] = "epoch"
        optimizer = keras.optimizers.SGD(
            schedules.get(name, 0.4, 10, STEPS, **options)
        )
        config = keras.saving.serialize_keras_object(optimizer)
        again = keras.saving.deserialize_keras_object(config)
        again.build([keras.Variable(0.0)])
        for step in (0, 13, 50, 119):
            again.iterations.assign(step)
            optimizer.iterations.assign(step)
            self.assertAllEqual(again.learning_rate, optimizer.learning_rate)

    @parameterized.parameters(*SCHEDULES)
    def test_in_a_graph(self, name):
        schedule = schedules.get(name, 0.4, 10, STEPS)
        compute = tf.function(schedule, jit_compile=True)
        for step in (0, 13, 119):
            self.assertAllClose(
                compute(tf.constant(step, tf.int64)), schedule(step), 1e-5
            )


if __name__ == "__main__":
    tf.test.main()
