"""Tests the decoding of image files."""

import os
import pathlib
import tempfile
from unittest import mock

import numpy as np
import tensorflow as tf
from absl.testing import absltest, parameterized
from PIL import Image

from fastbat_tf.data import Reading, image_files
from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError
from tests.support.image_data import pixels, png, resize, write

RANDOM = np.random.default_rng(0)
COLORS = RANDOM.integers(0, 256, (9, 7, 3), np.uint8)
GRAY = np.repeat(COLORS[..., :1], 3, axis=-1)
READING = Reading(8, 8, 3)
ALPHA = RANDOM.integers(0, 256, (9, 7, 1), np.uint8)


def png_of_16_bits(colors):
    """A PNG file of 16 bits per channel, which Pillow cannot write."""
    height, width, _ = colors.shape
    rows = [b"\0" + row.astype(">u2").tobytes() for row in colors]
    return png(width, height, 16, rows, colors=True)


class DecodeTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.top = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory())
        )

    def decode(self, name, image, size=(9, 7), mode=None, **options):
        path = self.top / name
        image.save(path, **options)
        with Image.open(path) as saved:
            self.assertEqual(saved.mode, mode or image.mode)
        decoded = image_files.read_file(path, Reading(*size, 3))
        self.assertEqual(decoded.dtype, np.uint8)
        self.assertEqual(decoded.shape, (*size, 3))
        return decoded

    @parameterized.parameters("png", "bmp", "webp")
    def test_lossless_formats(self, suffix):
        options = {"lossless": True} if suffix == "webp" else {}
        decoded = self.decode(f"x.{suffix}", Image.fromarray(COLORS), **options)
        np.testing.assert_array_equal(decoded, COLORS)

    @parameterized.named_parameters(
        ("transparent", np.dstack([COLORS, ALPHA]), "RGBA", COLORS),
        ("gray", COLORS[..., 0], "L", GRAY),
        ("gray_transparent", np.dstack([GRAY[..., :1], ALPHA]), "LA", GRAY),
        # The upper 8 of 16 bits.
        ("gray_of_16_bits", GRAY[..., 0] * np.uint16(256) + 200, "I;16", GRAY),
    )
    def test_mode(self, image, mode, expected):
        image = Image.fromarray(np.ascontiguousarray(image))
        decoded = self.decode("x.png", image, mode=mode)
        np.testing.assert_array_equal(decoded, expected)

    def test_colors_of_16_bits(self):
        path = self.top / "x.png"
        path.write_bytes(png_of_16_bits(COLORS * np.uint16(256) + 200))
        decoded = image_files.read_file(path, Reading(9, 7, 3))
        np.testing.assert_array_equal(decoded, COLORS)

    @parameterized.parameters(
        ("x.png", {}), ("x.png", {"transparency": 3}), ("x.gif", {})
    )
    def test_palette(self, name, options):
        palette = Image.fromarray(COLORS).quantize(256)
        decoded = self.decode(name, palette, **options)
        np.testing.assert_array_equal(decoded, COLORS)

    def test_black_and_white(self):
        bits = COLORS[..., 0] > 99
        decoded = self.decode("x.png", Image.fromarray(bits))
        np.testing.assert_array_equal(decoded[..., 1], 255 * bits)

    @parameterized.parameters("RGB", "L", "CMYK")
    def test_jpeg(self, mode):
        smooth = pixels(1, 16, 24)
        image = Image.fromarray(smooth).convert(mode)
        decoded = self.decode("x.jpg", image, (16, 24), quality=98)
        expected = np.asarray(image.convert("RGB")).astype(int)
        self.assertLess(np.abs(decoded - expected).max(), 12)

    def test_first_frame(self):
        frames = [Image.fromarray(pixels(n)) for n in (1, 2)]
        decoded = self.decode(
            "x.png",
            frames[0],
            (8, 8),
            save_all=True,
            append_images=frames[1:],
        )
        np.testing.assert_array_equal(decoded, pixels(1))

    @parameterized.parameters((4, 3), (5, 14), (18, 4), (23, 21))
    def test_resized(self, height, width):
        decoded = self.decode("x.png", Image.fromarray(COLORS), (height, width))
        expected = resize(COLORS, height, width)
        self.assertLess(np.abs(decoded - expected).max(), 0.51)

    def test_ppm(self):
        path = write(self.top / "x.ppm", COLORS)
        decoded = image_files.read_file(path, Reading(9, 7, 3))
        np.testing.assert_array_equal(decoded, COLORS)
        decoded = image_files.read_file(path, Reading(4, 5, 3))
        difference = decoded - resize(COLORS, 4, 5)
        self.assertLess(np.abs(difference).max(), 0.51)

    def test_other_formats(self):
        path = write(self.top / "x.tiff", COLORS)
        with self.assertRaisesRegex(ValueError, "it is not a PNG, JPEG"):
            image_files.read_file(path, Reading(9, 7, 3))


class ReadTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.top = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory())
        )
        self.paths = [
            write(self.top / f"{n:02d}.png", pixels(n)) for n in range(20)
        ]
        self.images = np.stack([pixels(n) for n in range(20)])

    def test_in_order(self):
        images, readable = image_files.read(self.paths, READING)
        np.testing.assert_array_equal(images, self.images)
        self.assertTrue(readable.all())

    def break_one(self, how):
        path = self.paths[13]
        content = path.read_bytes()
        if how == "missing":
            path.unlink()
        elif how == "directory":
            path.unlink()
            path.mkdir()
        else:
            path.write_bytes(
                {
                    "empty": b"",
                    "text": b"not an image",
                    "cut": content[: len(content) // 2],
                    "changed": content[:60] + b"????" + content[64:],
                }[how]
            )
        return path

    @parameterized.parameters(
        "missing", "directory", "empty", "text", "cut", "changed"
    )
    def test_unreadable(self, how):
        path = self.break_one(how)
        for keep in (True, False):
            with self.assertRaisesRegex(
                InputError,
                "^An image cannot be read; expected a whole file of "
                r"PNG, JPEG, WebP, GIF, BMP or PPM\. "
                rf"Received: file={path} \(.+\)$",
            ):
                image_files.read(self.paths, READING, keep=keep)
        rest = np.arange(20) != 13
        images, readable = image_files.read(self.paths, READING, True)
        np.testing.assert_array_equal(images, self.images[rest])
        np.testing.assert_array_equal(readable, rest)
        images, readable = image_files.read(self.paths, READING, True, False)
        self.assertIsNone(images)
        np.testing.assert_array_equal(readable, rest)

    def test_images_that_would_take_too_much_memory(self):
        """Rejected by their headers: these files contain no pixels."""
        narrow = png(1, 101, 8, 101 * [b"\0\0"])
        crop = Reading.center_crop(8, 8, 3)
        for content, reading, message in (
            (png(20_000, 20_000, 8, []), READING, "has 20000 x 20000"),
            (png(40_000, 1, 8, []), READING, "has 1 x 40000"),
            (narrow, crop, "more than 100 times as long as the other"),
        ):
            self.paths[3].write_bytes(content)
            with self.assertRaisesRegex(
                InputError, rf"Received: file={self.paths[3]} \(.*{message}\)$"
            ):
                image_files.read(self.paths[:5], reading)
        # It is accepted if the whole image is resized.
        images, _ = image_files.read(self.paths[3:4], READING)
        np.testing.assert_array_equal(images, np.zeros((1, 8, 8, 3)))

    def test_files_without_an_end(self):
        """They are not read: the file of 10 GB takes no space on the disk."""
        with self.paths[2].open("r+b") as file:
            file.truncate(10 * 2**30)
        self.paths[3].unlink()
        os.mkfifo(self.paths[3])
        self.paths[4].unlink()
        self.paths[4].symlink_to("/dev/zero")
        for number, message in (
            (2, f"at most {image_files.MAX_BYTES} bytes, but has {10 * 2**30}"),
            (3, "it is a device or a pipe, not a file"),
            (4, "it is a device or a pipe, not a file"),
        ):
            path = self.paths[number]
            with self.assertRaisesRegex(
                InputError, rf"Received: file={path} \(.*{message}\)$"
            ):
                image_files.read([path], READING)
        images, readable = image_files.read(self.paths[:5], READING, True)
        self.assertLen(images, readable.sum())
        np.testing.assert_array_equal(readable[2:], False)

    def test_a_random_crop_refuses_what_the_centre_crop_refuses(self):
        """Training and test accept the same files."""
        reading = Reading.center_crop(8, 8, 3)
        draws = Draws(0, 0)

        def readers():
            for function in (
                lambda file: image_files.decode(file, reading),
                lambda file: image_files.decode_resized_crop(
                    file, reading, draws
                ),
            ):
                yield function
                yield tf.function(
                    function, [tf.TensorSpec((), tf.string)], autograph=False
                )

        for content, message in (
            (png(1, 101, 8, 101 * [b"\0\0"]), "more than 100 times as long"),
            (png(20_000, 20_000, 8, []), "has 20000 x 20000"),
            (b"no image", "it is not a PNG"),
        ):
            for read in readers():
                with self.assertRaisesRegex(
                    tf.errors.InvalidArgumentError,
                    f"An image cannot be read: .*{message}",
                ):
                    read(tf.constant(content))
        content = png(1, 100, 8, 100 * [b"\0\x32"])
        for read in readers():
            np.testing.assert_array_equal(
                read(tf.constant(content)), np.full((8, 8, 3), 50)
            )

    def test_an_image_of_too_many_pixels(self):
        with (
            mock.patch.object(Image, "MAX_IMAGE_PIXELS", 20),
            self.assertRaisesRegex(InputError, "00.png .*bomb"),
        ):
            image_files.read(self.paths[:1], READING)


if __name__ == "__main__":
    absltest.main()
