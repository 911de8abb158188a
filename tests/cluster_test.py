"""Which workers the environment describes, and how they wait for each other."""

import json
import socket
import threading
import time

from absl.testing import absltest, parameterized

from fastbat_tf import cluster
from fastbat_tf.cluster import Cluster
from fastbat_tf.errors import InputError, WorkerLostError
from tests.support import many_workers

TWO = ["a:1", "b:2"]


def tf_config(jobs, kind="worker", index=0):
    task = {"type": kind, "index": index}
    return {"TF_CONFIG": json.dumps({"cluster": jobs, "task": task})}


class FindTest(parameterized.TestCase):
    def test_tf_config(self):
        found = cluster.find(tf_config({"worker": TWO}, index=1))
        self.assertEqual(found, Cluster("TF_CONFIG", 2, 1))
        jobs = {"chief": ["c:3"], "worker": TWO}
        found = cluster.find(tf_config(jobs, "chief"))
        self.assertEqual(found, Cluster("TF_CONFIG", 3, 0))
        found = cluster.find(tf_config(jobs, index="1"))
        self.assertEqual(found, Cluster("TF_CONFIG", 3, 2))

    def test_slurm(self):
        step = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}
        self.assertEqual(cluster.find(step), Cluster("Slurm", 4, 3))
        # An allocation of several tasks, of which none was started by srun.
        batch = {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}
        self.assertIsNone(cluster.find(batch))
        self.assertIsNone(cluster.find(step | {"SLURM_STEP_NUM_TASKS": "1"}))
        both = cluster.find(step | tf_config({"worker": TWO}))
        self.assertEqual(both.source, "TF_CONFIG")

    def test_no_cluster(self):
        for text in ("", " ", "{}", '{"cluster": {}}', '{"task": {}}'):
            self.assertIsNone(cluster.find({"TF_CONFIG": text}), text)

    @parameterized.parameters(
        ("{", "JSON.* Received: { .Expecting"),
        ("[1]", r"a JSON object.* Received: \[1\]$"),
        ('{"cluster": {"worker": ["a:1"]}}', '"task".* Received: task=None$'),
        ('{"cluster": [1], "task": {}}', r"jobs chief and worker.*=\[1\]$"),
    )
    def test_no_object(self, text, message):
        with self.assertRaisesRegex(InputError, f"TF_CONFIG is .*{message}"):
            cluster.find({"TF_CONFIG": text})

    @parameterized.parameters(
        ({"worker": TWO}, "worker", 2, r"index in \[0, 2\).*: index=2$"),
        ({"worker": TWO}, "worker", -1, "index=-1$"),
        ({"worker": TWO}, "worker", None, "index=None$"),
        ({"worker": TWO}, "chief", 0, r"type in .*\(worker\).*: type=chief$"),
        ({"worker": TWO, "ps": ["c:3"]}, "ps", 0, "jobs chief and worker"),
        ({"worker": "a:1"}, "worker", 0, "list of addresses.*: worker=a:1$"),
        ({"worker": []}, "worker", 0, "list of addresses"),
        ({"worker": ["a"]}, "worker", 0, "host:port.*: address=a$"),
        ({"worker": ["a:x"]}, "worker", 0, "host:port.*: address=a:x$"),
        ({"worker": ["a:99999"]}, "worker", 0, "host:port"),
        ({"worker": [7]}, "worker", 0, "host:port.*: address=7$"),
        ({"worker": ["a:1", "a:1"]}, "worker", 0, "different addresses"),
        ({"chief": TWO}, "chief", 0, "one chief at most"),
    )
    def test_wrong_cluster(self, jobs, kind, index, message):
        with self.assertRaisesRegex(InputError, message):
            cluster.find(tf_config(jobs, kind, index))


