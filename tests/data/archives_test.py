"""Tests the listing of unpacked archives, and of missing files."""

import pathlib
import shutil
import tempfile
from unittest import mock

from absl.testing import absltest, parameterized

from fastbat_tf import data
from fastbat_tf.data import archives
from fastbat_tf.errors import InputError
from tests.support.image_data import write_gtsrb, write_tiny_imagenet


class ArchiveTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.top = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory())
        )

    def published(self, name, counts, num_classes):
        spec = data.get(name)._replace(counts=counts, num_classes=num_classes)
        self.enterContext(mock.patch.dict(data.DATASETS, {name: spec}))

    def assert_refused(self, message, name, split):
        with self.assertRaisesRegex(InputError, message):
            archives.list_images(name, split, self.top)


class OtherDirectoryTest(ArchiveTest):
    @parameterized.parameters(
        ("gtsrb", "GTSRB"), ("tiny_imagenet", "tiny-imagenet-200")
    )
    def test_another_directory(self, name, directory):
        self.assert_refused(
            f"expected in DIR/{directory} with --data_dir=DIR, as "
            f"docs/data.md says. Received: data_dir={self.top}$",
            name,
            "train",
        )


class TinyImageNetTest(ArchiveTest):
    def setUp(self):
        super().setUp()
        self.names = write_tiny_imagenet(self.top)
        self.published("tiny_imagenet", (30, 6), 3)
        self.directory = self.top / "tiny-imagenet-200"

    def test_lists(self):
        paths, labels, groups = archives.list_images(
            "tiny_imagenet", "train", self.top
        )
        self.assertLen(set(paths), 30)
        self.assertIsNone(groups)
        for path, label in zip(paths, labels, strict=True):
            self.assertEqual(path.parts[-3], self.names[label])
            self.assertStartsWith(path.name, self.names[label])
        paths, labels, _ = archives.list_images(
            "tiny_imagenet", "test", self.top
        )
        self.assertEqual(
            [path.name for path in paths], [f"val_{n}.JPEG" for n in range(6)]
        )
        self.assertEqual(labels, [2, 1, 0, 2, 1, 0])

    def test_a_missing_image(self):
        name = self.names[1]
        (self.directory / "train" / name / "images" / f"{name}_4.JPEG").unlink()
        self.assert_refused(
            "tiny_imagenet is incomplete; expected 30 images of the train "
            "split. Received: found=29$",
            "tiny_imagenet",
            "train",
        )
        (self.directory / "val" / "images" / "val_4.JPEG").unlink()
        self.assert_refused(
            "expected 6 images of the test split. Received: found=5$",
            "tiny_imagenet",
            "test",
        )

    def test_a_missing_class(self):
        shutil.rmtree(self.directory / "train" / self.names[0])
        for split in ("train", "test"):
            self.assert_refused(
                "expected 3 directories of classes in .*/train. Received: "
                "found=2$",
                "tiny_imagenet",
                split,
            )

    def test_annotations(self):
        file = self.directory / "val" / "val_annotations.txt"
        file.write_text("val_0.JPEG\tn99999999\t0\t0\t9\t9\n")
        self.assert_refused("Received: line=", "tiny_imagenet", "test")
        file.unlink()
        self.assert_refused(f"expected {file} as", "tiny_imagenet", "test")


class GTSRBTest(ArchiveTest):
    def setUp(self):
        super().setUp()
        self.directory = write_gtsrb(self.top, (3, 2), 2, classes=4)
        self.published("gtsrb", (20, 5), 4)

    def test_lists(self):
        paths, labels, groups = archives.list_images("gtsrb", "train", self.top)
        self.assertEqual(labels, [0] * 6 + [1] * 4 + [2] * 6 + [3] * 4)
        for path, label, group in zip(paths, labels, groups, strict=True):
            self.assertEqual(path.parts[-2], f"{label:05d}")
            self.assertEqual(group, (label, path.name[:5]))
        self.assertLen(set(paths), 20)
        self.assertLen(set(groups), 10)
        paths, labels, groups = archives.list_images("gtsrb", "test", self.top)
        self.assertEqual(labels, [0, 3, 2, 1, 0])
        self.assertEqual(paths[3].name, "00003.ppm")
        self.assertIsNone(groups)

    def test_other_place_of_the_test_labels(self):
        expected = archives.list_images("gtsrb", "test", self.top)
        table = self.directory / "GT-final_test.csv"
        table.rename(self.directory / "Final_Test/Images/GT-final_test.csv")
        self.assertEqual(
            archives.list_images("gtsrb", "test", self.top), expected
        )

    def test_missing_files(self):
        (self.directory / "Final_Test/Images/00002.ppm").unlink()
        self.assert_refused("5 images.* found=4$", "gtsrb", "test")
        (self.directory / "GT-final_test.csv").unlink()
        self.assert_refused("GT-final_test.csv as published", "gtsrb", "test")
        shutil.rmtree(self.directory / "Final_Training/Images/00002")
        self.assert_refused("GT-00002.csv as published", "gtsrb", "train")

    @parameterized.parameters(
        ("Filename;Width\n00000.ppm;3\n", "the columns Filename and ClassId"),
        ("Filename;ClassId\n00000.ppm;x\n", "the columns Filename and ClassId"),
        ("", "the columns Filename and ClassId"),
        (
            "Filename;ClassId\n"
            + "".join(f"{n:05d}.ppm;4\n" for n in range(5)),
            r"expected in \[0, 4\). Received: label=4$",
        ),
    )
    def test_a_table_of_something_else(self, text, message):
        (self.directory / "GT-final_test.csv").write_text(text)
        self.assert_refused(message, "gtsrb", "test")


if __name__ == "__main__":
    absltest.main()
