"""Model files of someone who means harm."""

import json
import pathlib
import tempfile
import zipfile

import keras
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.errors import InputError
from fastbat_tf.saving import model_files
from tests.support.testing import small_network

CONFIG, WEIGHTS = "config.json", "model.weights.h5"


def read_members(path):
    """Returns the content of the members of an archive, by name."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(path, members):
    """Writes an archive of pairs of names and contents."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)


def network_with(layer):
    """Returns a small classifier that begins with a layer."""
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, small_network()(layer(inputs)))


class PlantedModel:
    """A small `.keras` file, in which a test changes what it wants.

    Args:
        directory: Path of a directory for the files.
    """

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.good = self.directory / "good.keras"
        small_network().save(self.good)
        self.members = read_members(self.good)

    def with_members(self, **changed):
        """Writes the file with other contents of some members, by name."""
        path = self.directory / "planted.keras"
        write_members(path, {**self.members, **changed}.items())
        return path

    def with_config(self, change):
        """Writes the file with a changed config.

        Args:
            change: Function of the config, a dict, that it changes.
        """
        config = json.loads(self.members[CONFIG])
        change(config)
        return self.with_members(**{CONFIG: json.dumps(config).encode()})

    def with_layer(self, **changed):
        """Writes the file with other settings of its first real layer."""

        def change(config):
            config["config"]["layers"][1]["config"].update(changed)

        return self.with_config(change)


class PlantedTestCase(parameterized.TestCase, tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.directory = pathlib.Path(directory.name)
        cls.planted = PlantedModel(cls.directory)

    def assert_refused(self, path, message, read=model_files.load):
        before = set(self.directory.rglob("*"))
        with self.assertRaisesRegex(InputError, message) as caught:
            read(path)
        self.assertRegex(str(caught.exception), rf"Received: \w+={path}")
        self.assertNotIn("\n", str(caught.exception))
        self.assertEqual(set(self.directory.rglob("*")), before)
        return str(caught.exception)
