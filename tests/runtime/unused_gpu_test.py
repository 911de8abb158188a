"""The line about a GPU that TensorFlow cannot use."""

import os
import pathlib
import sys
import tempfile
from unittest import mock

import pytest
import tensorflow as tf
from absl.testing import absltest, parameterized

from fastbat_tf import distribution
from fastbat_tf.methods.standard import Standard
from fastbat_tf.runtime import environment, hints, unused_gpu
from fastbat_tf.training.classifier import RobustClassifier
from tests.support import testing
from tests.support.command_line import TINY, CommandLineTest
from tests.support.command_line import main as run_main

DRIVER = """\
NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Thu Feb  1 01:01:01 UTC 2024
GCC version:  gcc version 12.2.0
"""
# As TensorFlow 2.21 prints it.
LOG = """\
I0000 00:00:1795.214642 11364 cudart_stub.cc:31] Could not find cuda drivers.
W0000 00:00:1795.378000 11364 cpu_guard.cc:10] Something else.
E0000 00:00:1795.379381 11364 cuda_platform.cc:52] failed call to cuInit: \
INTERNAL: CUDA error: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)
I0000 00:00:1795.379400 11364 cuda_diagnostics.cc:10] hostname: here
"""


class ReasonTest(parameterized.TestCase):
    """Each test simulates a machine."""

    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.directory = pathlib.Path(directory)
        (self.directory / "nvidia0").touch()
        self.driver = self.directory / "version"
        for owner, name, value in (
            (environment, "DRIVER_FILE", self.driver),
            (environment, "DEVICES", self.directory),
            (environment, "_count_gpus", lambda: 0),
            (environment, "_messages", []),
            (environment.shutil, "which", lambda name: None),
            (unused_gpu, "_is_installed", lambda library: True),
            (tf.test, "is_built_with_cuda", lambda: True),
        ):
            self.enterContext(mock.patch.object(owner, name, value))
        self.enterContext(mock.patch.dict(os.environ))
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)

    def assert_says(self, pattern):
        line = unused_gpu.explain()
        self.assertNotIn("\n", line)
        self.assertRegex(
            line, "^TensorFlow cannot use the NVIDIA GPU .*" + pattern
        )

    def test_no_gpu(self):
        self.assertIsNone(unused_gpu.explain())

    @parameterized.parameters("file", "program", "library")
    def test_signs_of_a_gpu(self, sign):
        if sign == "file":
            self.driver.write_text(DRIVER.format("550.54.15"))
        elif sign == "program":
            environment.shutil.which = lambda name: f"/usr/bin/{name}"
        else:
            environment._count_gpus = lambda: 1
        self.assert_says("gives no reason.* TF_CPP_MIN_LOG_LEVEL=0")

    def test_tensorflow_without_cuda(self):
        self.driver.write_text(DRIVER.format("550.54.15"))
        tf.test.is_built_with_cuda = lambda: False
        with mock.patch.object(sys, "platform", "linux"):
            self.assert_says(
                r'built without CUDA\. .*pip install "tensorflow\[and-cuda\]"'
            )
        with mock.patch.object(sys, "platform", "win32"):
            self.assert_says("built without CUDA.* WSL2")

    def test_missing_libraries(self):
        self.driver.write_text(DRIVER.format("550.54.15"))
        unused_gpu._is_installed = lambda library: "cudnn" not in library
        self.assert_says(
            r"libraries are missing \(libcudnn.so.9\)\. .*\[and-cuda\]"
        )

    @parameterized.parameters("470.57.02", "390.157")
    def test_an_old_driver(self, version):
        self.driver.write_text(DRIVER.format(version))
        self.assert_says(f"{version} is too old.* 525 or newer")

    def test_open_kernel_modules(self):
        self.driver.write_text(
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  "
            "515.43.04  Release Build\n"
        )
        self.assert_says("515.43.04 is too old")

    def test_a_container_without_its_gpu(self):
        self.driver.write_text(DRIVER.format("550.54.15"))
        (self.directory / "nvidia0").unlink()
        self.assert_says("no device file.* --gpus=all")

    def test_what_tensorflow_said(self):
        self.driver.write_text(DRIVER.format("550.54.15"))
        environment._messages.append(LOG)
        self.assert_says(
            "failed call to cuInit: INTERNAL: CUDA error: "
            r"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH \(803\)\. .*restart"
        )

    @parameterized.parameters(("",), ("-1",), ("-1,0",))
    def test_hidden_by_the_user(self, value):
        self.driver.write_text(DRIVER.format("550.54.15"))
        os.environ["CUDA_VISIBLE_DEVICES"] = value
        self.assertIsNone(unused_gpu.explain())

    def test_a_gpu_that_is_chosen_is_not_hidden(self):
        self.driver.write_text(DRIVER.format("550.54.15"))
        os.environ["CUDA_VISIBLE_DEVICES"] = "0"
        self.assertIsNotNone(unused_gpu.explain())

    def test_the_library_warns_once(self):
        self.driver.write_text(DRIVER.format("470.57.02"))
        robust = RobustClassifier(testing.small_network(), Standard())
        with (
            mock.patch.object(distribution, "has_accelerator", lambda: False),
            mock.patch.object(hints, "_given", set()),
        ):
            with self.assertWarnsRegex(UserWarning, "470.57.02 is too old"):
                robust.compile()
            self.assertEqual(hints.new_hints(), [])

    def test_nothing_where_there_is_an_accelerator(self):
        self.driver.write_text(DRIVER.format("470.57.02"))
        with mock.patch.object(distribution, "has_accelerator", lambda: True):
            self.assertEqual(hints.new_hints(), [])


