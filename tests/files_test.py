"""Files and directories that are replaced completely or not at all."""

import json
import pathlib
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest

from fastbat_tf import files
from fastbat_tf.files import write_json
from tests.support.disk import Disk, Killed


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
        # Even if the new content was written, but not renamed.
        with mock.patch.object(pathlib.Path, "replace", side_effect=OSError):
            with self.assertRaises(OSError):
                write_json(self.path, {"new": True})
        self.assertEqual(json.loads(self.path.read_text()), {"old": True})


class IsInsideTest(absltest.TestCase):
    def test_paths_and_links(self):
        directory = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory())
        )
        run = directory / "run"
        run.mkdir()
        (run / "link").symlink_to(directory)
        (run / "within").symlink_to(run / "evaluations")
        for name in ("a", "a/../b", "none/x", ".", "within/x"):
            self.assertTrue(files.is_inside(run / name, run), name)
        for name in ("..", "../x", "a/../../x", "/etc/passwd", "link/x"):
            self.assertFalse(files.is_inside(run / name, run), name)
        self.assertFalse(files.is_inside(directory / "runs", run))


class ReplaceDirectoryTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        scratch = self.enterContext(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(scratch, "saved_model")
        self.disk = Disk(self.path.parent)

    def replace(self, content, kill=False):
        partial = self.path.with_name("saved_model.partial")
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir()
        (partial / "weights").write_text(content)
        (partial / f"only {content}").touch()
        with self.disk.watch(kill):
            files.replace_directory(partial, self.path)

    def names(self):
        return {path.name for path in self.path.parent.iterdir()}

    def test_whole_or_beside(self):
        """At any moment one of the two is complete, and none is a mixture."""
        self.replace("old")
        for left in (
            {"saved_model", "saved_model.partial"},
            {"saved_model.old", "saved_model.partial"},
        ):
            with self.assertRaises(Killed):
                self.replace("new", kill=True)
            self.assertEqual(self.names(), left)
        self.replace("newer")
        self.assertEqual(
            {path.name for path in self.path.iterdir()},
            {"weights", "only newer"},
        )
        self.assertEqual(self.names(), {"saved_model"})
        self.assertEqual(self.disk.wrong, [])

    def test_a_file_in_the_way(self):
        self.path.write_text("Not a model.")
        with self.assertRaises(NotADirectoryError):
            self.replace("new")
        self.assertEqual(self.path.read_text(), "Not a model.")


if __name__ == "__main__":
    absltest.main()
