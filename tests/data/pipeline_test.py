"""Tests training batches: their images, augmentation, repeatability."""

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.data import Augmentation, pipeline
from fastbat_tf.data.augmentation import random_crop_and_flip, random_rotation
from fastbat_tf.data.loading import Examples
from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError

# Not square, so that rows and columns cannot be confused.
HEIGHT, WIDTH = 6, 5
CROP = Augmentation(padding=4)


def coordinates():
    """An image whose pixels hold their own row and column, from 1."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 0] = 1 + np.arange(HEIGHT)[:, np.newaxis]
    image[..., 1] = 1 + np.arange(WIDTH)
    return image


class TrainingBatchesTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        # 23 images, each with its label in all pixels.
        labels = np.arange(23, dtype=np.int32)
        images = np.zeros((23, HEIGHT, WIDTH, 3), np.uint8)
        images += 10 * labels.astype(np.uint8)[:, None, None, None] + 1
        self.examples = Examples(images, labels)

    def take(self, count, batch_size=5, seed=0, augmentation=CROP, **kwargs):
        """The first batches, as arrays."""
        dataset = pipeline.training_batches(
            self.examples,
            batch_size,
            seed,
            augmentation=augmentation,
            **kwargs,
        )
        return list(dataset.take(count).as_numpy_iterator())

    def test_type_and_shape(self):
        dataset = pipeline.training_batches(self.examples, 5, seed=0)
        images, labels = dataset.element_spec
        # The shape of the batch is static, for XLA.
        self.assertEqual(images, tf.TensorSpec((5, HEIGHT, WIDTH, 3)))
        self.assertEqual(labels, tf.TensorSpec((5,), tf.int32))

    @parameterized.named_parameters(("augmented", CROP), ("plain", None))
    def test_pixels(self, augmentation):
        for images, labels in self.take(4, augmentation=augmentation):
            self.assertEqual(images.dtype, np.float32)
            shades = (10 * labels + 1).astype(np.float32) / np.float32(255)
            shades = np.broadcast_to(shades[:, None, None, None], images.shape)
            # The images belong to the labels; zeros come from the padding.
            inside = images > 0
            self.assertAllEqual(images[inside], shades[inside])
            self.assertEqual(inside.all(), augmentation is None)

    def test_range_of_the_pixels(self):
        images = np.zeros((2, HEIGHT, WIDTH, 3), np.uint8)
        images[1] = 255
        examples = Examples(images, np.arange(2, dtype=np.int32))
        dataset = pipeline.training_batches(examples, 2, 0)
        images, _ = next(dataset.as_numpy_iterator())
        self.assertAllEqual(np.unique(images), [0, 1])

    def test_each_epoch_is_a_permutation(self):
        # 4 batches of 5 omit 3 of the 23 examples.
        labels = [labels for _, labels in self.take(4 * 100)]
        epochs = np.reshape(labels, (100, 20))
        for epoch in epochs:
            self.assertLen(set(epoch), 20)
        # The omitted examples change, so that all are used.
        times_left_over = 100 - np.bincount(epochs.ravel(), minlength=23)
        self.assertAllInRange(times_left_over, 3, 30)  # 13 expected.

    def test_no_two_epochs_have_the_same_order(self):
        # A generator with few permutations would show: of 1,000 random ones,
        # two of 200 would almost surely be equal.
        orders = {
            labels.tobytes()
            for seed in (0, 1)
            for _, labels in self.take(100, batch_size=23, seed=seed)
        }
        self.assertEqual(len(orders), 200)

    @parameterized.parameters(1, 23)
    def test_batches_that_divide_the_split_leave_nothing_over(self, size):
        batches = self.take(2 * 23 // size, batch_size=size)
        labels = np.concatenate([labels for _, labels in batches])
        self.assertAllEqual(np.sort(labels[:23]), np.arange(23))
        self.assertAllEqual(np.sort(labels[23:]), np.arange(23))
        self.assertNotAllEqual(labels[:23], labels[23:])

    def test_repeats_for_a_seed(self):
        first, again, other = (self.take(9, seed=s) for s in (7, 7, 8))
        self.assertAllEqual(
            [labels for _, labels in first], [labels for _, labels in again]
        )
        self.assertAllEqual(
            [images for images, _ in first], [images for images, _ in again]
        )
        for (_, labels), (_, others) in zip(first, other, strict=True):
            self.assertNotAllEqual(labels, others)

    @parameterized.parameters(1, 3, 4, 6, 9)
    def test_first_batch_skips(self, first):
        whole, rest = self.take(12), self.take(12 - first, first_batch=first)
        for (images, labels), (others, other_labels) in zip(
            whole[first:], rest, strict=True
        ):
            self.assertAllEqual(labels, other_labels)
            self.assertAllEqual(images, others)

    def test_augmentation_differs_by_batch_epoch_and_seed(self):
        images = np.stack([coordinates()] * 40)
        examples = Examples(images, np.zeros(40, np.int32))

        def drawn(seed):
            # Two epochs of two batches; all images are equal, so that only
            # the augmentation distinguishes the batches.
            batches = pipeline.training_batches(
                examples, 20, seed, augmentation=CROP
            ).take(4)
            return [images for images, _ in batches.as_numpy_iterator()]

        batches = drawn(seed=1) + drawn(seed=2)
        distinct = {batch.tobytes() for batch in batches}
        self.assertLen(distinct, 8)

    def test_augmentation_is_that_of_epoch_and_batch(self):
        # Batch 5 is the second of the second epoch.
        plain, augmented = (
            self.take(1, 5, 9, augmentation, first_batch=5)[0][0]
            for augmentation in (None, CROP)
        )
        expected = random_crop_and_flip(
            tf.constant(plain), Draws(9, 1, 1), padding=4
        )
        self.assertAllEqual(augmented, expected)

    def test_index(self):
        plain = self.take(6)
        for (images, labels), (expected, _) in zip(
            self.take(6, with_index=True), plain, strict=True
        ):
            self.assertEqual(images["index"].dtype, np.int32)
            # Each example's label is its index.
            self.assertAllEqual(images["index"], labels)
            self.assertAllEqual(images["images"], expected)

    @parameterized.parameters(
        {"first_batch": 2, "with_index": True},
        {"augmentation": Augmentation(padding=1, degrees=9)},
    )
    def test_rows_of_workers(self, **kwargs):
        """Together, workers read what one process reads."""
        whole = self.take(4, batch_size=6, **kwargs)
        parts = [
            self.take(4, batch_size=6, rows=rows, **kwargs)
            for rows in (range(0, 2), range(2, 4), range(4, 6))
        ]
        for batch, *own in zip(whole, *parts, strict=True):
            together = tf.nest.map_structure(lambda *x: np.concatenate(x), *own)
            tf.nest.map_structure(self.assertAllEqual, batch, together)

    def test_rotation(self):
        turned = self.take(1, augmentation=CROP._replace(degrees=15))[0][0]
        upright = self.take(1)[0][0]
        expected = random_rotation(
            tf.constant(upright), Draws(0, 0, 0), degrees=15
        )
        self.assertAllEqual(turned, expected)
        self.assertNotAllEqual(turned, upright)

    def test_a_batch_larger_than_the_split(self):
        with self.assertRaisesRegex(
            InputError,
            "^The training split is expected to hold at least one batch, but "
            "has 23 images. Received: batch_size=24$",
        ):
            self.take(1, batch_size=24)


if __name__ == "__main__":
    tf.test.main()
