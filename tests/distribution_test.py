"""The devices of a training, and its peak memory."""

import pathlib
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import absltest

from fastbat_tf import cluster, distribution
from fastbat_tf.errors import InputError, WorkerLostError
from tests.support import many_workers, testing


class StrategyTest(absltest.TestCase):
    def test_one_device(self):
        for name in ("none", "auto"):
            strategy = distribution.get_strategy(name)
            self.assertEqual(strategy.num_replicas_in_sync, 1)
        with testing.two_cpu_strategy().scope():
            inside = distribution.get_strategy("none")
        self.assertIs(inside, testing.two_cpu_strategy())
        outside = distribution.get_strategy("none")
        self.assertEqual(outside.num_replicas_in_sync, 1)

    def test_mirrored_is_made_once(self):
        made = mock.Mock(side_effect=lambda devices: object())
        with mock.patch.object(tf.distribute, "MirroredStrategy", made):
            first = distribution.get_strategy("mirrored")
            self.assertIs(distribution.get_strategy("mirrored"), first)
        made.assert_called_once()
        distribution._mirrored.cache_clear()


class ManyWorkersTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(distribution._multi_worker.cache_clear)
        self.made = mock.Mock(side_effect=lambda resolver: [resolver])
        for patched in (
            mock.patch.object(
                tf.distribute, "MultiWorkerMirroredStrategy", self.made
            ),
            mock.patch.object(distribution, "_watch_workers"),
            mock.patch.object(distribution.cluster, "wait_for_all"),
        ):
            self.wait = self.enterContext(patched)

    def test_tf_config_is_made_once(self):
        config = many_workers.tf_config(1, [21, 22])
        with mock.patch.dict("os.environ", {"TF_CONFIG": config}):
            (found,) = made = distribution.get_strategy("auto", 7)
            again = distribution.get_strategy("multiworker", 7)
            task = found.task_type, found.task_id
        self.assertIs(made, again)
        self.made.assert_called_once()
        self.assertEqual(task, ("worker", 1))
        described = cluster.Cluster("TF_CONFIG", 2, 1)
        self.wait.assert_called_once_with("127.0.0.1:21", described, 7)

    def test_slurm(self):
        step = {
            "SLURM_JOB_ID": "70003",
            "SLURM_PROCID": "2",
            "SLURM_STEP_NUM_TASKS": "3",
            "SLURM_STEP_NODELIST": "node[07-08]",
            "SLURM_STEP_TASKS_PER_NODE": "2,1",
        }
        with mock.patch.dict("os.environ", step):
            (found,) = distribution.get_strategy("auto", 7)
        self.assertEqual((found.task_type, found.task_id), ("worker", 2))
        self.assertEqual(
            found.cluster_spec().as_dict(),
            {"worker": ["node07:15003", "node07:15004", "node08:15003"]},
        )
        self.assertEqual(found.num_accelerators()["GPU"], 0)
        with (
            mock.patch.dict("os.environ", step | {"SLURM_PROCID": "1"}),
            self.assertRaisesRegex(InputError, "Slurm.*: .*3 tasks but only 2"),
        ):
            distribution.os.environ["SLURM_STEP_TASKS_PER_NODE"] = "1,1"
            distribution.get_strategy("auto", 7)

    def test_slurm_numbers_hosts_in_its_own_order(self):
        step = {
            "SLURM_PROCID": "1",
            "SLURM_STEP_NUM_TASKS": "2",
            "SLURM_STEP_NODELIST": "gpu[9-10]",
            "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
            "SLURMD_NODENAME": "gpu10",
        }
        with mock.patch.dict("os.environ", step):
            (found,) = distribution.get_strategy("auto", 7)
        addresses = found.cluster_spec().job_tasks("worker")
        self.assertEqual(addresses, ["gpu9:15000", "gpu10:15000"])
        wrong = step | {"SLURMD_NODENAME": "gpu9"}
        distribution._multi_worker.cache_clear()
        with (
            mock.patch.dict("os.environ", wrong),
            self.assertRaisesRegex(InputError, "task 1 on gpu10.*NAME=gpu9$"),
        ):
            distribution.get_strategy("auto", 7)

    def test_tensorflow_does_not_start(self):
        config = many_workers.tf_config(1, [21, 22])
        for error, expected, message in (
            (tf.errors.DeadlineExceededError, WorkerLostError, "2 workers"),
            (tf.errors.UnknownError, InputError, "127.0.0.1:22 "),
        ):
            self.made.side_effect = error(None, None, "said\nmore")
            with (
                mock.patch.dict("os.environ", {"TF_CONFIG": config}),
                self.assertRaisesRegex(expected, f"{message}.*said"),
            ):
                distribution.get_strategy("auto", 7)

    def test_no_workers_and_no_tpu(self):
        with self.assertRaisesRegex(InputError, "strategy=multiworker expects"):
            distribution.get_strategy("multiworker")
        with self.assertRaisesRegex(
            InputError, "expects a TPU.* Received: Please provide a TPU Name"
        ):
            distribution.get_strategy("tpu")


class ResolveJitCompileTest(absltest.TestCase):
    def test_layers_that_xla_cannot_compile(self):
        plain = keras.layers.Dense(2, name="plain")
        gpu = mock.patch.object(
            tf.config, "list_physical_devices", lambda kind: [kind]
        )
        for layer in (keras.layers.RandomZoom(0.1), keras.layers.MixUp()):
            layers = [plain, layer]
            self.assertFalse(distribution.resolve_jit_compile(False, layers))
            with gpu:
                self.assertFalse(
                    distribution.resolve_jit_compile("auto", layers)
                )
            with self.assertRaisesRegex(
                InputError, f"layers={layer.name} .{type(layer).__name__}.$"
            ):
                distribution.resolve_jit_compile(True, layers)
        self.assertTrue(distribution.resolve_jit_compile(True, [plain]))
        with gpu:
            self.assertTrue(distribution.resolve_jit_compile("auto", [plain]))


class PeakMemoryTest(absltest.TestCase):
    def test_rises(self):
        before = distribution.peak_gigabytes()
        block = np.ones((2**30 // 8,))  # One gigabyte.
        self.assertGreater(distribution.peak_gigabytes(), 1)
        del block
        self.assertGreaterEqual(distribution.peak_gigabytes(), before)

    def test_where_the_system_does_not_say(self):
        with mock.patch.object(
            pathlib.Path, "read_text", return_value="Name: python\n"
        ):
            self.assertIsNone(distribution.peak_gigabytes())
        with mock.patch.object(pathlib.Path, "exists", return_value=False):
            self.assertIsNone(distribution.peak_gigabytes())


if __name__ == "__main__":
    absltest.main()
