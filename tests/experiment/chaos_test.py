"""Killed runs end with the same bits, and differences are found."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import pytest
from absl.testing import absltest

from tests.support import chaos

TOP = pathlib.Path(__file__).absolute().parents[2]


def run_chaos(directory, *flags):
    return subprocess.run(
        [sys.executable, "-m", "tests.support.chaos", *flags, directory],
        cwd=TOP,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
        timeout=1800,
    )


@pytest.mark.slow
class ChaosTest(absltest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = cls.enterClassContext(tempfile.TemporaryDirectory())
        cls.directory = pathlib.Path(directory, "runs")
        cls.process = run_chaos(cls.directory, "--kills=3", "--epochs=2")

    def test_three_kills(self):
        output = self.process.stdout
        self.assertEqual(self.process.returncode, 0, output)
        self.assertIn("3 kills, ", output)
        self.assertRegex(
            output, r"killed after \d.* s: status 0, the same bits"
        )
        found = chaos.differences(self.directory / "killed0", self.reference)
        self.assertEqual(found, [])

    def test_last_words(self):
        steps = chaos.resume_line(self.reference)
        self.assertEqual(steps, "Resuming: 2 epochs and 0 steps")
        self.assertEqual(chaos.resume_line(self.directory), "Running on")

    @property
    def reference(self):
        return self.directory / "reference"

    def check_seen(self, name, change):
        """Changes a file of a run; that is found as the only difference."""
        scratch = self.enterContext(tempfile.TemporaryDirectory())
        run_dir = shutil.copytree(self.reference, pathlib.Path(scratch, "run"))
        self.assertEqual(chaos.differences(run_dir, self.reference), [])
        change(max(run_dir.glob(name)))
        (found,) = chaos.differences(run_dir, self.reference)
        return found

    def test_a_bit_of_a_weight(self):
        def change(path):
            arrays = []
            with h5py.File(path, "r+") as file:
                file.visititems(lambda _, item: arrays.append(item))
                array = [a for a in arrays if isinstance(a, h5py.Dataset)][-1]
                array[...] = array[...] + 1

        for kind in ("best", "last"):
            name = f"checkpoints/{kind}.weights.h5"
            self.assertStartsWith(self.check_seen(name, change), name)

    def test_a_bit_of_any_variable(self):
        def change(path):
            with np.load(path) as file:
                arrays = [file[name] for name in file.files]
            arrays[self.index].reshape(-1).view(np.uint8)[0] ^= 1
            np.savez(path, *arrays)

        for self.index in (0, 40, -1):
            found = self.check_seen("backup/*/variables.npz", change)
            self.assertIn("variables.npz: arr_", found)

    def test_text(self):
        for name, old, new in (
            ("history.csv", "\n1,", "\n2,"),
            ("timing.csv", "\n1,", "\n1,0,0\n1,"),
            ("config.json", '"seed": 37', '"seed": 38'),
            ("results.json", '"examples": 50', '"examples": 51'),
        ):
            with self.subTest(name):

                def change(path, old=old, new=new):
                    text = path.read_text()
                    self.assertIn(old, text)
                    path.write_text(text.replace(old, new, 1))

                self.assertEqual(self.check_seen(name, change), name)

    def test_exported_variables(self):
        def change(path):
            content = bytearray(path.read_bytes())
            content[100] ^= 1
            path.write_bytes(content)

        name = "saved_model/variables/variables.data-00000-of-00001"
        self.assertEqual(self.check_seen(name, change), name)

    def test_curves(self):
        def twice(path):
            shutil.copy(path, path.with_name(path.name + ".again"))

        for change in (twice, lambda path: path.unlink()):
            for kind in ("train", "validation"):
                found = self.check_seen(f"tensorboard/{kind}/events*", change)
                self.assertEqual(found, "tensorboard")

    def test_seconds_may_differ(self):
        content = {"seconds": 1, "rows": [{"x_seconds": 2, "seed": 3}]}
        self.assertEqual(
            chaos.without_seconds(content), {"rows": [{"seed": 3}]}
        )


@pytest.mark.slowest
class SlowChaosTest(absltest.TestCase):
    def check(self, *flags):
        scratch = self.enterContext(tempfile.TemporaryDirectory())
        process = run_chaos(pathlib.Path(scratch, "runs"), *flags)
        self.assertEqual(process.returncode, 0, process.stdout)
        self.assertNotEmpty(process.stdout)

    def test_twenty_kills(self):
        self.check("--kills=20")

    def test_averages_and_rollbacks(self):
        self.check(
            "--kills=5",
            "--weight_averaging=0.9",
            "--on_overfitting=rollback",
            "--overfitting_threshold=0.001",
            "--epsilon_ramp_epochs=1",
            # These settings raise alarms.
            "--method=fgsm",
            "--epsilon=16/255",
            "--width=4",
            "--batch_size=40",
            "--training_examples=400",
            "--validation_examples=200",
            "--learning_rate=0.05",
            "--seed=1",
        )


if __name__ == "__main__":
    absltest.main()
