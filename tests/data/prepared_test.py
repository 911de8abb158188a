"""Tests data of TensorFlow Datasets, and wrong directories."""

import contextlib
import io
import json
import pathlib
import shutil
import tempfile
from unittest import mock

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl.testing import parameterized

from fastbat_tf import data
from fastbat_tf.data import loading, sources
from fastbat_tf.errors import InputError
from tests.support.prepared_data import image_of, label_of, prepare

IN_MEMORY = (
    "cifar10",
    "cifar100",
    "svhn_cropped",
    "mnist",
    "fashion_mnist",
    "stl10",
)


class PreparedTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.top = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory())
        )
        # TensorFlow Datasets reports what it prepares.
        self.enterContext(contextlib.redirect_stdout(io.StringIO()))

    def write(self, name="cifar10", train=20, test=5, **kwargs):
        split = data.get(name).test_split
        return prepare(name, self.top, {"train": train, split: test}, **kwargs)

    @parameterized.parameters(*IN_MEMORY)
    def test_prepared(self, name):
        directory = self.write(name)
        expected = data.get(name).tfds_name.replace(":", "/")
        self.assertEqual(directory, self.top / expected)
        spec = data.get(name)
        splits = loading.load(name, str(self.top))
        # The validation split is the last 10 % of the training split.
        for split, numbers in (
            ("train", range(18)),
            ("validation", range(18, 20)),
            ("test", range(20, 25)),
        ):
            examples = getattr(splits, split)
            self.assertIsInstance(examples, sources.Examples)
            images, labels = examples
            self.assertEqual(images.dtype, np.uint8)
            self.assertEqual(labels.dtype, np.int32)
            self.assertEqual(images.shape[1:], spec.image_shape)
            self.assertAllEqual(
                images, [image_of(n, spec.image_shape) for n in numbers]
            )
            self.assertAllEqual(
                labels, [label_of(n, spec.num_classes) for n in numbers]
            )

    def test_imagenet_is_streamed(self):
        self.write("imagenet2012", shards=2)
        splits = loading.load("imagenet2012", str(self.top))
        for split, numbers in zip(
            splits, (range(18), range(18, 20), range(20, 25)), strict=True
        ):
            self.assertIsInstance(split, sources.TFRecords)
            self.assertEqual(split.size, len(numbers))
            self.assertEqual(split.image_shape, (288, 288, 3))
            self.assertAllEqual(
                split.labels, [label_of(n, 1000) for n in numbers]
            )

    def assert_refused(self, message, name="cifar10"):
        with self.assertRaises(InputError) as caught:
            loading.load(name, str(self.top))
        self.assertRegex(" ".join(str(caught.exception).split()), message)
        return str(caught.exception)

    @parameterized.parameters(
        OSError("no route to host"), TimeoutError("timed out")
    )
    def test_neither_prepared_nor_reached(self, failure):
        with mock.patch("urllib.request.urlopen", side_effect=failure) as site:
            message = self.assert_refused(
                "cifar10 is not prepared, and cannot be"
            )
        self.assertEqual(site.call_count, 1)  # Without many attempts.
        # The three alternatives, and the received value.
        self.assertIn("--data_dir=DIR with DIR/cifar10/3.0.2", message)
        self.assertIn("https://www.cs.toronto.edu/~kriz/", message)
        self.assertIn("--dataset=cifar10_mini", message)
        self.assertEndsWith(message, f"Received: data_dir={self.top}")
        self.assertEmpty(list(self.top.iterdir()))

    def test_imagenet_is_downloaded_by_hand(self):
        with mock.patch("urllib.request.urlopen") as site:
            self.assert_refused("docs/data.md", "imagenet2012")
        self.assertEqual(site.call_count, 0)

    def test_a_download_that_fails(self):
        builder = "tensorflow_datasets.core.DatasetBuilder.download_and_prepare"
        for failure in (
            tfds.download.DownloadError("checksum"),
            RuntimeError("interrupted"),
            ImportError("scipy"),
        ):
            with (
                mock.patch("urllib.request.urlopen"),
                mock.patch(builder, side_effect=failure),
            ):
                self.assert_refused("--dataset=cifar10_mini")

    def test_what_is_said_of_a_download(self):
        """One line of ours, and no output meant for a terminal."""

        def download(_):
            print("\x1b[1mDownloading\x1b[0m\r")
            raise OSError("no room")

        url = "fastbat_tf.data.prepared.urllib.request.urlopen"
        said = io.StringIO()
        with (
            mock.patch(url),
            mock.patch.object(
                tfds.core.DatasetBuilder, "download_and_prepare", download
            ),
            contextlib.redirect_stdout(said),
            self.assertRaisesRegex(InputError, "cannot be downloaded"),
        ):
            loading.load("cifar10", str(self.top))
        (line,) = said.getvalue().splitlines()
        self.assertRegex(
            line,
            rf"^Downloading and preparing cifar10.* in {self.top}/.* \.\.\.$",
        )

    def test_another_version(self):
        directory = self.write()
        directory.rename(directory.parent / "3.0.1")
        with mock.patch("urllib.request.urlopen", side_effect=OSError()):
            self.assert_refused(
                "with DIR/cifar10/3.0.2 prepared.* Received: "
                f"data_dir={self.top}, which holds cifar10/3.0.1$"
            )

    @parameterized.parameters("cifar100", "mnist")
    def test_another_data_set(self, name):
        directory = self.write()
        copied = self.top / data.get(name).tfds_name.replace(":", "/")
        shutil.copytree(directory, copied)
        self.assert_refused(
            f"{copied} is expected to hold {data.get(name).tfds_name}. "
            "Received: dataset=cifar10:3.0.2$",
            name,
        )

    def test_labels_out_of_range(self):
        self.write(classes=11)
        self.assert_refused(
            r"The labels of cifar10:3.0.2 are expected in \[0, 10\). "
            r"Received: range=\(0, 10\)"
        )

    def test_images_of_another_shape(self):
        directory = self.write()
        file = directory / "features.json"
        content = json.loads(file.read_text())
        shape = content["featuresDict"]["features"]["image"]["image"]["shape"]
        shape["dimensions"] = ["16", "16", "3"]
        file.write_text(json.dumps(content))
        self.assert_refused("cifar10:3.0.2.* Received: ")

    def corrupt(self, directory, how, split="train"):
        (file,) = directory.glob(f"*-{split}.tfrecord-00000-of-*")
        content = file.read_bytes()
        half = len(content) // 2
        if how == "missing":
            file.unlink()
        elif how == "empty":
            file.write_bytes(b"")
        elif how == "cut":
            file.write_bytes(content[:half])
        else:
            changed = bytes(255 - byte for byte in content[half : half + 9])
            file.write_bytes(content[:half] + changed + content[half + 9 :])

    @parameterized.product(
        how=("missing", "empty", "cut", "changed"), split=("train", "test")
    )
    def test_broken_file(self, how, split):
        self.corrupt(self.write(), how, split)
        message = self.assert_refused(
            "^The data set cifar10:3.0.2 cannot be read; expected whole "
            rf"files.* Received: data_dir={self.top}/cifar10/3.0.2 \(.+\)$"
        )
        self.assertNotIn("{{", message)

    @parameterized.parameters("dataset_info.json", "features.json")
    def test_broken_description(self, name):
        directory = self.write()
        (directory / name).write_text("{")
        self.assert_refused("^The data set cifar10:3.0.2 cannot be read")

    @parameterized.parameters("missing", "empty", "cut", "changed")
    def test_broken_file_of_imagenet(self, how):
        directory = self.write("imagenet2012", test=9)
        self.corrupt(directory, how, "validation")
        # Files are read when needed; sizes are known without them.
        test = loading.load("imagenet2012", str(self.top)).test
        for read in (lambda: test.labels, lambda: test.read(np.arange(9))):
            with self.assertRaisesRegex(
                InputError, "The data set cannot be read; expected whole files"
            ):
                read()


if __name__ == "__main__":
    tf.test.main()
