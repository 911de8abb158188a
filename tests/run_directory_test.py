"""Tests of the files of a run."""

import json
import os
import pathlib
import platform
import tempfile
from importlib import metadata
from unittest import mock

from absl.testing import absltest, parameterized

from fastbat_tf.config import Config, MethodConfig, TrainingConfig
from fastbat_tf.errors import InputError
from fastbat_tf.run_directory import VERSIONED, RunDirectory, write_json

NOBODY = 65534

CONFIG = Config(training=TrainingConfig(epochs=3, seed=11))


class RunDirectoryTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.parent = pathlib.Path(directory)

    def check_refused(self, path, message):
        """Refuses `path`, and leaves no trace of the attempt."""
        before = sorted(self.parent.rglob("*"))
        with self.assertRaisesRegex(
            InputError, rf"{message}.* Received: run_dir={path}$"
        ):
            RunDirectory(path).check_free(CONFIG)
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
        directory.check_free(CONFIG)
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
        self.assertEqual(written, json.loads(json.dumps(CONFIG.to_dict())))
        self.assertEqual(written["training"]["seed"], 11)
        # Nothing is left of the writing.
        self.assertEqual(
            {path.name for path in directory.path.iterdir()},
            {"config.json", "checkpoints"},
        )

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
            self.parent,  # Exists, and is empty.
            self.parent / "new",
            self.parent / "a" / "b" / "c",
        ):
            RunDirectory(path).check_free(CONFIG)
        (self.parent / "notes.txt").write_text("Not a run.")
        RunDirectory(self.parent).check_free(CONFIG)

    def test_relative_path(self):
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.parent)
        RunDirectory("runs/one").check_free(CONFIG)

    def test_this_run(self):
        RunDirectory(self.parent).create(CONFIG)
        self.check_refused(
            self.parent,
            "^`run_dir` holds this run already; expected a new directory",
        )

    def test_a_different_run(self):
        RunDirectory(self.parent).create(Config())
        self.check_refused(
            self.parent,
            "^`run_dir` holds a different run already; expected a new "
            "directory",
        )

    def test_no_directory(self):
        file = self.parent / "file"
        file.write_text("")
        file.chmod(0o755)
        for path in (file, file / "below", file / "far" / "below"):
            self.check_refused(
                path, "^`run_dir` is expected to be a directory that can be"
            )

    def test_read_only_directory(self):
        with mock.patch("os.access", return_value=False) as access:
            self.check_refused(
                self.parent / "a" / "b",
                "^`run_dir` is expected to be a directory that can be written",
            )
        path, mode = access.call_args.args
        self.assertEqual(path, self.parent)
        self.assertTrue(mode & os.W_OK and mode & os.X_OK)

    def test_directory_that_cannot_be_entered(self):
        locked = self.parent / "locked"
        locked.mkdir()
        locked.chmod(0)
        self.addCleanup(locked.chmod, 0o700)
        message = "`run_dir` is expected to be a directory that can be written"
        if os.geteuid() == 0:  # Nothing is locked for root.
            self.parent.chmod(0o755)
            try:
                os.seteuid(NOBODY)
            except OSError:
                self.skipTest("Cannot be anyone but root here.")
            self.addCleanup(os.seteuid, 0)
        for path in (locked, locked / "run"):
            with self.assertRaisesRegex(InputError, message):
                RunDirectory(path).check_free(CONFIG)

    def test_name_that_is_too_long(self):
        with self.assertRaisesRegex(InputError, "^`run_dir` is expected"):
            RunDirectory(self.parent / ("x" * 300)).check_free(CONFIG)

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


class WriteJsonTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(directory, "results.json")

    def test_writes(self):
        for content in ({"accuracy": 0.5}, {"accuracy": [1, None]}):
            write_json(self.path, content)
            self.assertEqual(json.loads(self.path.read_text()), content)
            self.assertTrue(self.path.read_text().endswith("}\n"))
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])

    def test_whole_or_old(self):
        write_json(self.path, {"old": True})
        with self.assertRaises(TypeError):
            write_json(self.path, {"new": object()})
        # Also when the new content was written, but nothing after it.
        with mock.patch.object(pathlib.Path, "replace", side_effect=OSError):
            with self.assertRaises(OSError):
                write_json(self.path, {"new": True})
        self.assertEqual(json.loads(self.path.read_text()), {"old": True})


if __name__ == "__main__":
    absltest.main()
