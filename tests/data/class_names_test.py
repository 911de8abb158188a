"""Tests the names of the classes of each data set."""

import pathlib
import tempfile
import types
from unittest import mock

import tensorflow_datasets as tfds
from absl.testing import absltest

from fastbat_tf import data
from fastbat_tf.data import prepared
from fastbat_tf.data.class_names import class_names
from fastbat_tf.data.options import DataConfig


class ClassNamesTest(absltest.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.directory = pathlib.Path(directory)

    def test_every_data_set_has_a_name_for_each_class(self):
        names = [f"class {label}" for label in range(1000)]

        def get(dataset, data_dir):
            count = data.get(dataset).num_classes
            label = tfds.features.ClassLabel(names=names[:count])
            info = types.SimpleNamespace(features={"label": label})
            return types.SimpleNamespace(info=info)

        self.enterContext(mock.patch.object(prepared, "get", get))
        for label in range(200):
            path = self.directory / f"tiny-imagenet-200/train/n{label:08d}"
            path.mkdir(parents=True)
        for name, spec in data.DATASETS.items():
            if spec.source == "folder":
                continue
            needs = spec.source == "archive"
            found = class_names(
                DataConfig(name, str(self.directory) if needs else None)
            )
            self.assertLen(found, spec.num_classes)
            self.assertLen(set(found), spec.num_classes)
            if spec.source == "tfds":
                self.assertEqual(found, names[: spec.num_classes])

    def test_what_comes_with_the_package(self):
        """The second image of the sheet is an automobile, label 1."""
        names = class_names(DataConfig("cifar10_mini"))
        self.assertEqual(names[1], "automobile")
        self.assertEqual(names[9], "truck")
        names = class_names(DataConfig("gtsrb", "there"))
        self.assertEqual(names[14], "Stop")
        self.assertEqual(names[2], "Speed limit (50 km/h)")
        self.assertEqual(names[38], "Keep right")

    def test_a_folder(self):
        for name in ("b", "a c"):
            (self.directory / "train" / name).mkdir(parents=True)
        config = DataConfig("folder", str(self.directory), image_size=8)
        self.assertEqual(class_names(config), ["a c", "b"])

    def test_words_of_tiny_imagenet(self):
        top = self.directory / "tiny-imagenet-200"
        for name in ("n2", "n1", "n3"):
            (top / "train" / name).mkdir(parents=True)
        config = DataConfig("tiny_imagenet", str(self.directory))
        self.assertEqual(class_names(config), ["n1", "n2", "n3"])
        (top / "words.txt").write_text("n2\tgoldfish, Carassius\nn1\tfrog\n")
        self.assertEqual(class_names(config), ["frog", "goldfish", "n3"])


if __name__ == "__main__":
    absltest.main()
