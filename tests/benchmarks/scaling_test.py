"""Times replicas, which take turns."""

import json
import tempfile
from unittest import mock

import pytest
from absl.testing import absltest

from benchmarks import scaling


class MeasureTest(absltest.TestCase):
    def test_share_not_computation(self):
        self.assertAlmostEqual(scaling.share_not_computation(1.0, 0.8), 0.2)

    def test_replicas_take_turns(self):
        order = []

        class Server:
            def __init__(self, replicas, arguments):
                self.replicas = replicas
                assert "--method=pgd" in arguments, arguments

            def ask(self):
                order.append(self.replicas)
                return 0.3 * self.replicas, 0.2 * self.replicas**2

            def stop(self):
                order.append("stop")

        self.run_main(Server, "--replicas=1,2", "--rounds=2", "--method=pgd")
        # The first steps, and two rounds: a step against one, and against two.
        self.assertEqual(order[:2], [1, 2])
        self.assertEqual(order[2:-2], 2 * [1, 1, 1, 1, 2])
        self.assertEqual(order[-2:], ["stop", "stop"])
        one, two = self.rows
        self.assertEqual(one["share_not_computation"], 0)
        # 0.8 s of the CPU, of which two steps of 0.2 s are computation.
        self.assertAlmostEqual(two["share_not_computation"], 0.5)
        self.assertAlmostEqual(two["median_seconds"], 0.6)
        self.assertEqual(two["method"], "pgd")

    @pytest.mark.slow
    def test_processes(self):
        self.run_main(
            scaling.Server,
            "--replicas=1,2",
            "--rounds=2",
            "--width=2",
            "--batch_size=2",
        )
        self.assertEqual([row["replicas"] for row in self.rows], [1, 2])
        for row in self.rows:
            self.assertGreater(row["median_cpu_seconds"], 0)
            self.assertLess(row["share_not_computation"], 1)

    def run_main(self, server, *arguments):
        """Runs the command; the rows are what it writes as JSON."""
        with (
            tempfile.NamedTemporaryFile("r") as file,
            mock.patch.object(scaling, "Server", server),
        ):
            scaling.main([f"--json={file.name}", *arguments])
            self.rows = json.load(file)


if __name__ == "__main__":
    absltest.main()
