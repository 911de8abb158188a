"""Tests of the training batches: which images, how augmented, repeatable."""

import collections

import numpy as np
import tensorflow as tf
from absl.testing import parameterized

from fastbat_tf.data import pipeline
from fastbat_tf.data.loading import Examples
from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError

# Not square, so that rows and columns cannot be taken for each other.
HEIGHT, WIDTH = 6, 5


def random_images(count, dtype=np.uint8):
    random = np.random.default_rng(0)
    return random.integers(0, 256, (count, HEIGHT, WIDTH, 3)).astype(dtype)


def coordinates():
    """An image whose pixels hold their own row and column, from 1."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 0] = 1 + np.arange(HEIGHT)[:, np.newaxis]
    image[..., 1] = 1 + np.arange(WIDTH)
    return image


def crop_and_flip(images, tops, lefts, flips, padding):
    """`random_crop_and_flip`, image by image and pixel by pixel."""
    results = np.zeros_like(images)
    for image, result, top, left, flip in zip(
        images, results, tops, lefts, flips, strict=True
    ):
        for row in range(HEIGHT):
            for column in range(WIDTH):
                source_row = row + top - padding
                source_column = WIDTH - 1 - column if flip else column
                source_column += left - padding
                if 0 <= source_row < HEIGHT and 0 <= source_column < WIDTH:
                    result[row, column] = image[source_row, source_column]
    return results


def draw(draws, name, count, maximum):
    """The integers that the augmentation of `count` images draws."""
    return draws.uniform(name, (count, 1), 0, maximum, tf.int32).numpy()[:, 0]


def moves(images):
    """Per augmented image of `coordinates`, (down, right, flip) as seen."""
    found = []
    for image in np.asarray(images).astype(int):
        columns = image[image.any(axis=(1, 2))][0, :, 1]
        columns = columns[columns > 0]
        flip = bool(columns[0] > columns[-1])
        if flip:
            image = image[:, ::-1]
        row, column = np.argwhere(image[..., 0])[0]
        corner = image[row, column, :2] - 1
        down, right = (row, column) - corner
        found.append((int(down), int(right), flip))
    return found


class AugmentationTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.product(
        padding=(4, 2, 0), dtype=(np.uint8, np.float32, np.int32)
    )
    def test_pixel_by_pixel(self, padding, dtype):
        images, draws = random_images(20, dtype), Draws(seed=3, step=5)
        augmented = pipeline.random_crop_and_flip(
            tf.constant(images), draws, padding
        )
        expected = crop_and_flip(
            images,
            tops=draw(draws, "top", 20, 2 * padding + 1),
            lefts=draw(draws, "left", 20, 2 * padding + 1),
            flips=draw(draws, "flip", 20, 2),
            padding=padding,
        )
        self.assertEqual(augmented.dtype, tf.as_dtype(dtype))
        self.assertAllEqual(augmented, expected)
        if padding:
            self.assertNotAllEqual(augmented, images)

    def test_default_padding(self):
        images, draws = tf.constant(random_images(20)), Draws(3, 5)
        self.assertAllEqual(
            pipeline.random_crop_and_flip(images, draws),
            pipeline.random_crop_and_flip(images, draws, padding=4),
        )

    def test_inside_tf_data(self):
        images = random_images(12).reshape(3, 4, HEIGHT, WIDTH, 3)
        dataset = tf.data.Dataset.from_tensor_slices(images).enumerate()
        dataset = dataset.map(
            lambda number, batch: pipeline.random_crop_and_flip(
                batch, Draws(1, 2, number)
            )
        )
        for number, augmented in enumerate(dataset):
            draws = Draws(1, 2, number)
            expected = crop_and_flip(
                images[number],
                tops=draw(draws, "top", 4, 9),
                lefts=draw(draws, "left", 4, 9),
                flips=draw(draws, "flip", 4, 2),
                padding=4,
            )
            self.assertAllEqual(augmented, expected)

    def test_all_offsets_are_drawn_equally_often(self):
        # With a padding of 2, some of each image is left: what was drawn can
        # be read from it.
        count = 5000
        images = tf.constant(np.stack([coordinates()] * count))
        augmented = pipeline.random_crop_and_flip(images, Draws(0, 0), 2)
        counts = collections.Counter(moves(augmented))
        every = {
            (down, right, flip)
            for down in range(-2, 3)
            for right in range(-2, 3)
            for flip in (False, True)
        }
        self.assertEqual(set(counts), every)
        # Of 50 outcomes each is expected 100 times, give or take 10.
        self.assertBetween(min(counts.values()), 55, 100)
        self.assertBetween(max(counts.values()), 100, 145)

    def test_to_pixels(self):
        gray_levels = np.arange(256, dtype=np.uint8)
        pixels = pipeline.to_pixels(gray_levels)
        self.assertEqual(pixels.dtype, tf.float32)
        self.assertAllEqual(pixels, gray_levels.astype("float32") / 255)


class TrainingBatchesTest(parameterized.TestCase, tf.test.TestCase):
    def setUp(self):
        super().setUp()
        # 23 images, of which each names its label in all its pixels.
        labels = np.arange(23, dtype=np.int32)
        images = np.zeros((23, HEIGHT, WIDTH, 3), np.uint8)
        images += 10 * labels.astype(np.uint8)[:, None, None, None] + 1
        self.examples = Examples(images, labels)

    def take(self, count, batch_size=5, seed=0, **kwargs):
        """The first batches, as arrays."""
        dataset = pipeline.training_batches(
            self.examples, batch_size, seed, **kwargs
        )
        return list(dataset.take(count).as_numpy_iterator())

    def test_type_and_shape(self):
        dataset = pipeline.training_batches(self.examples, 5, seed=0)
        images, labels = dataset.element_spec
        # The shape of the batch is static, for XLA.
        self.assertEqual(images, tf.TensorSpec((5, HEIGHT, WIDTH, 3)))
        self.assertEqual(labels, tf.TensorSpec((5,), tf.int32))

    @parameterized.parameters(True, False)
    def test_pixels(self, augment):
        for images, labels in self.take(4, augment=augment):
            self.assertEqual(images.dtype, np.float32)
            shades = (10 * labels + 1).astype(np.float32) / np.float32(255)
            shades = np.broadcast_to(shades[:, None, None, None], images.shape)
            # The images belong to the labels; zeros come from the padding.
            inside = images > 0
            self.assertAllEqual(images[inside], shades[inside])
            self.assertEqual(inside.all(), not augment)

    def test_range_of_the_pixels(self):
        images = np.zeros((2, HEIGHT, WIDTH, 3), np.uint8)
        images[1] = 255
        examples = Examples(images, np.arange(2, dtype=np.int32))
        dataset = pipeline.training_batches(examples, 2, 0, augment=False)
        images, _ = next(dataset.as_numpy_iterator())
        self.assertAllEqual(np.unique(images), [0, 1])

    def test_each_epoch_is_a_permutation(self):
        # 4 batches of 5 leave over 3 of the 23 examples.
        labels = [labels for _, labels in self.take(4 * 100)]
        epochs = np.reshape(labels, (100, 20))
        for epoch in epochs:
            self.assertLen(set(epoch), 20)
        # Which examples are left over changes: all get their turn.
        times_left_over = 100 - np.bincount(epochs.ravel(), minlength=23)
        self.assertAllInRange(times_left_over, 3, 30)  # 13 expected.

    def test_no_two_epochs_have_the_same_order(self):
        # A generator of few permutations would show: of 1,000 random ones,
        # two of 200 would be the same almost surely.
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
            # Two epochs of two batches; all images are the same, so that only
            # the augmentation makes the batches differ.
            batches = pipeline.training_batches(examples, 20, seed).take(4)
            return [images for images, _ in batches.as_numpy_iterator()]

        batches = drawn(seed=1) + drawn(seed=2)
        distinct = {batch.tobytes() for batch in batches}
        self.assertLen(distinct, 8)

    def test_augmentation_is_that_of_epoch_and_batch(self):
        # Batch 5 is the second of the second epoch.
        plain, augmented = (
            self.take(1, seed=9, first_batch=5, augment=augment)[0][0]
            for augment in (False, True)
        )
        expected = pipeline.random_crop_and_flip(
            tf.constant(plain), Draws(9, 1, 1)
        )
        self.assertAllEqual(augmented, expected)

    def test_a_batch_larger_than_the_split(self):
        with self.assertRaisesRegex(
            InputError,
            "^The training split holds 23 images, expected at least one "
            "batch. Received: batch_size=24$",
        ):
            self.take(1, batch_size=24)


if __name__ == "__main__":
    tf.test.main()
