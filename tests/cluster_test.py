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
        threads = [self.start(index, seconds=0.5) for index in (0, 1)]
        for thread in threads:
            thread.join()
        self.assertRegex(
            self.ended[0], "3 workers.* `collective_timeout`.* workers=2$"
        )
        self.assertRegex(self.ended[1], "3 workers.*missing workers=0, or")


if __name__ == "__main__":
    absltest.main()
