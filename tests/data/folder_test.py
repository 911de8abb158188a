"""Tests the listing of the user's own images."""

import pathlib
import tempfile

from absl.testing import absltest, parameterized

from fastbat_tf.data import folder
from fastbat_tf.errors import InputError

FILES = (
    "train/cat/2.png",
    "train/cat/10.png",
    "train/ant/a.jpg",
    "train/Bee/x.webp",
    "test/cat/1.png",
    "test/ant/b.jpg",
    "test/Bee/y.png",
    # Files of desktops and archivers.
    ".DS_Store",
    "train/.DS_Store",
    "train/ant/.DS_Store",
    "train/ant/Thumbs.db",
    "train/__MACOSX/cat/1.png",
    "test/.hidden/1.png",
)
CLASSES = ("Bee", "ant", "cat")


class FolderTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.top = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory())
        )
        for name in FILES:
            self.add(name)

    def add(self, name):
        file = self.top / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")

    def test_classes(self):
        self.assertEqual(folder.list_classes(self.top), CLASSES)

    def test_files(self):
        paths, labels = folder.list_files(self.top, "train", CLASSES)
        self.assertEqual(
            [str(path.relative_to(self.top / "train")) for path in paths],
            ["Bee/x.webp", "ant/a.jpg", "cat/10.png", "cat/2.png"],
        )
        self.assertEqual(labels, [0, 1, 2, 2])
        paths, labels = folder.list_files(self.top, "test", CLASSES)
        self.assertEqual(
            [str(path.relative_to(self.top / "test")) for path in paths],
            ["Bee/y.png", "ant/b.jpg", "cat/1.png"],
        )
        self.assertEqual(labels, [0, 1, 2])

    def test_the_test_split_needs_no_training_images(self):
        for name in FILES:
            if name.startswith("train"):
                (self.top / name).unlink()
        _, labels = folder.list_files(self.top, "test", CLASSES)
        self.assertEqual(labels, [0, 1, 2])

    def assert_refused(self, message, call, *arguments):
        with self.assertRaisesRegex(InputError, message):
            call(*arguments)

    @parameterized.parameters("train", "test")
    def test_no_split(self, split):
        empty = self.enterContext(tempfile.TemporaryDirectory())
        self.assert_refused(
            f"there is no DIR/{split}. Received: data_dir={empty}$",
            folder.list_files,
            empty,
            split,
            CLASSES,
        )

    @parameterized.parameters((), ("only",))
    def test_too_few_classes(self, *names):
        empty = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        (empty / "train").mkdir()
        for name in names:
            (empty / "train" / name).mkdir()
        self.assert_refused(
            "at least two classes.* Received: "
            f"data_dir={empty}, classes={', '.join(names)}$",
            folder.list_classes,
            empty,
        )

    def test_a_file_among_the_classes(self):
        self.add("train/labels.csv")
        self.assert_refused(
            "Only directories of classes are expected in DIR/train. Received: "
            f"file={self.top}/train/labels.csv$",
            folder.list_classes,
            self.top,
        )

    def test_a_class_missing_from_test(self):
        (self.top / "test/ant/b.jpg").unlink()
        message = (
            r"^Each class is expected to have at least one image in DIR/test\. "
            rf"Received: class=ant, data_dir={self.top}$"
        )
        arguments = self.top, "test", CLASSES
        self.assert_refused(message, folder.list_files, *arguments)
        self.add("test/ant/.DS_Store")  # Not an image.
        self.assert_refused(message, folder.list_files, *arguments)
        (self.top / "test/ant/.DS_Store").unlink()
        (self.top / "test/ant").rmdir()
        self.assert_refused(message, folder.list_files, *arguments)

    def test_a_class_that_training_does_not_know(self):
        self.add("test/dog/1.png")
        self.assert_refused(
            r"those of DIR/train, Bee, ant, cat\. Received: class=dog",
            folder.list_files,
            self.top,
            "test",
            CLASSES,
        )

    def test_many_classes_are_not_all_named(self):
        self.assert_refused(
            r"0, 1, 2, 3, 4 and 95 more\. Received: class=Bee",
            folder.list_files,
            self.top,
            "test",
            [str(number) for number in range(100)],
        )


if __name__ == "__main__":
    absltest.main()
