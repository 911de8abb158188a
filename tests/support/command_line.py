"""Helpers for tests of the command line."""

import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

from absl import logging
from absl.testing import flagsaver, parameterized

import flags
from fastbat_tf.experiment.config import Config
from flags import program

TOP = pathlib.Path(__file__).absolute().parents[2]

# A training of 8 steps of 100 images.
_SMALL = (
    "--dataset=cifar10_mini",
    "--validation_share=0.9",
    "--epochs=2",
    "--batch_size=100",
    "--validation_examples=40",
    "--max_examples=40",
    "--attacks=pgd-2-1",
    "--validation_attack=pgd-2-1",
)
# The default network with 2 channels, and all other defaults.
NARROW = (*_SMALL, "--width=2")
# A network of few layers takes half the time, most of it tracing.
TINY = (*_SMALL, "--model=wrn10_1", "--on_overfitting=off")


def user_environment():
    """The environment, without the variables that tests set."""
    inherited = {**os.environ}
    inherited.pop("TF_CPP_MIN_LOG_LEVEL", None)
    return inherited


def python(*arguments, limit=None, **environment):
    """Runs Python; the new process calls `limit` first."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=TOP,
        env={**user_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=limit,
    )


def main(*flags, limit=None, **environment):
    return python("main.py", *flags, limit=limit, **environment)


@flagsaver.flagsaver
def main_here(*arguments):
    """Runs the program in this process, which has imported TensorFlow already.

    This is for commands that are refused: what C++ prints is not captured.
    """
    stdout, stderr = io.StringIO(), io.StringIO()
    returncode, verbosity = 0, logging.get_verbosity()
    with (
        mock.patch.dict(os.environ),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        try:
            flags.parse(["main.py", *arguments])
            program.main(None)
        except SystemExit as end:
            returncode = end.code
        finally:
            logging.set_verbosity(verbosity)
    return subprocess.CompletedProcess(
        arguments, returncode, stdout.getvalue(), stderr.getvalue()
    )


class CommandLineTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.directory = pathlib.Path(directory)
        self.run_dir = self.directory / "run"

    def assert_refused(self, process, message):
        """Checks for status 2, and one line that says why."""
        self.assertEqual(process.returncode, 2, process.stderr)
        self.assertEqual(process.stdout, "")
        lines = process.stderr.splitlines()
        self.assertRegex(lines[-1], rf"^error: .*{message}")
        self.assertEqual(lines[:-1], [])

    def assert_nothing_written(self):
        self.assertEqual(list(self.directory.iterdir()), [])

    def command(self, *flags):
        """Returns mode, run directory and `Config`; sets the others."""
        program = (
            "import dataclasses, json, sys, flags\n"
            "flags.parse(['main.py', *sys.argv[1:]])\n"
            "command = flags.get_command()\n"
            "assert 'tensorflow' not in sys.modules\n"
            "groups = command.config and command.config.to_dict()\n"
            "target = command.target and dataclasses.asdict(command.target)\n"
            "command = command._replace(config=groups, target=target)\n"
            "print(json.dumps(command._asdict()))\n"
        )
        process = python("-c", program, *flags)
        self.assertEqual(process.stderr, "")
        command = json.loads(process.stdout)
        self.target = command["target"]
        self.how = command["resume"], command["verbosity"]
        self.seeds = command["seeds"]
        self.report = command["report"]
        groups = command["config"]
        config = groups and Config.from_dict(groups)
        return command["mode"], command["run_dir"], config
