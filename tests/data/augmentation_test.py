"""Tests the augmentation, pixel by pixel, against plain loops."""

import collections
import io
import math

import numpy as np
import tensorflow as tf
from absl.testing import parameterized
from PIL import Image

from fastbat_tf import data
from fastbat_tf.data import Augmentation, augmentation, image_files
from fastbat_tf.draws import Draws
from tests.support import testing
from tests.support.image_data import pixels, resize

# Not square, so that rows and columns cannot be confused.
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
    """The observed (down, right, flip) of images of `coordinates`."""
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
        augmented = augmentation.random_crop_and_flip(
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

    @parameterized.product(highest=(False, True), padding=(0, 2, 4, 9))
    def test_ends_of_the_draws(self, highest, padding):
        """The outermost crops stay within the padded image."""
        images = random_images(3)
        with testing.extreme_draws(highest):
            found = augmentation.random_crop_and_flip(
                tf.constant(images), Draws(0, 0), padding
            )
        offsets = [2 * padding * highest] * 3
        expected = crop_and_flip(
            images, offsets, offsets, [highest] * 3, padding
        )
        self.assertAllEqual(found, expected)

    @parameterized.product(highest=(False, True), degrees=(90, 180))
    def test_ends_of_the_rotation(self, highest, degrees):
        images = random_images(3)[:, :WIDTH]  # Square.
        with testing.extreme_draws(highest):
            found = augmentation.random_rotation(
                tf.constant(images), Draws(0, 0), degrees
            )
        # Within 2e-5 degrees of whole quarters.
        quarters = degrees // 90 * (1 if highest else -1)
        expected = np.rot90(images, quarters, axes=(1, 2))
        self.assertAllEqual(found, expected)

    def test_inside_tf_data(self):
        images = random_images(12).reshape(3, 4, HEIGHT, WIDTH, 3)
        dataset = tf.data.Dataset.from_tensor_slices(images).enumerate()
        dataset = dataset.map(
            lambda number, batch: augmentation.random_crop_and_flip(
                batch, Draws(1, 2, number), padding=4
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
        # With a padding of 2, a part of each image is left, from which the
        # draws can be read.
        count = 5000
        images = tf.constant(np.stack([coordinates()] * count))
        augmented = augmentation.random_crop_and_flip(images, Draws(0, 0), 2)
        counts = collections.Counter(moves(augmented))
        every = {
            (down, right, flip)
            for down in range(-2, 3)
            for right in range(-2, 3)
            for flip in (False, True)
        }
        self.assertEqual(set(counts), every)
        # Each of 50 outcomes is expected 100 times, give or take 10.
        self.assertBetween(min(counts.values()), 55, 100)
        self.assertBetween(max(counts.values()), 100, 145)

    def test_to_pixels(self):
        gray_levels = np.arange(256, dtype=np.uint8)
        pixels = augmentation.to_pixels(gray_levels)
        self.assertEqual(pixels.dtype, tf.float32)
        self.assertAllEqual(pixels, gray_levels.astype("float32") / 255)


def rotate(image, angle):
    """Nearest-pixel rotation, counterclockwise, pixel by pixel."""
    height, width, _ = image.shape
    result = np.zeros_like(image)
    cosine, sine = math.cos(angle), math.sin(angle)
    for row in range(height):
        for column in range(width):
            # Up and to the right of the center.
            up, right = (height - 1) / 2 - row, column - (width - 1) / 2
            # The inverse rotation.
            source_right = right * cosine + up * sine
            source_up = -right * sine + up * cosine
            source_row = math.floor((height - 1) / 2 - source_up + 0.5)
            source_column = math.floor((width - 1) / 2 + source_right + 0.5)
            if 0 <= source_row < height and 0 <= source_column < width:
                result[row, column] = image[source_row, source_column]
    return result


class RotationTest(parameterized.TestCase, tf.test.TestCase):
    def angles(self, draws, count, degrees):
        drawn = draws.uniform(
            "angle", (count, 1), -degrees, degrees, tf.float64
        )
        return np.radians(drawn.numpy()[:, 0])

    @parameterized.product(
        degrees=(15, 180), shape=((32, 32, 3), (7, 12, 1), (9, 4, 2))
    )
    def test_pixel_by_pixel(self, degrees, shape):
        random = np.random.default_rng(1)
        images = random.integers(1, 256, (12, *shape)).astype(np.uint8)
        draws = Draws(2, 3)
        rotated = augmentation.random_rotation(images, draws, degrees)
        angles = self.angles(draws, 12, degrees)
        expected = [rotate(*pair) for pair in zip(images, angles, strict=True)]
        self.assertEqual(rotated.dtype, tf.uint8)
        self.assertAllEqual(rotated, expected)
        graph = tf.function(augmentation.random_rotation, autograph=False)
        self.assertAllEqual(graph(images, draws, degrees), expected)
        # Like Pillow, and thus torchvision: the same direction and center.
        for image, angle, result in zip(
            images[..., 0], angles, rotated.numpy()[..., 0], strict=True
        ):
            theirs = Image.fromarray(image).rotate(np.degrees(angle))
            same = np.mean(np.asarray(theirs) == result)
            self.assertGreater(same, 0.95)

    def test_angles(self):
        drawn = np.degrees(self.angles(Draws(0, 0), 2000, 15))
        self.assertBetween(drawn.min(), -15, -14.9)
        self.assertBetween(drawn.max(), 14.9, 15)
        self.assertBetween(drawn.mean(), -0.6, 0.6)  # A standard error of 0.2.

    def test_after_crop_and_flip(self):
        images, draws = random_images(20), Draws(3, 5)
        cropped = augmentation.random_crop_and_flip(images, draws, 2)
        expected = augmentation.random_rotation(cropped, draws, 30)
        both = augmentation.augment(images, draws, Augmentation(2, 30))
        self.assertAllEqual(both, expected)
        self.assertNotAllEqual(both, cropped)
        upright = augmentation.augment(images, draws, Augmentation(2))
        self.assertAllEqual(upright, cropped)

    def test_none(self):
        images = random_images(3)
        for nothing in (None, Augmentation(resized_crop=True)):
            self.assertAllEqual(
                augmentation.augment(images, Draws(0, 0), nothing), images
            )


def box(height, width, draws):
    """`resized_crop_box`, attempt by attempt."""
    areas = draws.uniform("area", (10,), 0.08, 1.0, tf.float64).numpy()
    logarithms = draws.uniform(
        "ratio", (10,), math.log(3 / 4), math.log(4 / 3), tf.float64
    ).numpy()
    for area, logarithm in zip(areas, logarithms, strict=True):
        area, ratio = area * height * width, math.exp(logarithm)
        new_width = round(math.sqrt(area * ratio))
        new_height = round(math.sqrt(area / ratio))
        if 0 < new_width <= width and 0 < new_height <= height:
            top, left = (
                int(draws.uniform(name, (), 0, free + 1, tf.int32))
                for name, free in (
                    ("top", height - new_height),
                    ("left", width - new_width),
                )
            )
            return top, left, new_height, new_width
    new_height, new_width = height, width
    if width / height < 3 / 4:
        new_height = round(width / (3 / 4))
    elif width / height > 4 / 3:
        new_width = round(height * (4 / 3))
    top, left = (height - new_height) // 2, (width - new_width) // 2
    return top, left, new_height, new_width


def as_jpeg(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=95)
    decoded = np.asarray(Image.open(io.BytesIO(stream.getvalue())))
    return tf.constant(stream.getvalue()), decoded


class ResizedCropTest(parameterized.TestCase, tf.test.TestCase):
    @parameterized.parameters(
        (50, 40), (375, 500), (30, 100), (100, 30), (3, 300), (1, 1), (2, 1)
    )
    def test_box(self, height, width):
        @tf.function(autograph=False)
        def find(height, width, step):
            return augmentation.resized_crop_box(height, width, Draws(5, step))

        sides = tf.constant(height), tf.constant(width)
        found = set()
        for step in range(60):
            given = find(*sides, tf.constant(step)).numpy().tolist()
            self.assertEqual(tuple(given), box(height, width, Draws(5, step)))
            top, left, rows, columns = given
            self.assertBetween(top, 0, height - rows)
            self.assertBetween(left, 0, width - columns)
            found.add(tuple(given))
        if min(height, width) >= 40:
            self.assertGreater(len(found), 50)
            areas = [box[2] * box[3] / height / width for box in found]
            self.assertBetween(min(areas), 0.07, 0.2)
            self.assertBetween(max(areas), 0.7, 1.0)

    @parameterized.product(
        highest=(False, True),
        shape=((1, 1), (1, 90), (90, 1), (7, 3), (60, 80), (375, 500)),
    )
    def test_ends_of_the_draws(self, highest, shape):
        height, width = shape
        encoded, _ = as_jpeg(np.zeros((*shape, 3), np.uint8) + 200)
        with testing.extreme_draws(highest):
            draws = Draws(0, 0)
            found = augmentation.resized_crop_box(
                tf.constant(height), tf.constant(width), draws
            ).numpy()
            self.assertEqual(tuple(found), box(height, width, draws))
            crop = image_files.decode_resized_crop(
                encoded, data.Reading(8, 8, 3), draws
            )
        top, left, rows, columns = found
        self.assertBetween(rows, 1, height - top)
        self.assertBetween(columns, 1, width - left)
        self.assertGreaterEqual(min(top, left), 0)
        self.assertAllEqual(crop, np.full((8, 8, 3), 200))

    def test_images_that_no_box_fits(self):
        found = augmentation.resized_crop_box(
            tf.constant(3), tf.constant(300), Draws(0, 0)
        )
        self.assertAllEqual(found, [0, 148, 3, 4])

    def test_pixels(self):
        encoded, image = as_jpeg(pixels(4, 60, 80))
        flips = 0
        for step in range(20):
            draws = Draws(1, step)
            crop = image_files.decode_resized_crop(
                encoded, data.Reading(32, 32, 3), draws
            )
            self.assertEqual(crop.dtype, tf.uint8)
            top, left, height, width = box(60, 80, draws)
            expected = resize(
                image[top : top + height, left : left + width], 32, 32
            )
            if draws.uniform("flip", (), 0, 2, tf.int32):
                flips += 1
                expected = expected[:, ::-1]
            self.assertAllClose(crop, expected, 0, 0.51)
        self.assertBetween(flips, 4, 16)

    @parameterized.parameters((60, 80), (90, 41), (32, 32), (21, 700), (20, 20))
    def test_center_crop(self, height, width):
        encoded, image = as_jpeg(pixels(5, height, width))
        reading = data.Reading.center_crop(32, 32, 3)
        crop = image_files.decode(encoded, reading)
        self.assertEqual(crop.dtype, tf.uint8)
        self.assertEqual(crop.shape, (32, 32, 3))
        # 32 * 256 / 224 = 36.6.
        short = min(height, width)
        rows, columns = 37 * height // short, 37 * width // short
        whole = resize(image, rows, columns)
        top, left = round((rows - 32) / 2), round((columns - 32) / 2)
        expected = whole[top : top + 32, left : left + 32]
        self.assertAllClose(crop, expected, 0, 0.51)

    def test_size_of_imagenet(self):
        reading = data.get("imagenet2012").reading
        self.assertEqual(reading, data.Reading(288, 288, 3, 329))

    def test_gray(self):
        encoded, image = as_jpeg(pixels(6, 40, 40)[..., 0])
        reading = data.Reading.center_crop(35, 35, 3)
        crop = image_files.decode(encoded, reading)
        self.assertAllEqual(crop[..., 0], crop[..., 2])
        self.assertAllClose(crop[..., 1], image[2:37, 2:37], 0, 40)


if __name__ == "__main__":
    tf.test.main()
