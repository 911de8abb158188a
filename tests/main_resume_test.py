"""Interrupted runs, from the command line."""

import csv
import json
import pathlib
import resource
import signal
import subprocess
import sys
import time

import pytest
from absl.testing import absltest

from tests.support.command_line import (
    NARROW,
    TOP,
    CommandLineTest,
    main,
    user_environment,
)

# Validation and measurement take a while with these.
LONG = (
    *NARROW,
    "--method=fastat",
    "--epochs=1",
    "--save_every=1",
    "--validation_attack=pgd-3000-1",
    "--attacks=pgd-3000-1",
    "--evaluation_batch_size=4",
)


@pytest.mark.slow  # Killed many times.
class ResumeTest(CommandLineTest):
    def start(self, *flags):
        """Starts a process whose output goes to `log`."""
        self.log = self.directory / f"log{time.monotonic()}.txt"
        process = subprocess.Popen(
            [sys.executable, "main.py", *flags, f"--run_dir={self.run_dir}"],
            cwd=TOP,
            env=user_environment(),
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def wait(self, process, condition):
        for _ in range(2000):
            if condition():
                return
            self.assertIsNone(process.poll(), self.log.read_text())
            time.sleep(0.05)
        self.fail(f"Waited in vain: {self.log.read_text()}")

    def wait_for(self, process, name):
        path = self.run_dir / name
        self.wait(process, path.exists)

    def terminate(self, process):
        """SIGTERM ends it in time, without errors, with status 143."""
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(timeout=30), 143, self.log.read_text())
        output = self.log.read_text()
        self.assertNotIn("Traceback", output)
        line = "Ended by SIGTERM; run the same command to resume."
        self.assertEqual(output.splitlines()[-1], line)

    def resume_point(self):
        """Epochs and steps of the newest checkpoint."""
        newest = max(self.run_dir.glob("backup/*"))
        self.assertNotEqual(newest.suffix, ".partial")
        state = json.loads((newest / "state.json").read_text())
        return state["epoch"], state["batch"]

    def test_terminated_in_validation_measurement_and_export(self):
        process = self.start(*LONG)
        self.wait_for(process, "backup/000003")
        # It is in the fourth and last step, or in the validation.
        time.sleep(0.3)
        self.terminate(process)
        self.assertEqual(self.resume_point(), (0, 4))
        self.assertEqual((self.run_dir / "history.csv").read_text(), "")

        process = self.start(*LONG)
        self.wait_for(process, "evaluations/training/state/clean.npz")
        time.sleep(0.3)
        self.terminate(process)
        text = self.log.read_text()
        self.assertIn("Resuming: 0 epochs and 4 steps are done.", text)
        self.assertEqual(self.resume_point(), (1, 0))
        self.assertFalse((self.run_dir / "results.json").exists())

        process = self.start(*LONG)
        self.wait_for(process, "results.json")
        self.terminate(process)
        text = self.log.read_text()
        self.assertIn("Resuming: 1 epochs and 0 steps are done.", text)
        self.assertFalse((self.run_dir / "saved_model").exists())

        # As if it had been killed during the export.
        left_over = self.run_dir / "saved_model.partial" / "assets"
        left_over.mkdir(parents=True, exist_ok=True)
        (left_over / "left over").touch()
        command = (*LONG, "--resume=must", f"--run_dir={self.run_dir}")
        process = main(*command, "--verbosity=-1")
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertNotIn("Traceback", process.stderr)
        lines = process.stdout.splitlines()
        # Only the table.
        self.assertEqual(lines[0], "method: fastat")
        self.assertRegex(lines[1], r"^attack +epsilon +accuracy")
        self.assertStartsWith(lines[4], "40 examples, ")
        self.assertNotIn(str(self.run_dir), process.stdout)
        with (self.run_dir / "history.csv").open() as file:
            self.assertLen(list(csv.DictReader(file)), 1)
        with (self.run_dir / "timing.csv").open() as file:
            (row,) = csv.DictReader(file)
        results = json.loads((self.run_dir / "results.json").read_text())
        self.assertAlmostEqual(
            results["training_seconds"], float(row["seconds"]), 1
        )
        self.assertEmpty(list(self.run_dir.rglob("left over")))
        self.assertEmpty(list(self.run_dir.rglob("*partial*")))

        # Once more: nothing is left to do.
        before = self.content()
        again = main(*command)
        self.assertEqual(again.returncode, 0, again.stderr)
        self.assertEqual(
            again.stdout,
            process.stdout + f"This run is finished: {self.run_dir}\n",
        )
        self.assertEqual(self.content(), before)

    def content(self):
        return {
            path: path.read_bytes()
            for path in self.run_dir.rglob("*")
            if path.is_file()
        }

    def test_terminated_in_training_with_another_process_beside_it(self):
        flags = (*NARROW, "--epochs=500", "--method=fastat")
        process = self.start(*flags)
        self.wait_for(process, "backup/000001")  # An epoch has ended.
        command = (*flags, f"--run_dir={self.run_dir}")
        self.assert_refused(
            main(*command),
            "Another process is working on this run; expected one at a time. "
            f"Received: run_dir={self.run_dir}$",
        )
        self.terminate(process)
        epochs, steps = self.resume_point()
        self.assertGreaterEqual(epochs, 1)
        rows = (self.run_dir / "history.csv").read_text().splitlines()
        self.assertLen(rows, 1 + epochs)

        process = self.start(*flags)
        expected = f"Resuming: {epochs} epochs and {steps} steps are done.\n"
        self.wait(process, lambda: expected in self.log.read_text())
        self.wait(
            process, lambda: f"epoch {epochs + 1}/500" in self.log.read_text()
        )
        process.kill()
        process.wait()

        config = self.run_dir / "config.json"
        text = config.read_text()
        self.assertIn('"epochs": 500', text)
        config.write_text(text.replace('"epochs": 500', '"epochs": 501'))
        self.assert_refused(
            main(*command),
            r"holds a different run already \(epochs=501\); expected a new "
            f"directory. Received: run_dir={self.run_dir}$",
        )

    def test_must_go_on_with_nothing(self):
        process = main(*NARROW, "--resume=must", f"--run_dir={self.run_dir}")
        self.assert_refused(
            process, f"there is no such run;.* run_dir={self.run_dir}$"
        )
        self.assert_nothing_written()