class CheckTest(absltest.TestCase):
    def test_of_one_process(self):
        for name in ("auto", "none", "mirrored", "tpu"):
            self.assertIsNone(cluster.check(name, {}))
            one = tf_config({"worker": ["a:1"]})
            self.assertIsNone(cluster.check(name, one))

    def test_of_several(self):
        two = tf_config({"worker": TWO})
        for name in ("auto", "multiworker"):
            self.assertEqual(cluster.check(name, two).count, 2)
        one = tf_config({"worker": ["a:1"]})
        self.assertEqual(cluster.check("multiworker", one).count, 1)

    def test_refusals(self):
        with self.assertRaisesRegex(
            InputError, "expects TF_CONFIG with a cluster, or .* srun .*set.$"
        ):
            cluster.check("multiworker", {})
        for name in ("none", "mirrored", "tpu"):
            with self.assertRaisesRegex(
                InputError, f"2 workers.* would train alone.*strategy={name}$"
            ):
                cluster.check(name, tf_config({"worker": TWO}))


class OneHostTest(absltest.TestCase):
    def check(self, gpus, **variables):
        addresses = ["a:1", "b:1", "b:2"]
        cluster.check_own_gpus(addresses, 1, gpus, variables)
        # A worker that is alone on its host takes all.
        cluster.check_own_gpus(addresses, 0, 8, {"SLURM_GPUS_ON_NODE": "8"})

    def test_gpus_of_their_own(self):
        self.check(4, SLURM_GPUS_ON_NODE="8")
        self.check(1, CUDA_VISIBLE_DEVICES="1")
        self.check(0)
        self.check(0, SLURM_GPUS_ON_NODE="8")

    def test_the_same_gpus(self):
        for variables in (
            {"SLURM_GPUS_ON_NODE": "8", "CUDA_VISIBLE_DEVICES": "0,1,2"},
            {},
        ):
            with self.assertRaisesRegex(
                InputError,
                "2 workers on b is .* --gpus-per-task or .*: 8 of 8 GPUs",
            ):
                self.check(8, **variables)

    def test_tasks_from_host_to_host(self):
        cluster.check_slurm_host("a:1", 1, {})
        cluster.check_slurm_host("a:1", 1, {"SLURMD_NODENAME": "a"})
        with self.assertRaisesRegex(
            InputError, "distribution=block: task 1 on a. Received: .*NAME=b$"
        ):
            cluster.check_slurm_host("a:1", 1, {"SLURMD_NODENAME": "b"})


class WaitTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        (port,) = many_workers.free_ports(1)
        self.address = f"127.0.0.1:{port}"
        self.port = port
        self.ended = {}

    def start(self, index, count=3, seconds=10):
        def wait():
            try:
                cluster.wait_for_all(
                    self.address, Cluster("TF_CONFIG", count, index), seconds
                )
            except WorkerLostError as error:
                self.ended[index] = str(error)
            else:
                self.ended[index] = None

        thread = threading.Thread(target=wait)
        thread.start()
        return thread

    def test_all_come(self):
        threads = [self.start(index) for index in (1, 0)]
        # Something else may look at the port, such as a health check.
        while not self.is_open():
            time.sleep(0.01)
        threads.append(self.start(2))
        for thread in threads:
            thread.join()
        self.assertEqual(self.ended, {0: None, 1: None, 2: None})
        with socket.create_server(("127.0.0.1", self.port)):
            pass  # The port is free for TensorFlow.

    def is_open(self):
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except OSError:
            return False
        return True

    def test_one_does_not_come(self):
        chief = self.start(0, seconds=1)
        while not self.is_open():
            time.sleep(0.01)
        for thread in (self.start(1, seconds=0.3), chief):
            thread.join()
        self.assertRegex(
            self.ended[0],
            "3 workers.* `collective_timeout`.* no sign of worker 2$",
        )
        self.assertRegex(
            self.ended[1],
            f"3 workers.* the chief at {self.address} waits for others$",
        )

    def test_the_chief_does_not_come(self):
        self.start(1, seconds=0.1).join()
        self.assertRegex(
            self.ended[1],
            f"Received: no answer from the chief at {self.address}$",
        )


if __name__ == "__main__":
    absltest.main()
