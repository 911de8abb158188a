"""Nothing is needed that other systems lack: Windows, simulated on Linux."""

import pathlib
import tempfile

from absl.testing import absltest

from tests.support.command_line import python

# What exists only on Linux, or only on Unix.
MISSING_MODULES = ("fcntl", "resource", "pwd", "grp", "termios", "pty", "tty")
MISSING_FUNCTIONS = (
    "posix_fallocate",
    "posix_fadvise",
    "fork",
    "sysconf",
    "uname",
    "getuid",
    "geteuid",
    "fchmod",
    "statvfs",
    "sched_getaffinity",
    "O_DIRECTORY",
    "O_NOFOLLOW",
)

PROGRAM = f"""
import os, sys, warnings
for name in {MISSING_MODULES}:
    sys.modules[name] = None  # Importing it raises ImportError.
# The libraries find out where they are as they are imported.
import keras, numpy as np, tensorflow, tensorboard
import h5py, subprocess, tempfile
for name in {MISSING_FUNCTIONS}:
    if hasattr(os, name):
        delattr(os, name)
import builtins
builtin_open, os_open, os_fsync = open, os.open, os.fsync

def refuse_proc(path, *arguments, **options):
    if str(path).startswith(("/proc/", "/sys/")):
        raise FileNotFoundError(path)
    return builtin_open(path, *arguments, **options)

def refuse_directories(path, flags, *arguments, **options):
    # Windows opens no directory, and flushes nothing that is read alone.
    assert not os.path.isdir(path), path
    assert flags & (os.O_RDWR | os.O_WRONLY) or "rundir" not in str(path), path
    return os_open(path, flags, *arguments, **options)

builtins.open = refuse_proc

import pathlib
from fastbat_tf import distribution, evaluate_robustness, files
from fastbat_tf import RobustClassifier
from fastbat_tf.experiment import config, run_directory
from fastbat_tf.runtime import hardware
from fastbat_tf.training import callbacks
from fastbat_tf.methods.fastat import FastAT
from fastbat_tf.experiment.preemption import Preemption

with Preemption():
    pass
distribution.peak_gigabytes()
found = hardware.describe(tensorflow.distribute.get_strategy(), xla=False)
assert found["device"] and found["cores"] > 0, found
top = pathlib.Path(sys.argv[1], "rundir")
inputs = keras.Input((4, 4, 3))
outputs = keras.layers.Dense(2)(keras.layers.Flatten()(inputs))
model = keras.Model(inputs, outputs)
images = np.random.default_rng(0).random((8, 4, 4, 3), np.float32)
labels = np.arange(8) % 2
directory = run_directory.RunDirectory(top)

class Windows:
    def __getattr__(self, name):
        return getattr(os, name)

windows = Windows()
windows.name, windows.open = "nt", refuse_directories
files.os = windows
warnings.simplefilter("ignore")
directory.create(config.Config())
best = callbacks.BestWeights(directory.best, "val_clean_accuracy")
robust = RobustClassifier(model, FastAT())
robust.compile("sgd")
best.set_model(robust)
best.on_epoch_end(0, {{"val_clean_accuracy": 0.5}})
robust.load_weights(directory.best)
evaluate_robustness(
    model, (images, labels), ["fgsm"], [0.1], directory=top / "evaluation"
)
results = (top / "evaluation" / "results.json").read_text()
assert "robust_accuracy" in results
directory.end()
directory.unlock()
assert directory.is_left_alone()
print("done")
"""


class PortabilityTest(absltest.TestCase):
    def test_without_what_unix_alone_has(self):
        scratch = self.enterContext(tempfile.TemporaryDirectory())
        process = python("-c", PROGRAM, scratch, TF_CPP_MIN_LOG_LEVEL="2")
        self.assertEqual(process.returncode, 0, process.stderr)
        self.assertEqual(process.stdout.splitlines()[-1], "done")
        left_over = [
            str(path)
            for path in pathlib.Path(scratch).rglob("*")
            if "partial" in path.name
        ]
        self.assertEqual(left_over, [])

    def test_no_module_of_unix_is_imported(self):
        """The source does not name functions that exist on Unix alone."""
        top = pathlib.Path(__file__).absolute().parent.parent
        paths = [top / "main.py"]
        for folder in ("fastbat_tf", "flags", "models"):
            paths += (top / folder).rglob("*.py")
        self.assertGreater(len(paths), 80)
        for path in paths:
            text = path.read_text()
            for name in MISSING_MODULES:
                self.assertNotRegex(
                    text, rf"(?m)^\s*(import|from) {name}\b", path
                )
            for name in MISSING_FUNCTIONS:
                self.assertNotIn(f"os.{name}", text, path)


if __name__ == "__main__":
    absltest.main()
