"""Tests the loading of data sets, except those of TensorFlow Datasets."""

import contextlib
import dataclasses
import hashlib
import io
import pathlib
import tempfile
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf import data
from fastbat_tf.data import loading, sources, splitting
from fastbat_tf.errors import InputError
from fastbat_tf.experiment.config import DataConfig
from tests.support.image_data import (
    pixels,
    resize,
    write_folder,
    write_gtsrb,
    write_tiny_imagenet,
)

MEBIBYTE = 2**20

# Digests of the images, in order, of CIFAR-10 as published: the first 400 of
# each class of the training set and the first 100 of the test set, with
# alternating classes; the last 400 of these 4,000 are the validation split.
DIGESTS = {
    "train": "2be4a5d9fdadceb296cd6b46cfdf69981fdb1d94899c57ac60f7c588041ad8e6",
    "validation": (
        "bda3c56ad114c2a16cc6b72330c1837582f62bee7b6ed00232da2ac87f13b2ea"
    ),
    "test": "1a3c683d5253504e7efbf04e193a9d7f06075ccc033aabc620c00f0866289d4e",
}


class Cifar10MiniTest(parameterized.TestCase, tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.splits = loading.load("cifar10_mini")

    @parameterized.parameters(
        ("train", 3600), ("validation", 400), ("test", 1000)
    )
    def test_split(self, name, count):
        images, labels = getattr(self.splits, name)
        self.assertEqual(images.shape, (count, 32, 32, 3))
        self.assertEqual(images.dtype, np.uint8)
        self.assertEqual(labels.shape, (count,))
        self.assertEqual(labels.dtype, np.int32)
        # Balanced, with alternating classes.
        self.assertAllEqual(labels, np.arange(count) % 10)

    @parameterized.parameters(*DIGESTS.items())
    def test_images(self, name, digest):
        images = getattr(self.splits, name).images
        self.assertEqual(hashlib.sha256(images.tobytes()).hexdigest(), digest)

    def test_a_few_pixels(self):
        # The first airplane, the first automobile and the last truck: these say
        # more than a digest if the order of decoding is wrong.
        train, _, test = self.splits
        self.assertAllEqual(train.images[0, 0, 0], [202, 204, 199])
        self.assertAllEqual(train.images[0, 1, 2], [207, 209, 204])
        self.assertAllEqual(train.images[1, 5, 7], [74, 96, 128])
        self.assertAllEqual(test.images[999, 31, 31], [162, 149, 143])

    def test_splits_share_no_image(self):
        seen = [
            image.tobytes() for split in self.splits for image in split.images
        ]
        self.assertLen(set(seen), 5000)

    def test_sample(self):
        sample = loading.load_sample(DataConfig("cifar10_mini"), 25)
        self.assertAllEqual(sample.images, self.splits.train.images[:25])
        few = DataConfig("cifar10_mini", training_examples=12)
        self.assertLen(loading.load_sample(few, 25).labels, 12)

    def test_size_in_the_repository(self):
        sheets = list((loading.EMBEDDED / "cifar10_mini").glob("*.png"))
        self.assertLen(sheets, 2)
        self.assertLessEqual(
            sum(sheet.stat().st_size for sheet in sheets), 13 * MEBIBYTE
        )

    def test_arrays(self):
        """`load_data` returns the same splits as floats in [0, 1]."""
        pairs = loading.load_data("cifar10_mini")
        for (images, labels), split in zip(pairs, self.splits, strict=True):
            self.assertDTypeEqual(images, np.float32)
            self.assertAllEqual(images, split.images / np.float32(255))
            self.assertAllEqual(labels, split.labels)

    @parameterized.parameters((0.25, 1000), (0.5, 2000), (0.0004, 2))
    def test_validation_share(self, share, count):
        splits = loading.load("cifar10_mini", validation_share=share)
        self.assertLen(splits.train.labels, 4000 - count)
        self.assertLen(splits.validation.labels, count)
        together = np.concatenate(
            [splits.train.images, splits.validation.images]
        )
        expected = np.concatenate(
            [self.splits.train.images, self.splits.validation.images]
        )
        self.assertAllEqual(together, expected)
        self.assertAllEqual(splits.test.images, self.splits.test.images)

    @parameterized.parameters(1e-5, 1 - 1e-5)
    def test_validation_share_that_empties_a_split(self, share):
        with self.assertRaisesRegex(
            InputError,
            "^`validation_share` leaves one of the splits empty. "
            f"Received: validation_share={share}$",
        ):
            loading.load("cifar10_mini", validation_share=share)


class FolderTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.top = write_folder(pathlib.Path(directory))
        self.settings = DataConfig(
            "folder", str(self.top), validation_share=0.25, image_size=8
        )

    def load(self):
        return loading.load_splits(self.settings)

    def streamed(self):
        """The same, as if the data set were too large for memory."""
        self.enterContext(mock.patch.object(loading, "MEMORY_LIMIT", 100))
        return self.load()

    def load_data(self):
        return loading.load_data(
            "folder", str(self.top), validation_share=0.25, image_size=8
        )

    def test_arrays(self):
        for pair, split in zip(self.load_data(), self.load(), strict=True):
            self.assertAllEqual(pair[0], split.images / np.float32(255))
            self.assertAllEqual(pair[1], split.labels)

    def test_sample(self):
        """Two of each class, the same as in the split, and only they."""
        train = self.load().train
        with mock.patch.object(
            sources.image_files, "read", wraps=sources.image_files.read
        ) as read:
            sample = loading.load_sample(self.settings, 6)
        self.assertAllEqual(np.bincount(sample.labels), [2, 2, 2])
        ((paths, *_), _) = read.call_args
        self.assertLen(paths, 6)
        expected = train.read(splitting.sample(train.labels, 6))
        self.assertAllEqual(sample.images, expected.images)
        self.assertAllEqual(sample.labels, expected.labels)

    def test_sample_of_few_examples(self):
        settings = dataclasses.replace(self.settings, training_examples=4)
        sample = loading.load_sample(settings, 6)
        self.assertAllEqual(
            np.sort(sample.labels), np.sort(self.load().train.labels[:4])
        )

    def test_arrays_of_a_streamed_data_set(self):
        self.enterContext(mock.patch.object(loading, "MEMORY_LIMIT", 100))
        with self.assertRaisesRegex(
            InputError, r"^`load_data` expects .* Received: name=folder$"
        ):
            self.load_data()

    def test_splits(self):
        splits = self.load()
        self.assertEqual(self.settings.classes, ("ant", "bird", "cat"))
        for split, counts in zip(splits, (9, 3, 4), strict=True):
            self.assertIsInstance(split, sources.Examples)
            self.assertEqual(split.images.shape, (3 * counts, 8, 8, 3))
            self.assertEqual(split.images.dtype, np.uint8)
            self.assertEqual(split.labels.dtype, np.int32)
            # The same share of each class.
            self.assertAllEqual(np.bincount(split.labels), [counts] * 3)
        # Sorted by name: bird is written first, and has label 1. PNG files, of
        # 9 x 9 pixels, have the odd indices.
        image = resize(pixels(37, 9, 9), 8, 8)
        self.assertEqual(splits.test.labels[5], 1)
        self.assertAllClose(splits.test.images[5], image, 0, 0.51)

    def test_all_images_are_there_once(self):
        splits = self.load()
        seen = [image.tobytes() for split in splits for image in split.images]
        self.assertLen(set(seen), 48)

    def test_images_and_labels_belong_together(self):
        streamed = self.streamed()
        for split in streamed:
            names = [path.split("/")[-2] for path in split.paths]
            labels = [self.settings.classes.index(name) for name in names]
            self.assertAllEqual(split.labels, labels)

    def test_a_stream_is_the_same(self):
        splits = self.load()
        for split, stream in zip(splits, self.streamed(), strict=True):
            self.assertIsInstance(stream, sources.Files)
            self.assertEqual(stream.size, split.size)
            self.assertEqual(stream.image_shape, (8, 8, 3))
            self.assertAllEqual(stream.labels, split.labels)
            images, labels = stream.read(np.arange(stream.size))
            self.assertAllEqual(images, split.images)
            self.assertAllEqual(labels, split.labels)

    @parameterized.parameters(True, False)
    def test_read_as_the_data_set_says(self, streamed):
        """`config.json` and the export keep the same reading."""
        reading = data.Reading(5, 6, 1, antialias=False)
        self.enterContext(
            mock.patch.object(data.DatasetSpec, "reading", reading)
        )
        split = (self.streamed if streamed else self.load)().test
        kind = sources.Files if streamed else sources.Examples
        self.assertIsInstance(split, kind)
        images = split.first(12).images
        self.assertEqual(images.shape, (12, 5, 6, 1))
        # First to gray levels, then about every second pixel.
        gray = pixels(37, 9, 9) @ np.array([299, 587, 114])
        gray = (gray[..., np.newaxis] + 500) // 1000
        plain, averaged = (
            np.round(tf.image.resize(gray, (5, 6), antialias=antialias))
            for antialias in (False, True)
        )
        self.assertAllEqual(images[5], plain)
        self.assertNotAllEqual(plain, averaged)
        if streamed:
            read = tf.function(split.reader())
            self.assertAllEqual(read(tf.constant([5]))[0][0], plain)

    @parameterized.parameters(True, False)
    def test_unreadable(self, streamed):
        files = [
            self.top / "train" / "cat" / "000.jpg",
            self.top / "train" / "ant" / "notes.txt",
            self.top / "test" / "bird" / "001.png",
        ]
        load = self.streamed if streamed else self.load
        for file in files:
            file.write_text("no image")
        with self.assertRaisesRegex(
            InputError, "An image cannot be read.* Received: file="
        ) as caught:
            load()
        self.assertTrue(
            any(str(file) in str(caught.exception) for file in files)
        )
        self.settings = DataConfig(
            "folder",
            str(self.top),
            validation_share=0.25,
            image_size=8,
            skip_unreadable=True,
        )
        with contextlib.redirect_stdout(io.StringIO()) as output:
            splits = load()
        sizes = [split.size for split in splits]
        self.assertEqual(sum(sizes[:2]), 35)  # 37 files, 2 of them unreadable.
        self.assertEqual(sizes[2], 11)
        self.assertIn(
            "Skipped 1 unreadable images of 12 of the test split.",
            output.getvalue(),
        )

    def test_a_class_of_unreadable_images(self):
        for file in (self.top / "test" / "cat").iterdir():
            file.write_text("")
        self.settings = DataConfig(
            "folder", str(self.top), image_size=8, skip_unreadable=True
        )
        with (
            contextlib.redirect_stdout(io.StringIO()),
            self.assertRaisesRegex(
                InputError,
                "Each class is expected to have a readable image in the test "
                f"split. Received: class=cat, data_dir={self.top}$",
            ),
        ):
            self.load()

    def test_classes_are_those_of_the_settings(self):
        # A run is evaluated on a directory with only test images.
        expected = self.load().test
        (self.top / "train").rename(self.top / "moved")
        settings = DataConfig(
            "folder",
            str(self.top),
            image_size=8,
            classes=("ant", "bird", "cat"),
        )
        test = loading.load_test(settings)
        self.assertAllEqual(test.images, expected.images)
        self.assertAllEqual(test.labels, expected.labels)


class ArchiveTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.top = pathlib.Path(directory)

    def published(self, name, **changes):
        spec = data.get(name)._replace(**changes)
        self.enterContext(mock.patch.dict(data.DATASETS, {name: spec}))

    def test_tiny_imagenet(self):
        write_tiny_imagenet(self.top)
        self.published("tiny_imagenet", counts=(30, 6), num_classes=3)
        splits = loading.load("tiny_imagenet", str(self.top))
        for split, count in zip(splits, (27, 3, 6), strict=True):
            self.assertEqual(split.images.shape, (count, 64, 64, 3))
            self.assertEqual(split.images.dtype, np.uint8)
        self.assertAllEqual(np.bincount(splits.validation.labels), [1, 1, 1])
        # The names of the classes are written in descending order.
        self.assertAllEqual(splits.test.labels, [2, 1, 0, 2, 1, 0])
        for index in range(6):
            difference = splits.test.images[index].astype(int)
            difference = difference - pixels(9000 + index, 64, 64)
            self.assertLess(np.abs(difference).max(), 12)

    def test_gtsrb(self):
        write_gtsrb(self.top)
        count = 4 * (22 * 10 + 21 * 3)
        self.published("gtsrb", counts=(count, 5))
        splits = loading.load("gtsrb", str(self.top))
        # One sign of each class, with its 4 photographs.
        self.assertAllEqual(np.bincount(splits.validation.labels), [4] * 43)
        self.assertEqual(splits.train.size, count - 4 * 43)
        self.assertAllEqual(splits.test.labels, [0, 7, 14, 21, 28])
        self.assertEqual(splits.test.images.shape, (5, 32, 32, 3))


if __name__ == "__main__":
    tf.test.main()
