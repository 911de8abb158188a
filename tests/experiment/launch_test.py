"""Workers that differ are refused; errors about lost workers are recognized."""

import contextlib
import dataclasses

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized

from fastbat_tf import workers
from fastbat_tf.data.loading import Splits
from fastbat_tf.data.sources import Examples
from fastbat_tf.errors import InputError, WorkerLostError
from fastbat_tf.experiment import launch
from fastbat_tf.experiment.config import Config, DataConfig, RuntimeConfig
from tests.support import thread_workers


def examples(seed=0, count=4):
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, 2, 2, 3), dtype=np.uint8)
    return Examples(images, np.arange(count, dtype=np.int32))


class AgreeTest(absltest.TestCase):
    def test_versions(self):
        def agree(everyone):
            versions = {"keras": f"3.{everyone.index}", "numpy": "2"}
            everyone.agree("version", versions)

        for found in thread_workers.run(2, agree):
            self.assertRegex(
                str(found), "worker 1 has keras=3.1, and the chief keras=3.0"
            )

    def test_paths_and_intervals_may_differ(self):
        def agree(everyone):
            config = Config(
                data=DataConfig(data_dir=f"/{everyone.index}"),
                runtime=RuntimeConfig(),
            )
            launch.agree_on_program(everyone, config)

        self.assertEqual(thread_workers.run(2, agree), [None, None])

    def test_other_settings(self):
        def agree(everyone):
            config = Config()
            training = dataclasses.replace(config.training, seed=everyone.index)
            config = dataclasses.replace(config, training=training)
            launch.agree_on_program(everyone, config)

        for found in thread_workers.run(3, agree):
            self.assertIsInstance(found, InputError)
            self.assertRegex(str(found), "configuration; worker 1 has seed=1")

    def test_other_data(self):
        for theirs in (
            examples(seed=1),
            examples(count=3),
            examples()._replace(labels=np.zeros(4, np.int32)),
        ):

            def agree(everyone, theirs=theirs):
                second = theirs if everyone.index else examples()
                splits = Splits(examples(), second, examples())
                launch.agree_on_data(everyone, splits)

            for found in thread_workers.run(2, agree):
                self.assertIsInstance(found, InputError)
                self.assertRegex(
                    str(found),
                    "same data set; worker 1 has fingerprint of the "
                    "validation split=[0-9a-f]{16}, and the chief",
                )

    def test_the_same_data(self):
        def agree(everyone):
            splits = Splits(examples(), examples(1), examples(2))
            launch.agree_on_data(everyone, splits)

        self.assertEqual(thread_workers.run(2, agree), [None, None])


class RefuseLostTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.everyone = workers.Workers()
        self.everyone.count = 3

    @parameterized.parameters(
        (
            "Graph execution error:\n\nDetected at node x\nCollective ops is "
            "aborted by: Connection refused\nAdditional: "
            "/job:worker/replica:0/task:2 while",
            "worker 2: Connection refused",
        ),
        (
            "Collective ops is aborted by: The following tasks are unhealthy",
            "The following tasks are unhealthy",
        ),
    )
    def test_a_lost_worker(self, said, told):
        with self.assertRaisesRegex(
            WorkerLostError, f"all 3 until the end.* Received: {told}$"
        ):
            with launch.refuse_lost(self.everyone):
                raise tf.errors.UnavailableError(None, None, said)

    def test_all_leave_together(self):
        left = []
        self.everyone.part = lambda: left.append(True)
        with launch.refuse_lost(self.everyone):
            self.assertEqual(left, [])
        self.assertEqual(left, [True])
        with contextlib.suppress(InputError):
            with launch.refuse_lost(self.everyone):
                raise InputError("worker")
        self.assertEqual(left, [True])  # The others were told of an error.

    def test_other_errors(self):
        error = tf.errors.UnavailableError(None, None, "worker")
        one = workers.Workers()
        for everyone, other in (
            (one, error),
            (self.everyone, InputError("worker")),
            (self.everyone, tf.errors.UnavailableError(None, None, "disk")),
            (self.everyone, tf.errors.NotFoundError(None, None, "worker")),
        ):
            with self.assertRaises(type(other)) as raised:
                with launch.refuse_lost(everyone):
                    raise other
            self.assertIs(raised.exception, other)


if __name__ == "__main__":
    absltest.main()
