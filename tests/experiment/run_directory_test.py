"""The files of a run."""

import dataclasses
import json
import os
import pathlib
import platform
import signal
import tempfile
from importlib import metadata
from unittest import mock

from absl.testing import absltest, parameterized

from fastbat_tf.errors import InputError
from fastbat_tf.experiment.config import (
    Config,
    MethodConfig,
    RuntimeConfig,
    TrainingConfig,
)
from fastbat_tf.experiment.run_directory import (
    VERSIONED,
    RunDirectory,
)

NOBODY = 65534

CONFIG = Config(training=TrainingConfig(epochs=3, seed=11))


class RunDirectoryTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.parent = pathlib.Path(directory)

    def check_refused(self, path, message, config=CONFIG, resume="auto"):
        """Checks that `path` is refused, and that nothing was written."""
        before = sorted(self.parent.rglob("*"))
        with self.assertRaisesRegex(
            InputError, rf"{message}.* Received: run_dir={path}$"
        ):
            RunDirectory(path).check(config, resume)
        self.assertEqual(sorted(self.parent.rglob("*")), before)

    def test_paths(self):
        directory = RunDirectory("runs/demo")
        path = pathlib.Path("runs/demo")
        self.assertEqual(directory.path, path)
        self.assertEqual(directory.config, path / "config.json")
        self.assertEqual(directory.history, path / "history.csv")
        self.assertEqual(
            directory.best, path / "checkpoints" / "best.weights.h5"
        )
        self.assertEqual(
            directory.last, path / "checkpoints" / "last.weights.h5"
        )
        self.assertEqual(directory.tensorboard, path / "tensorboard")
        self.assertEqual(directory.saved_model, path / "saved_model")
        self.assertEqual(directory.results, path / "results.json")

    def test_create(self):
        directory = RunDirectory(self.parent / "runs" / "one")
        directory.check(CONFIG)
        self.assertEqual(list(self.parent.iterdir()), [])
        directory.create(CONFIG)
        self.assertTrue(directory.best.parent.is_dir())
        written = json.loads(directory.config.read_text())
        versions = written.pop("versions")
        self.assertEqual(
            versions,
            {
                **{name: metadata.version(name) for name in VERSIONED},
                "python": platform.python_version(),
            },
        )
        self.assertIn("tensorflow", versions)
        self.assertIn("keras", versions)
        started = written.pop("started")
        self.assertRegex(started, r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        self.assertIsNone(written.pop("command"))
        self.assertIsNone(written.pop("environment"))
        self.assertEqual(written, json.loads(json.dumps(CONFIG.to_dict())))
        self.assertEqual(written["training"]["seed"], 11)
        # No temporary file is left.
        self.assertEqual(
            {path.name for path in directory.path.iterdir()},
            {"config.json", "checkpoints", ".lock"},
        )

    def test_what_began_the_run_stays(self):
        """Another command, on another machine, continues the same run."""
        directory = RunDirectory(self.parent)
        directory.create(CONFIG, "python main.py", {"device": "CPU"})
        before = directory.config.read_bytes()
        directory.unlock()
        again = RunDirectory(self.parent)
        self.assertTrue(again.check(CONFIG))
        again.create(CONFIG, "fastbat-tf", {"device": "GPU"})
        self.assertEqual(directory.config.read_bytes(), before)
        written = json.loads(before)
        self.assertEqual(written["command"], "python main.py")
        self.assertEqual(written["environment"], {"device": "CPU"})

    @parameterized.parameters(
        CONFIG,
        Config(method=MethodConfig("standard")),
        Config(
            method=MethodConfig("fastbat", {"implicit_lambda": float("inf")})
        ),
    )
    def test_load_config(self, config):
        RunDirectory(self.parent).create(config)
        self.assertEqual(RunDirectory(self.parent).load_config(), config)

    def test_free(self):
        for path in (
            self.parent,  # It exists, and is empty.
            self.parent / "new",
            self.parent / "a" / "b" / "c",
        ):
            for resume in ("auto", "never"):
                self.assertFalse(RunDirectory(path).check(CONFIG, resume))
            self.check_refused(
                path,
                "`resume` is must, but there is no such run",
                CONFIG,
                "must",
            )
        (self.parent / "notes.txt").write_text("Not a run.")
        self.assertFalse(RunDirectory(self.parent).check(CONFIG))

    def test_relative_path(self):
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.parent)
        RunDirectory("runs/one").check(CONFIG)

    def create(self, config=CONFIG):
        """A run that no process is working on."""
        directory = RunDirectory(self.parent)
        directory.create(config)
        directory.unlock()

    def test_this_run(self):
        self.create()
        other = dataclasses.replace(
            CONFIG, runtime=RuntimeConfig(save_every="3")
        )
        for config in (CONFIG, other):
            for resume in ("auto", "must"):
                directory = RunDirectory(self.parent)
                self.assertTrue(directory.check(config, resume))
                directory.unlock()
        self.check_refused(
            self.parent,
            "^`run_dir` holds this run already; expected a new directory",
            CONFIG,
            "never",
        )

    @parameterized.parameters("backup", "tensorboard/events", "history.csv")
    def test_a_link_out_of_it(self, name):
        """What the run would write or remove is someone else's."""
        outside = self.enterContext(tempfile.TemporaryDirectory())
        self.create()
        (self.parent / "tensorboard").mkdir()
        (self.parent / "latest").symlink_to(self.parent / "checkpoints")
        directory = RunDirectory(self.parent)
        self.assertTrue(directory.check(CONFIG))
        directory.unlock()
        link = self.parent / name
        link.symlink_to(outside)
        with self.assertRaisesRegex(
            InputError,
            r"hold all of the run; a link leads out of it\. "
            f"Received: run_dir={self.parent}, link={link}$",
        ):
            RunDirectory(self.parent).check(CONFIG)

    def test_a_different_radius(self):
        """Settings are named as one types them."""
        method = MethodConfig("pgd", {"epsilon": 16 / 255, "steps": 3})
        self.create(Config(method=method))
        self.check_refused(
            self.parent,
            r"already \(epsilon=16/255, steps=3, .*epsilons=16/255, ",
            Config(method=MethodConfig("pgd")),
        )
        self.check_refused(self.parent, r"already \(method=pgd, ", Config())

    @parameterized.parameters("auto", "never", "must")
    def test_a_different_run(self, resume):
        training = TrainingConfig(epochs=4, seed=12)
        runtime = RuntimeConfig(save_every="3")
        self.create(Config(training=training, runtime=runtime))
        self.check_refused(
            self.parent,
            r"^`run_dir` holds a different run already \(epochs=4, seed=12\); "
            "expected a new directory",
            CONFIG,
            resume,
        )

    def test_a_config_changed_by_hand(self):
        self.create()
        path = self.parent / "config.json"
        path.write_text(path.read_text().replace('"epochs": 3', '"epochs": 5'))
        self.check_refused(self.parent, r"different run already \(epochs=5\);")
        path.write_text(path.read_text()[:-20])
        self.check_refused(self.parent, "expected to hold a run, with its")

    def test_one_process_at_a_time(self):
        first, second = (RunDirectory(self.parent) for _ in range(2))
        self.assertFalse(second.check(CONFIG))
        first.create(CONFIG)
        message = (
            "^Another process is working on this run; expected one at a time"
        )
        self.check_refused(self.parent, message)
        with self.assertRaisesRegex(InputError, message):
            second.create(CONFIG)
        first.check(CONFIG)  # A run may lock again what it has locked.
        first.unlock()
        second.create(CONFIG)
        self.check_refused(self.parent, message)
        second.unlock()
        second.unlock()

    def test_a_process_that_is_killed_unlocks(self):
        self.create()
        process = os.fork()
        if not process:
            try:
                RunDirectory(self.parent).check(CONFIG)
                os.kill(os.getpid(), signal.SIGKILL)
            finally:
                os._exit(1)
        _, status = os.waitpid(process, 0)
        self.assertEqual(os.waitstatus_to_exitcode(status), -signal.SIGKILL)
        self.assertTrue(RunDirectory(self.parent).check(CONFIG))

    def test_create_in_the_directory_of_another(self):
        directory = RunDirectory(self.parent)
        self.assertFalse(directory.check(CONFIG))
        self.create(Config())  # Since `check`.
        before = directory.config.read_bytes()
        with self.assertRaisesRegex(InputError, "holds a different run"):
            directory.create(CONFIG)
        self.assertEqual(directory.config.read_bytes(), before)

    def test_create_again_changes_nothing(self):
        self.create()
        file = self.parent / "config.json"
        file.write_text(before := file.read_text().replace("3.11", "3.10"))
        self.create()
        self.assertEqual(file.read_text(), before)

    def test_no_directory(self):
        file = self.parent / "file"
        file.write_text("")
        file.chmod(0o755)
        for path in (file, file / "below", file / "far" / "below"):
            self.check_refused(
                path, "^`run_dir` is expected to be a writable directory"
            )

    def test_read_only_directory(self):
        with mock.patch("os.access", return_value=False) as access:
            self.check_refused(
                self.parent / "a" / "b",
                "^`run_dir` is expected to be a writable directory",
            )
        path, mode = access.call_args.args
        self.assertEqual(path, self.parent)
        self.assertTrue(mode & os.W_OK and mode & os.X_OK)

    def test_directory_that_cannot_be_entered(self):
        locked = self.parent / "locked"
        locked.mkdir()
        locked.chmod(0)
        self.addCleanup(locked.chmod, 0o700)
        message = "`run_dir` is expected to be a writable directory"
        if os.geteuid() == 0:  # Root may enter any directory.
            self.parent.chmod(0o755)
            try:
                os.seteuid(NOBODY)
            except OSError:
                self.skipTest("Cannot be anyone but root here.")
            self.addCleanup(os.seteuid, 0)
        for path in (locked, locked / "run"):
            with self.assertRaisesRegex(InputError, message):
                RunDirectory(path).check(CONFIG)

    def test_name_that_is_too_long(self):
        with self.assertRaisesRegex(InputError, "^`run_dir` is expected"):
            RunDirectory(self.parent / ("x" * 300)).check(CONFIG)

    @parameterized.parameters(
        None,
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"\xff\xfe\x00 not text",
        b'{"data": 1}',
        json.dumps({**CONFIG.to_dict(), "training": {"no": 1}}).encode(),
        json.dumps({**CONFIG.to_dict(), "method": {"options": []}}).encode(),
    )
    def test_no_run(self, content):
        directory = RunDirectory(self.parent)
        if content is not None:
            directory.config.write_bytes(content)
        with self.assertRaises(InputError) as caught:
            directory.load_config()
        self.assertEqual(
            str(caught.exception),
            "`run_dir` is expected to hold a run, with its config.json. "
            f"Received: run_dir={self.parent}",
        )

    def test_settings_out_of_range(self):
        groups = CONFIG.to_dict()
        groups["training"]["epochs"] = -1
        (self.parent / "config.json").write_text(json.dumps(groups))
        with self.assertRaisesRegex(InputError, "epochs=-1"):
            RunDirectory(self.parent).load_config()


if __name__ == "__main__":
    absltest.main()
