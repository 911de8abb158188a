"""Batches with extra images: which, in which order, wherever they are made."""

import pathlib
import re
import tempfile

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.data import (
    Augmentation,
    Reading,
    extra,
    extra_files,
    pipeline,
)
from fastbat_tf.data.augmentation import augment
from fastbat_tf.data.sources import Examples, Files
from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError
from tests.support import testing

# An image of 63 bytes: no part of it is aligned.
HEIGHT, WIDTH = 7, 3
SHAPE = HEIGHT, WIDTH, 3
OWN, EXTRA = 23, 17
BATCH, FRACTION = 8, 0.4  # round(3.2) = 3 extra images.
CROP = Augmentation(padding=2)
SEED = 3


def numbered(count, first, shape=SHAPE):
    """Images whose pixels are all different from those of other images."""
    generator = np.random.default_rng(first)
    images = generator.integers(0, 256, (count, *shape), dtype=np.uint8)
    images[:, 0, 0, 0] = first + np.arange(count)
    return Examples(images, (np.arange(count, dtype=np.int32) * 3) % 10)


class ExtraTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.directory = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory())
        )
        self.own, self.more = numbered(OWN, 0), numbered(EXTRA, 100)
        self.all_images, self.all_labels = (
            np.concatenate(parts)
            for parts in zip(self.own, self.more, strict=True)
        )
        self.split = extra.WithExtra(self.own, self.stored(), FRACTION)

    def stored(self, examples=None, save=np.savez):
        examples = examples or self.more
        path = self.directory / "extra.npz"
        save(path, label=examples.labels, image=examples.images)
        file = extra_files.inspect(path, examples.images.shape[1:])
        return extra.StoredImages(file, extra_files.read_labels(file, 10))

    def take(self, count, **settings):
        settings = {"with_index": True, **settings}
        batches = pipeline.training_batches(self.split, BATCH, SEED, **settings)
        return list(batches.take(count).as_numpy_iterator())

    @parameterized.parameters(
        (SHAPE,), ((4, 4, 4),), ((32, 32, 3),), ((28, 28, 1),), ((1, 1, 3),)
    )
    def test_stored_images(self, shape):
        """Each of them, up to the last one of the file, in any order."""
        for count in (1, 2, 9):
            examples = numbered(count, 5, shape)
            stored = self.stored(examples)
            for order in (range(count), [count - 1, 0, count - 1]):
                images, labels = stored.reader()(tf.constant([*order]))
                self.assertAllEqual(images, examples.images[order])
                self.assertAllEqual(labels, examples.labels[order])

    def test_the_last_member_of_the_file(self):
        path = self.directory / "b.npz"
        np.savez(path, labels=self.more.labels, images=self.more.images)
        file = extra_files.inspect(path, SHAPE)
        stored = extra.StoredImages(file, self.more.labels)
        images, _ = stored.reader()(tf.range(EXTRA))
        self.assertAllEqual(images, self.more.images)

    def test_images_belong_to_their_indices(self):
        for batch, labels in self.take(9):
            index = batch["index"]
            pixels = self.all_images[index] / np.float32(255)
            self.assertAllEqual(batch["images"], pixels)
            self.assertAllEqual(labels, self.all_labels[index])
            self.assertEqual((index >= OWN).sum(), 3)
            self.assertEqual(labels.dtype, np.int32)

    def test_both_kinds_come_in_one_order_after_another(self):
        """All are used equally often, across batches and epochs."""
        index = np.concatenate([b["index"] for b, _ in self.take(230)])
        is_own = index < OWN
        kinds = (index[is_own], OWN), (index[~is_own] - OWN, EXTRA)
        for kind, count in kinds:
            passes = len(kind) // count
            self.assertGreater(passes, 20)
            orders = set()
            # In a batch they are shuffled, so that the passes overlap there.
            for each in range(1, passes + 1):
                used = np.bincount(kind[: each * count], minlength=count)
                self.assertAllInRange(used, each - 1, each + 1)
                orders.add(kind[(each - 1) * count : each * count].tobytes())
            self.assertLen(orders, passes)

    def test_order_by_brute_force(self):
        """A loop over lists finds the same indices."""
        queues = {"originals": [], "extra": []}
        passes = dict.fromkeys(queues, 0)

        def draw(name, size, number):
            while len(queues[name]) < number:
                key = Draws(SEED, passes[name]).key(name)
                queues[name] += shuffle(np.arange(size), key)
                passes[name] += 1
            drawn, queues[name] = queues[name][:number], queues[name][number:]
            return drawn

        def shuffle(values, key):
            shuffled = tf.random.experimental.stateless_shuffle(
                tf.constant(values, tf.int32), key, "philox"
            )
            return shuffled.numpy().tolist()

        steps = OWN // BATCH
        for k, (batch, _) in enumerate(self.take(12)):
            chosen = draw("originals", OWN, 5)
            chosen += [OWN + j for j in draw("extra", EXTRA, 3)]
            key = Draws(SEED, k // steps, k % steps).key("mixed")
            self.assertAllEqual(batch["index"], shuffle(chosen, key))

    def test_augmentation_is_that_of_other_images(self):
        steps = OWN // BATCH
        plain = self.take(5)
        for k, (batch, _) in enumerate(self.take(5, augmentation=CROP)):
            index = batch["index"]
            self.assertAllEqual(index, plain[k][0]["index"])
            draws = Draws(SEED, k // steps, k % steps)
            expected = augment(tf.constant(self.all_images[index]), draws, CROP)
            self.assertAllEqual(
                batch["images"], expected.numpy() / np.float32(255)
            )

    @parameterized.parameters(1, 2, 7, 31)
    def test_first_batch(self, first):
        whole = self.take(first + 4, augmentation=CROP)
        rest = self.take(4, augmentation=CROP, first_batch=first)
        self.assertAllEqual(flat(whole[first:]), flat(rest))

    @parameterized.parameters((None, 4), (10, 2))
    def test_rows_of_workers(self, cutmix, workers):
        settings = {"augmentation": CROP, "mixed_classes": cutmix}
        whole = self.take(2, **settings)
        size = BATCH // workers
        parts = [
            self.take(2, rows=range(first, first + size), **settings)
            for first in range(0, BATCH, size)
        ]
        for k, (batch, labels) in enumerate(whole):
            for name in ("images", "index"):
                own = np.concatenate([part[k][0][name] for part in parts])
                self.assertAllEqual(own, batch[name])
            own = np.concatenate([part[k][1] for part in parts])
            self.assertAllEqual(own, labels)

    def test_two_replicas(self):
        strategy = testing.two_cpu_strategy()
        batches = pipeline.training_batches(
            self.split, BATCH, SEED, with_index=True, augmentation=CROP
        )
        iterator = iter(strategy.experimental_distribute_dataset(batches))
        for batch, labels in self.take(3, augmentation=CROP):
            found = tf.nest.map_structure(
                lambda part: tf.concat(
                    strategy.experimental_local_results(part), 0
                ),
                next(iterator),
            )
            tf.nest.map_structure(self.assertAllEqual, found, (batch, labels))

    def test_files(self):
        """Image files and extra images in one batch."""
        paths = []
        for number, image in enumerate(self.own.images):
            paths.append(self.directory / f"{number}.png")
            paths[-1].write_bytes(tf.io.encode_png(image).numpy())
        files = Files(paths, self.own.labels, Reading(*SHAPE))
        expected = flat(self.take(4, augmentation=CROP))
        self.split = extra.WithExtra(files, self.stored(), FRACTION)
        self.assertAllEqual(flat(self.take(4, augmentation=CROP)), expected)

    def test_memory(self):
        """Batches of a file of 92 MB do not take 92 MB."""
        count = 30_000
        path = self.directory / "large.npz"
        np.savez(
            path,
            image=np.zeros((count, 32, 32, 3), np.uint8),
            label=np.zeros(count, np.int64),
        )
        file = extra_files.inspect(path, (32, 32, 3))
        read = tf.function(
            extra.StoredImages(file, np.zeros(count, np.int32)).reader()
        )
        before = memory()
        for first in range(10):
            images, _ = read(tf.range(first, count, 300))
            self.assertEqual(images.shape, (100, 32, 32, 3))
        self.assertLess(memory() - before, 46e6)

    def test_steps_per_epoch_do_not_change(self):
        for batch_size in (2, 5, 8):
            self.assertEqual(
                pipeline.batches_per_epoch(self.split, batch_size, True),
                pipeline.batches_per_epoch(self.own, batch_size, True),
            )
        with self.assertRaisesRegex(InputError, "23 images"):
            pipeline.batches_per_epoch(self.split, 24)

    def test_too_few_extra_images(self):
        self.split = extra.WithExtra(self.own, self.more.first(2), FRACTION)
        with self.assertRaisesRegex(InputError, "= 3.*2 images"):
            self.take(1)


def memory():
    """The bytes of memory that this process holds."""
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])


def flat(batches):
    return [
        np.concatenate([np.reshape(part, -1) for part in tf.nest.flatten(each)])
        for each in batches
    ]


if __name__ == "__main__":
    tf.test.main()
