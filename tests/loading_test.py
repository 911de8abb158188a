"""Tests of the reading of data sets into memory."""

import hashlib
import pathlib
import tempfile
from unittest import mock

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl.testing import parameterized

from fastbat_tf.data import loading
from fastbat_tf.errors import InputError

MEBIBYTE = 2**20

# Of the images, in order, of CIFAR-10 as published: of each class the first
# 400 of the training set and the first 100 of the test set, the classes taking
# turns; the last 400 of these 4,000 are the validation split.
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
        # Balanced, and the classes take turns.
        self.assertAllEqual(labels, np.arange(count) % 10)

    @parameterized.parameters(*DIGESTS.items())
    def test_images(self, name, digest):
        images = getattr(self.splits, name).images
        self.assertEqual(hashlib.sha256(images.tobytes()).hexdigest(), digest)

    def test_a_few_pixels(self):
        # Of the first airplane, the first automobile and the last truck: says
        # more than a digest when the order of decoding is wrong.
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

    def test_size_in_the_repository(self):
        sheets = list((loading.EMBEDDED / "cifar10_mini").glob("*.png"))
        self.assertLen(sheets, 2)
        self.assertLessEqual(
            sum(sheet.stat().st_size for sheet in sheets), 13 * MEBIBYTE
        )

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
            "^`validation_share` leaves no image in one of the splits. "
            f"Received: validation_share={share}$",
        ):
            loading.load("cifar10_mini", validation_share=share)


def image_of(position):
    """An image whose pixels all name its position in the data set."""
    image = np.zeros((32, 32, 3), np.uint8)
    image[..., 0] = position
    image[..., 1] = np.arange(32)[:, np.newaxis]
    image[..., 2] = np.arange(32)
    return image


def label_of(position):
    """Not the position modulo 10, as in cifar10_mini."""
    return 7 * position % 10


class Cifar10(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """CIFAR-10 as TensorFlow Datasets keeps it, with 20 + 5 images."""

    VERSION = tfds.core.Version("3.0.2")
    COUNTS = {"train": 20, "test": 5}

    def _info(self):
        features = {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(32, 32, 3)),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {
            name: self._generate_examples(count)
            for name, count in self.COUNTS.items()
        }

    def _generate_examples(self, count):
        for position in range(count):
            example = {
                "id": f"{position}",
                "image": image_of(position),
                "label": label_of(position),
            }
            yield position, example


class TensorFlowDatasetsTest(parameterized.TestCase, tf.test.TestCase):
    def test_prepared(self):
        data_dir = self.enterContext(tempfile.TemporaryDirectory())
        Cifar10(data_dir=data_dir).download_and_prepare()
        splits = loading.load("cifar10", data_dir, validation_share=0.1)
        # The validation split is the last 10 % of the training split.
        for name, positions in (
            ("train", range(18)),
            ("validation", range(18, 20)),
            ("test", range(5)),
        ):
            images, labels = getattr(splits, name)
            self.assertEqual(images.dtype, np.uint8, name)
            self.assertEqual(labels.dtype, np.int32, name)
            self.assertAllEqual(images, [image_of(p) for p in positions], name)
            self.assertAllEqual(labels, [label_of(p) for p in positions], name)

    @parameterized.parameters(
        OSError("no route to host"), TimeoutError("timed out")
    )
    def test_neither_prepared_nor_reached(self, failure):
        data_dir = self.enterContext(tempfile.TemporaryDirectory())
        with mock.patch("urllib.request.urlopen", side_effect=failure) as site:
            with self.assertRaises(InputError) as caught:
                loading.load("cifar10", data_dir)
        self.assertEqual(site.call_count, 1)  # No long row of attempts.
        message = str(caught.exception)
        self.assertIn("cifar10 is neither prepared nor can it be", message)
        # The three ways out, and what was received.
        self.assertIn("--data_dir=DIR with DIR/cifar10/3.0.2", message)
        self.assertIn("https://www.cs.toronto.edu/~kriz/", message)
        self.assertIn("--dataset=cifar10_mini", message)
        self.assertEndsWith(message, f"Received: data_dir={data_dir}")
        self.assertEmpty(list(pathlib.Path(data_dir).iterdir()))

    def test_a_download_that_fails(self):
        data_dir = self.enterContext(tempfile.TemporaryDirectory())
        builder = "tensorflow_datasets.core.DatasetBuilder.download_and_prepare"
        for failure in (
            tfds.download.DownloadError("checksum"),
            RuntimeError("interrupted"),
        ):
            with (
                mock.patch("urllib.request.urlopen"),
                mock.patch(builder, side_effect=failure),
                self.assertRaisesRegex(InputError, "--dataset=cifar10_mini"),
            ):
                loading.load("cifar10", data_dir)

    def test_unknown_name(self):
        with self.assertRaisesRegex(InputError, "Received: dataset=mnist"):
            loading.load("mnist")


if __name__ == "__main__":
    tf.test.main()
