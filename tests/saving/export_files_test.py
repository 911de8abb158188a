"""Tests the directory of an export: what is replaced, kept and cleaned."""

import contextlib
import pathlib
import tempfile
import threading
from unittest import mock

import keras
import tensorflow as tf

from fastbat_tf.errors import InputError
from fastbat_tf.saving.export import PARTIAL, export
from fastbat_tf.saving.formats import keras_file
from fastbat_tf.saving.versions import add_version
from tests.support import testing


class FilesTest(tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.model = testing.small_network(size=8)

    def setUp(self):
        super().setUp()
        top = self.enterContext(tempfile.TemporaryDirectory())
        self.path = pathlib.Path(top, "model")

    def names(self):
        return sorted(path.name for path in self.path.iterdir())

    def test_adds_to_a_directory(self):
        self.path.mkdir()
        (self.path / "mine.txt").touch()
        # From a process that was killed.
        (self.path / PARTIAL).mkdir()
        (self.path / PARTIAL / "half.keras").touch()
        file = export(self.model, self.path, "keras")
        self.assertEqual(file, self.path / "model.keras")
        self.assertEqual(self.names(), ["README.md", "mine.txt", file.name])
        keras.saving.load_model(file)

    def test_warm_up_of_another_format(self):
        with self.assertRaisesRegex(InputError, "only to the format saved_mo"):
            export(self.model, self.path, "keras", warm_up=True)
        self.assertFalse(self.path.exists())

    def test_working_directory(self):
        self.path.mkdir()
        with contextlib.chdir(self.path):
            for place in (".", self.path, ""):
                with self.assertRaisesRegex(InputError, "working directory"):
                    export(self.model, place)
            file = export(self.model, ".", "keras")
            self.assertTrue(file.exists())
            path = add_version(".", lambda path: export(self.model, path))
            self.assertTrue((path / "saved_model.pb").exists())
        self.assertEqual(self.names(), ["1", "README.md", "model.keras"])
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])

    def test_parent_that_cannot_be_written(self):
        """Such as the root of a container, where the directory is mounted."""
        self.path.mkdir()
        self.path.parent.chmod(0o500)
        self.addCleanup(self.path.parent.chmod, 0o700)
        made = []
        mkdir = pathlib.Path.mkdir

        def make(path, *arguments, **options):  # The root user may write all.
            made.append(path)
            return mkdir(path, *arguments, **options)

        with mock.patch.object(pathlib.Path, "mkdir", make):
            export(self.model, self.path, "keras")
        self.assertNotEmpty(made)
        for path in made:
            self.assertIn(self.path, (path, *path.parents))

    def test_failure_leaves_all_as_it_was(self):
        def fail(served, folder, options):
            (folder / "model.keras").touch()
            raise InputError("it cannot express the model")

        with mock.patch.object(keras_file, "write", fail):
            with self.assertRaisesRegex(InputError, "cannot express"):
                export(self.model, self.path, "keras")
            self.assertFalse(self.path.exists())
            self.path.mkdir()
            (self.path / "model.keras").write_text("old")
            with self.assertRaisesRegex(InputError, "cannot express"):
                export(self.model, self.path, "keras")
        self.assertEqual(self.names(), ["model.keras"])
        self.assertEqual((self.path / "model.keras").read_text(), "old")

    def test_two_at_once_take_turns(self):
        inside, most = [], []
        both = threading.Barrier(2)

        def write(served, folder, options):
            inside.append(folder)
            most.append(len(inside))
            (folder / "model.keras").write_text("whole")
            inside.remove(folder)

        def run():
            both.wait()
            export(self.model, self.path, "keras")

        with mock.patch.object(keras_file, "write", write):
            threads = [threading.Thread(target=run) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.assertEqual(most, [1, 1])
        self.assertEqual(self.names(), ["README.md", "model.keras"])


if __name__ == "__main__":
    tf.test.main()
