"""Tests streams: the same batches from any start, not held in memory."""

import contextlib
import io
import pathlib
import subprocess
import sys
import tempfile
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.data import (
    Augmentation,
    DatasetSpec,
    Reading,
    image_files,
    loading,
    pipeline,
    sources,
)
from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError
from tests.support.image_data import pixels, write
from tests.support.prepared_data import label_of, prepare

TOP = pathlib.Path(__file__).absolute().parents[2]
CROP = Augmentation(padding=2)
RESIZED = Augmentation(resized_crop=True)
SMALL = Reading.center_crop(16, 16, 3)


class ExamplesTest(tf.test.TestCase):
    def test_parts(self):
        images = np.arange(7 * 12, dtype=np.uint8).reshape(7, 2, 2, 3)
        examples = sources.Examples(images, np.arange(7, dtype=np.int32))
        self.assertEqual(examples.size, 7)
        self.assertAllEqual(examples.first(3).images, images[:3])
        self.assertAllEqual(examples.first(3).labels, [0, 1, 2])
        self.assertAllEqual(examples.beginning(3).images, images[:3])
        self.assertAllEqual(examples.read([5, 1]).images, images[[5, 1]])
        self.assertAllEqual(examples.read([5, 1]).labels, [5, 1])


class FilesTest(parameterized.TestCase, tf.test.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.top = pathlib.Path(directory.name)
        paths = [write(cls.top / f"{n}.png", pixels(n)) for n in range(23)]
        cls.files = sources.Files(paths, np.arange(23) % 5, Reading(8, 8, 3))
        cls.examples = cls.files.load(skip_unreadable=False)

    def batches(self, split, count, **kwargs):
        dataset = pipeline.training_batches(
            split, 5, 3, augmentation=CROP, **kwargs
        )
        return list(dataset.take(count).as_numpy_iterator())

    @parameterized.parameters(0, 6)
    def test_batches_are_those_of_images_in_memory(self, first):
        streamed, expected = (
            self.batches(split, 5, first_batch=first, with_index=True)
            for split in (self.files, self.examples)
        )
        for (images, labels), (others, other_labels) in zip(
            streamed, expected, strict=True
        ):
            self.assertAllEqual(images["index"], others["index"])
            self.assertAllEqual(images["images"], others["images"])
            self.assertAllEqual(labels, other_labels)

    def test_type_and_shape(self):
        dataset = pipeline.training_batches(self.files, 5, 3, augmentation=CROP)
        images, labels = dataset.element_spec
        self.assertEqual(images, tf.TensorSpec((5, 8, 8, 3)))
        self.assertEqual(labels, tf.TensorSpec((5,), tf.int32))

    def test_the_interpreter_ends(self):
        """The interpreter exits even while images are decoded."""
        program = (
            "import sys\n"
            "from fastbat_tf.data import Reading, pipeline, sources\n"
            "reading = Reading(64, 64, 3)\n"
            "files = sources.Files(sys.argv[1:], [0] * 23, reading)\n"
            "kept = [\n"
            "    iter(pipeline.training_batches(files, 20, seed))\n"
            "    for seed in range(3)\n"
            "]\n"
            "for batches in kept:\n"
            "    next(batches)\n"
            "sys.exit(3)\n"
        )
        process = subprocess.run(
            [sys.executable, "-c", program, *self.files.paths],
            cwd=TOP,
            timeout=120,
        )
        self.assertEqual(process.returncode, 3)

    def test_parts(self):
        images, labels = self.files.read(np.array([4, 9]))
        self.assertAllEqual(images, [pixels(4), pixels(9)])
        self.assertAllEqual(labels, [4, 4])
        self.assertAllEqual(self.files.first(2).images[1], pixels(1))
        beginning = self.files.beginning(3)
        self.assertIsInstance(beginning, sources.Files)
        self.assertEqual(beginning.size, 3)
        self.assertEqual(beginning.paths, self.files.paths[:3])
        self.assertAllEqual(beginning.labels, self.files.labels[:3])

    def test_a_file_that_breaks_during_the_training(self):
        file = write(self.top / "later.png", pixels(1))
        files = sources.Files([file] * 4, [0] * 4, Reading(8, 8, 3))
        batches = iter(pipeline.training_batches(files, 4, 0))
        next(batches)
        file.unlink()
        with (
            self.assertRaisesRegex(
                InputError, f"^The data set cannot be read; .*{file}"
            ) as caught,
            sources.refuse_broken(files),
        ):
            for _ in range(100):
                next(batches)
        self.assertLen(str(caught.exception).splitlines(), 1)

    def test_errors_of_the_network_are_not_taken_for_those(self):
        for split, message in (
            (self.files, "Detected at node Conv2D"),
            (self.examples, "Detected at node IteratorGetNext"),
        ):
            error = tf.errors.ResourceExhaustedError(None, None, message)
            with (
                self.assertRaises(tf.errors.ResourceExhaustedError),
                sources.refuse_broken(split),
            ):
                raise error

    @parameterized.parameters((0, 23), (11, 11), (10, None))
    def test_memory(self, count, shown):
        with mock.patch.object(sources, "MEMORY_LIMIT", 10 * 8 * 8 * 3):
            if shown is None:
                self.files.check_fits("max_examples", count)
                return
            with self.assertRaisesRegex(
                InputError,
                r"`max_examples` is expected in \[1, 10\], the part of its 23 "
                f"images that fits in memory. Received: max_examples={count}$",
            ):
                self.files.check_fits("max_examples", count)


class TFRecordsTest(parameterized.TestCase, tf.test.TestCase):
    """A tiny ImageNet: 50 training images in 4 files."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        with contextlib.redirect_stdout(io.StringIO()):
            prepare(
                "imagenet2012",
                directory.name,
                {"train": 50, "validation": 11},
                shards=4,
            )
        cls.directory = directory.name
        cls.splits = loading.load(
            "imagenet2012", directory.name, validation_share=0.2
        )
        cls.train = cls.splits.train
        cls.train.reading = SMALL  # Quick.

    def setUp(self):
        super().setUp()
        # Blocks smaller than an epoch.
        self.enterContext(mock.patch.object(sources, "SHUFFLED_RECORDS", 16))
        self.enterContext(mock.patch.object(sources, "FILES_AT_A_TIME", 2))

    def take(self, count, batch_size=6, seed=0, crop=RESIZED, **kwargs):
        dataset = pipeline.training_batches(
            self.train, batch_size, seed, augmentation=crop, **kwargs
        )
        return list(dataset.take(count).as_numpy_iterator())

    def test_sizes(self):
        self.assertEqual([split.size for split in self.splits], [40, 10, 11])
        for split, numbers in zip(
            self.splits, (range(40), range(40, 50), range(50, 61)), strict=True
        ):
            self.assertAllEqual(
                split.labels, [label_of(n, 1000) for n in numbers]
            )

    def test_type_and_shape(self):
        dataset = pipeline.training_batches(
            self.train, 6, 0, augmentation=RESIZED
        )
        images, labels = dataset.element_spec
        self.assertEqual(images, tf.TensorSpec((6, 16, 16, 3)))
        self.assertEqual(labels, tf.TensorSpec((6,), tf.int32))
        images, labels = next(iter(dataset))
        self.assertAllInRange(images, 0, 1)
        self.assertGreater(np.max(images), 0.5)

    def test_each_epoch_is_a_permutation(self):
        labels = [labels for _, labels in self.take(6 * 40)]
        epochs = np.reshape(labels, (40, 36))
        for epoch in epochs:
            self.assertLen(set(epoch), 36)
            self.assertContainsSubset(epoch, self.train.labels)
        orders = {epoch.tobytes() for epoch in epochs}
        self.assertLen(orders, 40)
        # The omitted examples change, so that all are used.
        self.assertLen(set(epochs.ravel()), 40)
        # The order of the files varies: the beginning of each file is,
        # at times, in the first block.
        takes = self.train._files[2]
        self.assertLen(takes, 4)
        starts = self.train.labels[np.cumsum(takes) - takes]
        self.assertContainsSubset(starts, np.ravel(epochs[:, :12]))
        # Neighbors in a file are not neighbors in an epoch.
        index = {label: n for n, label in enumerate(self.train.labels)}
        steps = np.diff([[index[v] for v in epoch] for epoch in epochs])
        self.assertLess(np.mean(np.abs(steps) == 1), 0.2)

    @parameterized.parameters(1, 5, 6, 7, 12, 17)
    def test_first_batch_skips(self, first):
        whole, rest = self.take(19), self.take(19 - first, first_batch=first)
        for (images, labels), (others, other_labels) in zip(
            whole[first:], rest, strict=True
        ):
            self.assertAllEqual(labels, other_labels)
            self.assertAllEqual(images, others)

    def test_rows_of_workers(self):
        """Together, workers read what one process reads."""
        whole = self.take(8, first_batch=5)
        parts = [
            self.take(8, first_batch=5, rows=rows)
            for rows in (range(0, 3), range(3, 6))
        ]
        for (images, labels), *own in zip(whole, *parts, strict=True):
            found = [np.concatenate(part) for part in zip(*own, strict=True)]
            self.assertAllEqual(images, found[0])
            self.assertAllEqual(labels, found[1])

    def test_repeats_for_a_seed_alone(self):
        first = self.take(7, seed=7)
        tf.random.set_seed(5)  # This changes nothing.
        again, other = (self.take(7, seed=s) for s in (7, 8))
        for one, two in zip(first, again, strict=True):
            self.assertAllEqual(one[0], two[0])
            self.assertAllEqual(one[1], two[1])
        self.assertNotAllEqual(
            [labels for _, labels in first], [labels for _, labels in other]
        )

    def test_pixels(self):
        plain = {
            label: image
            for image, label in zip(
                *self.train.read(np.arange(40)), strict=True
            )
        }
        for images, labels in self.take(2, crop=None):
            for image, label in zip(images, labels, strict=True):
                self.assertAllEqual(image, plain[label] / np.float32(255))
        encoded = {
            int(label): image
            for image, label in self.train._in_order().map(self.train._parse)
        }
        # Batch 7 is the second of the second epoch.
        ((images, labels),) = self.take(1, seed=9, first_batch=7)
        for index, (image, label) in enumerate(
            zip(images, labels, strict=True)
        ):
            expected = image_files.decode_resized_crop(
                encoded[label], SMALL, Draws(9, 1, 6 + index)
            )
            self.assertAllEqual(image, expected / np.float32(255))

    def test_read(self):
        test = self.splits.test
        images, labels = test.read(np.array([1, 4, 10]))
        self.assertEqual(images.shape, (3, 288, 288, 3))
        self.assertEqual(images.dtype, np.uint8)
        self.assertAllEqual(labels, [label_of(n, 1000) for n in (51, 54, 60)])
        self.assertAllEqual(images[:2], test.first(5).images[[1, 4]])
        sizes = [(300 + 10 * (n % 7), 400 - 20 * (n % 5)) for n in (51, 54)]
        for image, number, (height, width) in zip(
            images[:2], (51, 54), sizes, strict=True
        ):
            # The images are smooth, so that resizing keeps the center.
            whole = pixels(number, height, width).astype(int)
            center = whole[height // 2, width // 2]
            self.assertLess(np.abs(image[144, 144] - center).max(), 20)

    def test_read_as_the_data_set_says(self):
        reading = Reading(7, 9, 3, 12, antialias=False)
        with mock.patch.object(DatasetSpec, "reading", reading):
            for split in loading.load("imagenet2012", self.directory):
                self.assertEqual(split.reading, reading)
                self.assertEqual(split.image_shape, (7, 9, 3))
        (encoded,) = self.train._in_order().map(self.train._parse).take(1)
        draws = Draws(2, 0, 0)
        found = []
        for antialias in (False, True):
            part = self.train.beginning(1)
            part.reading = reading._replace(antialias=antialias)
            for crop, expected in (
                (False, image_files.decode(encoded[0], part.reading)),
                (
                    True,
                    image_files.decode_resized_crop(
                        encoded[0], part.reading, draws
                    ),
                ),
            ):
                images = part.training_images(1, 1, 2, crop=crop, first_batch=0)
                ((image, _),) = images.take(1)
                self.assertAllEqual(image, expected)
                found.append(image.numpy().tobytes())
            self.assertAllEqual(
                part.first(1).images[0],
                image_files.decode(encoded[0], part.reading),
            )
        self.assertLen(set(found), 4)

    @parameterized.parameters(1, 7, 23, 40)
    def test_beginning(self, count):
        train = self.splits.train
        whole = (
            train.labels
        )  # Labels of the whole, which must not be reused for a part.
        beginning = train.beginning(count)
        self.assertEqual(beginning.size, count)
        self.assertAllEqual(beginning.labels, whole[:count])
        self.assertAllEqual(beginning.first(1).images, train.first(1).images)
        self.assertEqual(train.size, 40)
        batches = beginning.training_images(
            1, count, 3, crop=False, first_batch=0
        )
        labels = [int(label) for _, label in batches.take(count)]
        self.assertCountEqual(labels, whole[:count])

    def test_no_index(self):
        with self.assertRaisesRegex(InputError, "with_index=True$"):
            self.take(1, with_index=True)

    def test_a_batch_larger_than_the_split(self):
        with self.assertRaisesRegex(InputError, "40 images.*batch_size=41$"):
            self.take(1, batch_size=41)

    def test_a_file_that_breaks_during_the_training(self):
        directory = self.enterContext(tempfile.TemporaryDirectory())
        with contextlib.redirect_stdout(io.StringIO()):
            path = prepare(
                "imagenet2012", directory, {"train": 20, "validation": 2}
            )
        train = loading.load("imagenet2012", directory).train
        train.reading = SMALL
        (file,) = path.glob("*-train.tfrecord-*")
        file.write_bytes(file.read_bytes()[:60_000])
        batches = pipeline.training_batches(train, 6, 0, augmentation=RESIZED)
        model = keras.Sequential(
            [keras.layers.Flatten(), keras.layers.Dense(1000)]
        )
        model.compile(loss="sparse_categorical_crossentropy")
        with (
            self.assertRaisesRegex(
                InputError,
                "^The data set cannot be read; expected whole files of "
                r"this data set\. Received: truncated record at \d+",
            ),
            sources.refuse_broken(train),
        ):
            model.fit(batches, steps_per_epoch=30, shuffle=False, verbose=0)

    def test_labels_out_of_range(self):
        train = self.splits.validation
        with (
            mock.patch.object(train, "num_classes", 5),
            self.assertRaisesRegex(InputError, r"expected in \[0, 5\)"),
        ):
            train.read(np.arange(3))


if __name__ == "__main__":
    tf.test.main()