@pytest.mark.slow
class FullDiskTest(CommandLineTest):
    def mount(self, options):
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.disk],
            check=True,
            capture_output=True,
        )

    def test_files_that_may_not_grow(self):
        """A limit on file sizes stands in for a full disk."""
        flags = (*NARROW, "--method=fastat", f"--run_dir={self.run_dir}")
        # First a checkpoint is too large, then an epoch's weights.
        for kilobytes, message in ((50, "saved"), (200, "written")):
            process = main(
                *flags,
                limit=lambda size=1024 * kilobytes: resource.setrlimit(
                    resource.RLIMIT_FSIZE, (size, size)
                ),
            )
            self.assertEqual(process.returncode, 2, process.stderr)
            self.assertNotIn("Traceback", process.stderr)
            self.assertRegex(
                process.stderr.splitlines()[-1],
                f"^error: The run cannot be {message}; check free space and "
                "permissions.*File too large",
            )
            self.assertEmpty(list(self.run_dir.glob("backup/*.partial")))
        process = main(*flags)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertIn("Resuming: 0 epochs and 0 steps", process.stdout)

    def test_full_then_read_only_then_large_enough(self):
        self.disk = self.directory / "disk"
        self.disk.mkdir()
        try:
            self.mount("size=1500k")
        except (OSError, subprocess.CalledProcessError):
            self.skipTest("No file system can be mounted here.")
        self.addCleanup(subprocess.run, ["umount", self.disk], check=True)
        run_dir = self.disk / "run"
        flags = (*NARROW, "--method=fastat", f"--run_dir={run_dir}")
        process = main(*flags)
        self.assertEqual(process.returncode, 2, process.stderr)
        self.assertNotIn("Traceback", process.stderr)
        self.assertRegex(
            process.stderr.splitlines()[-1],
            "^error: The run cannot be (written|saved); check free space and "
            r"permissions.*No space left on device",
        )
        self.assertEmpty(list(run_dir.glob("backup/*.partial")))

        self.mount("remount,ro")
        self.assert_refused(
            main(*flags),
            f"writable directory. Received: run_dir={run_dir}$",
        )

        self.mount("remount,rw,size=20m")
        process = main(*flags)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertIn("Resuming: ", process.stdout)
        rows = pathlib.Path(run_dir, "history.csv").read_text().splitlines()
        self.assertLen(rows, 3)


if __name__ == "__main__":
    absltest.main()
