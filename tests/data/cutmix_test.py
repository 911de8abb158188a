"""CutMix: against a loop over images, and equal wherever it is computed."""

import contextlib
import io
import math
import tempfile

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.data import Augmentation, Reading, cutmix, loading, pipeline
from fastbat_tf.data.resident import ResidentBatches
from fastbat_tf.data.sources import Examples
from fastbat_tf.draws import Draws
from tests.support import testing
from tests.support.prepared_data import prepare

# Not square, so that rows and columns cannot be confused.
HEIGHT, WIDTH, CLASSES = 9, 6, 4
BATCH, COUNT, SEED = 7, 23, 4  # The half of a batch is not half of it.
CROP = Augmentation(padding=1)


def examples():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), np.uint8)
    return Examples(images, np.arange(COUNT, dtype=np.int32) % CLASSES)


def mixed(images, labels, draws, classes=CLASSES):
    """Mixes a batch, image by image, as the paper says."""
    batch, height, width, _ = images.shape
    kept, rows, columns = (
        draws.uniform(f"cutmix_{name}", (batch, 1), 0, high, dtype).numpy()
        for name, high, dtype in (
            ("lambda", 1, "float64"),
            ("row", height, "int32"),
            ("column", width, "int32"),
        )
    )
    result, targets = images.copy(), np.zeros((batch, classes), np.float32)
    for i in range(batch):
        partner = (i + batch // 2) % batch
        side = math.sqrt(1 - kept[i, 0])
        count = 0
        half_height = int(height * side) // 2
        half_width = int(width * side) // 2
        for row in range(height):
            for column in range(width):
                if (
                    -half_height <= row - rows[i, 0] < half_height
                    and -half_width <= column - columns[i, 0] < half_width
                ):
                    result[i, row, column] = images[partner, row, column]
                    count += 1
        share = np.float32(count) / np.float32(height * width)
        targets[i, labels[i]] += 1 - share
        targets[i, labels[partner]] += share
    return result, targets


class CutMixTest(parameterized.TestCase, tf.test.TestCase):
    def take(self, count, split=None, **settings):
        batches = pipeline.training_batches(
            split or examples(), BATCH, SEED, augmentation=CROP, **settings
        )
        return list(batches.take(count).as_numpy_iterator())

    def test_by_brute_force(self):
        steps = COUNT // BATCH
        plain = self.take(8)
        found = self.take(8, mixed_classes=CLASSES)
        shares = []
        for k, (images, labels) in enumerate(found):
            draws = Draws(SEED, k // steps, k % steps)
            expected = mixed(*plain[k], draws)
            self.assertAllEqual(images, expected[0])
            self.assertAllEqual(labels, expected[1])
            self.assertEqual(labels.dtype, np.float32)
            shares.append(np.max(labels, -1))
        self.assertAllClose(np.sum(labels, -1), np.ones(BATCH), atol=1e-7)
        self.assertGreater(np.std(shares), 0.1)

    def test_shares(self):
        """Lambda is uniform: without clipping, a mean share of a half."""
        count, size = 4000, 64
        inside, area = cutmix._boxes(Draws(0, 0), count, size, size)
        self.assertAllEqual(
            tf.reduce_sum(tf.cast(inside, tf.int32), (1, 2)), area
        )
        # A box of side s has the area s - s^2 / 4 in expectation on each
        # axis, that of s = sqrt(U): the square's mean, integrated over U.
        sides = np.sqrt((np.arange(10_000) + 0.5) / 10_000)
        expected = np.mean((sides - sides**2 / 4) ** 2)
        self.assertNear(np.mean(area) / size**2, expected, 0.02)

    def test_the_index_is_that_of_the_image_itself(self):
        plain = self.take(3, with_index=True)
        found = self.take(3, with_index=True, mixed_classes=CLASSES)
        for (batch, _), (expected, _) in zip(found, plain, strict=True):
            self.assertAllEqual(batch["index"], expected["index"])

    @parameterized.parameters(1, 4, 9)
    def test_first_batch(self, first):
        settings = {"mixed_classes": CLASSES}
        whole = self.take(first + 2, **settings)[first:]
        rest = self.take(2, first_batch=first, **settings)
        tf.nest.map_structure(self.assertAllEqual, whole, rest)

    def test_rows_of_workers(self):
        """Also if the partners begin in one part, and end in another."""
        sizes = 2, 4, 1
        whole = self.take(2, mixed_classes=CLASSES)
        ends = np.cumsum(sizes)
        parts = [
            self.take(2, mixed_classes=CLASSES, rows=range(end - size, end))
            for size, end in zip(sizes, ends, strict=True)
        ]
        joined = [
            tuple(np.concatenate(part) for part in zip(*each, strict=True))
            for each in zip(*parts, strict=True)
        ]
        tf.nest.map_structure(self.assertAllEqual, joined, whole)

    @parameterized.parameters((1, False), (1, True), (2, False))
    def test_resident_batches(self, replicas, jit_compile):
        strategy = tf.distribute.get_strategy()
        if replicas == 2:
            strategy = testing.two_cpu_strategy()
        size = 6
        settings = {"augmentation": CROP, "mixed_classes": CLASSES}
        batches = ResidentBatches(examples(), size, SEED, **settings)
        placed, order = batches.place(strategy), batches.order(1)

        def read(placed, batch):
            return batches.read(placed, order, epoch=1, batch=batch)

        if replicas == 1:
            read = tf.function(read, jit_compile=jit_compile)
        expected = pipeline.training_batches(
            examples(), size, SEED, first_batch=COUNT // size, **settings
        )
        for batch, theirs in enumerate(expected.take(2)):
            number = tf.constant(batch, tf.int64)
            ours = tf.function(strategy.run)(read, args=(placed, number))
            ours = tf.nest.map_structure(
                lambda part: tf.concat(
                    strategy.experimental_local_results(part), 0
                ),
                ours,
            )
            tf.nest.map_structure(self.assertAllEqual, ours, theirs)

    def test_records(self):
        """Images that are read one by one are mixed in batches, too."""
        directory = self.enterContext(tempfile.TemporaryDirectory())
        with contextlib.redirect_stdout(io.StringIO()):
            prepare("imagenet2012", directory, {"train": 20, "validation": 2})
        train = loading.load("imagenet2012", directory).train
        train.reading = Reading.center_crop(8, 6, 3)
        plain = self.take(3, train)
        settings = {"mixed_classes": 1000, "first_batch": 1}
        found = self.take(2, train, **settings)
        steps = train.size // BATCH
        for k, batch in enumerate(found, 1):
            draws = Draws(SEED, k // steps, k % steps)
            expected = mixed(*plain[k], draws, classes=1000)
            tf.nest.map_structure(self.assertAllEqual, batch, expected)
        own = self.take(2, train, rows=range(3, 5), **settings)
        for (images, labels), (whole, all_labels) in zip(
            own, found, strict=True
        ):
            self.assertAllEqual(images, whole[3:5])
            self.assertAllEqual(labels, all_labels[3:5])


if __name__ == "__main__":
    tf.test.main()