class LibrariesTest(absltest.TestCase):
    def test_where_they_are_looked_for(self):
        self.assertTrue(unused_gpu._is_installed("libc.so.6"))
        self.assertFalse(unused_gpu._is_installed("libabsent.so.9"))
        with tempfile.TemporaryDirectory() as directory:
            packages = pathlib.Path(directory)
            libraries = packages / "nvidia" / "absent" / "lib"
            libraries.mkdir(parents=True)
            (libraries / "libabsent.so.9").touch()
            with mock.patch.object(
                tf, "__file__", str(packages / "tensorflow" / "__init__.py")
            ):
                self.assertTrue(unused_gpu._is_installed("libabsent.so.9"))


class SilentStartTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        self.enterContext(mock.patch.dict(os.environ))
        os.environ.pop("TF_CPP_MIN_LOG_LEVEL", None)
        self.enterContext(mock.patch.object(environment, "_messages", []))

    def test_it_is_held_back_and_kept(self):
        with tempfile.TemporaryFile() as file:
            stderr = os.dup(2)
            os.dup2(file.fileno(), 2)
            try:
                with environment.silent_start():
                    os.write(2, b"held back\n")
                os.write(2, b"written\n")
            finally:
                os.dup2(stderr, 2)
                os.close(stderr)
            file.seek(0)
            self.assertEqual(file.read(), b"written\n")
        self.assertEqual(environment.start_messages(), "held back\n")

    def test_without_room_on_the_disk(self):
        with mock.patch.object(
            tempfile, "TemporaryFile", side_effect=FileNotFoundError
        ):
            with environment.silent_start():
                os.write(2, b"not to be seen\n")
        self.assertEqual(environment.start_messages(), "")


@pytest.mark.slow
class ProgramTest(CommandLineTest):
    def test_training_and_evaluation_say_it(self):
        if tf.config.list_physical_devices("GPU"):
            self.skipTest("There is a GPU that TensorFlow uses.")
        programs = self.directory / "bin"
        programs.mkdir()
        (programs / "nvidia-smi").symlink_to("/bin/true")
        path = {"PATH": f"{programs}:{os.environ['PATH']}"}
        line = "TensorFlow cannot use the NVIDIA GPU of this machine: "
        process = run_main(
            *TINY, "--epochs=1", f"--run_dir={self.run_dir}", **path
        )
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(process.stdout.count(line), 1)
        self.assertNotIn(line, process.stderr)
        self.assertIn(
            "XLA: off (the default on CPUs: docs/xla.md).", process.stdout
        )
        evaluate = (
            "--mode=evaluate",
            f"--run_dir={self.run_dir}",
            "--attacks=fgsm",
            "--max_examples=10",
        )
        process = run_main(*evaluate, **path)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(process.stdout.count(line), 1)
        process = run_main(*evaluate, CUDA_VISIBLE_DEVICES="-1", **path)
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertNotIn(line, process.stdout + process.stderr)


if __name__ == "__main__":
    absltest.main()
