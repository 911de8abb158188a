"""Tests that serving and evaluation read the same images."""

import contextlib
import io
import itertools
import pathlib
import tempfile
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from absl.testing import parameterized
from PIL import Image

from fastbat_tf import data
from fastbat_tf.data import Reading, image_files, loading, prepared
from fastbat_tf.data.augmentation import to_pixels
from fastbat_tf.errors import InputError
from fastbat_tf.experiment.config import DataConfig
from fastbat_tf.saving.export import export
from tests.data.image_files_test import png_of_16_bits
from tests.support import image_data
from tests.support.image_data import encode
from tests.support.prepared_data import prepare

RANDOM = np.random.default_rng(0)
COLORS = RANDOM.integers(0, 256, (9, 7, 3), np.uint8)
GRAY = COLORS[..., 0]
ALPHA = np.dstack([COLORS, GRAY[..., np.newaxis]])
# The decoders are equal; matrix products are summed in another order.
ROUNDING = 1e-4


def linear(shape, seed=0):
    """A classifier that depends on every pixel."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input(shape)
    x = keras.layers.Rescaling(8.0, -4.0)(inputs)
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(x))
    return keras.Model(inputs, outputs)


class ServingTest(parameterized.TestCase, tf.test.TestCase):
    """Compares `serve_bytes` for the files of a test split with the images."""

    _served = {}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.directory = pathlib.Path(directory.name)
        cls.addClassCleanup(cls._served.clear)

    def setUp(self):
        super().setUp()
        self.top = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory())
        )

    def served(self, reading):
        """A classifier and its SavedModel, for one reading."""
        if reading not in self._served:
            shape = reading.height, reading.width, reading.channels
            path = self.directory / str(len(self._served))
            export(linear(shape), path, reading=reading)
            self._served[reading] = (
                linear(shape),
                tf.saved_model.load(path),
            )
        classifier, model = self._served[reading]
        return classifier, model.signatures["serve_bytes"]

    def assert_same(self, files, images, reading):
        self.assertLen(files, len(images))
        classifier, serve = self.served(reading)
        logits = classifier(to_pixels(images)).numpy()
        answer = serve(encoded=tf.constant(files))
        self.assertAllClose(answer["logits"], logits, ROUNDING, ROUNDING)
        # A difference of one level in one of a hundred pixels would show.
        self.assertGreater(np.abs(logits).max(), 0.1)

    @parameterized.parameters(
        *(n for n, spec in data.DATASETS.items() if spec.source == "tfds")
    )
    def test_tensorflow_datasets(self, name):
        spec = data.get(name)
        with contextlib.redirect_stdout(io.StringIO()):
            prepare(name, self.top, {"train": 2, spec.test_split: 3})
        test = loading.load_test(DataConfig(name, str(self.top)))
        builder = prepared.get(name, str(self.top))
        records = builder.as_dataset(
            split=spec.test_split,
            decoders={"image": tfds.decode.SkipDecoding()},
        )
        files = [record["image"].numpy() for record in records]
        self.assert_same(files, test.read(np.arange(3)).images, spec.reading)

    def test_images_of_this_package(self):
        spec = data.get("cifar10_mini")
        images = loading.load_test(DataConfig("cifar10_mini")).images[:4]
        self.assert_same([encode(x) for x in images], images, spec.reading)

    def test_archives(self):
        image_data.write_gtsrb(self.top, tracks=(1, 1), photographs=1)
        image_data.write_tiny_imagenet(self.top, train=1)
        for name, changes, pattern in (
            ("gtsrb", {"counts": (43, 5)}, "GTSRB/Final_Test/Images/*.ppm"),
            (
                "tiny_imagenet",
                {"counts": (3, 6), "num_classes": 3},
                "tiny-imagenet-200/val/images/*.JPEG",
            ),
        ):
            spec = data.get(name)._replace(**changes)
            with mock.patch.dict(data.DATASETS, {name: spec}):
                test = loading.load_test(DataConfig(name, str(self.top)))
            files = [x.read_bytes() for x in sorted(self.top.glob(pattern))]
            self.assert_same(files, test.images, spec.reading)

    def folder(self, size):
        settings = DataConfig("folder", str(self.top), image_size=size)
        return loading.load_test(settings), settings.spec.reading

    def write_folder(self, files):
        """Files by name, as the test images of a class."""
        for name in ("train/a/x", "train/b/x", "test/b/x"):
            image_data.write(self.top / f"{name}.png", COLORS)
        for name, content in files.items():
            path = self.top / "test" / "a" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def test_a_folder_that_is_resized(self):
        """From 224 to 64, where averaging matters."""
        images = RANDOM.integers(0, 256, (6, 224, 224, 3), np.uint8)
        images[3:] = 255 * (images[3:] > 99)
        options = itertools.cycle([{"kind": "JPEG", "quality": 90}, {}])
        files = {
            f"{n}.img": encode(image, **next(options))
            for n, image in enumerate(images)
        }
        self.write_folder(files)
        test, reading = self.folder(64)
        self.assert_same(list(files.values()), test.images[:6], reading)
        # Without averaging or without rounding, the results differ.
        plain = tf.image.resize(images[1], (64, 64)) - test.images[1]
        self.assertGreater(np.abs(plain).mean(), 10)

    def test_streamed(self):
        """The training reads a folder that is too large for memory."""
        images = RANDOM.integers(0, 256, (3, 20, 31, 3), np.uint8)
        files = {f"{n}.png": encode(x) for n, x in enumerate(images)}
        self.write_folder(files)
        self.enterContext(mock.patch.object(loading, "MEMORY_LIMIT", 100))
        test, reading = self.folder(8)
        streamed, _ = test.reader()(tf.range(3))
        self.assert_same(list(files.values()), streamed, reading)

    def test_kinds_of_images(self):
        rotated = Image.Exif()
        rotated[0x0112] = 6
        other = Image.fromarray(255 - COLORS)
        palette = Image.fromarray(COLORS).quantize(16)
        animated = {"save_all": True, "append_images": [other, other]}
        cmyk = Image.fromarray(COLORS).convert("CMYK")
        deep = COLORS * np.uint16(256) + 200
        files = [
            encode(GRAY),
            encode(GRAY, "JPEG"),
            encode(GRAY, "BMP"),
            encode(GRAY, "GIF"),
            encode(GRAY, "PPM"),
            encode(GRAY, "WEBP"),
            encode(np.ascontiguousarray(ALPHA[..., 2:])),
            encode(ALPHA),
            encode(ALPHA, "BMP"),
            encode(ALPHA, "WEBP", lossless=True),
            encode(GRAY * np.uint16(256) + 200),
            png_of_16_bits(deep),
            encode(palette),
            encode(palette, transparency=3),
            encode(palette, "GIF"),
            encode(palette, "GIF", transparency=3),
            encode(palette, "BMP"),
            encode(GRAY > 99),
            encode(COLORS, "BMP"),
            encode(COLORS, "PPM"),
            encode(COLORS, "GIF", **animated),
            encode(COLORS, "PNG", **animated),
            encode(COLORS, "JPEG", exif=rotated),
            encode(COLORS, "JPEG", progressive=True, subsampling=2),
            encode(cmyk, "JPEG"),
            encode(COLORS[:1, :1]),
            encode(COLORS[:1]),
            encode(COLORS[:, :1], "JPEG"),
            encode(RANDOM.integers(0, 256, (3, 500, 3), np.uint8)),
        ]
        self.write_folder({f"{n:02d}": file for n, file in enumerate(files)})
        for size in (9, 33):
            test, reading = self.folder(size)
            self.assert_same(files, test.images[: len(files)], reading)

    def test_what_both_refuse(self):
        other = Image.fromarray(255 - COLORS)
        animated = {"save_all": True, "append_images": [other]}
        png, gif = encode(COLORS), encode(COLORS, "GIF")
        header = bytearray(encode(COLORS, "BMP"))
        header[30] = 1  # Declared as compressed.
        files = {
            "empty": (b"", "it is empty"),
            "text": (b"P no image", "it is not a PNG, JPEG"),
            "tiff": (encode(COLORS, "TIFF"), "it is not a PNG, JPEG"),
            "animated": (
                encode(COLORS, "WEBP", **animated),
                "it is an animated WebP file",
            ),
            "bits": (encode(GRAY > 99, "BMP"), "a BMP file is expected"),
            "packed": (bytes(header), "a BMP file is expected"),
            "plain": (b"P3 1 1 255 1 2 3 ", "it is not a PNG"),
            "deep": (b"P6 1 1 65535\n" + bytes(6), "a PPM file is expected"),
            "short": (encode(COLORS, "PPM")[:-1], "it is truncated"),
            "frame": (gif[: len(gif) // 2], "it is truncated"),
            "cut": (png[: len(png) // 2], ""),
            "changed": (png[:60] + b"????" + png[64:], ""),
            "jpeg": (encode(COLORS, "JPEG")[:300], ""),
        }
        self.write_folder({})
        _, serve = self.served(Reading(9, 7, 3))
        for name, (content, reason) in files.items():
            with self.subTest(name):
                path = self.top / name
                path.write_bytes(content)
                with self.assertRaisesRegex(
                    InputError, rf"Received: file={path} \(.*{reason}.*\)$"
                ) as caught:
                    image_files.read([path], Reading(9, 7, 3))
                self.assertNotIn("\n", str(caught.exception))
                with self.assertRaisesRegex(
                    tf.errors.InvalidArgumentError,
                    "Each image is expected as a whole file of PNG, JPEG, "
                    "WebP, GIF, BMP or PPM. Received: encoded.1.: "
                    f"{reason or 'it is truncated or damaged'}",
                ):
                    serve(encoded=tf.constant([png, content, png]))

    def test_some_of_a_batch(self):
        _, serve = self.served(Reading(9, 7, 3))
        png = encode(COLORS)
        files = [b"", png, png[:50], *[b""] * 9]
        with self.assertRaisesRegex(
            tf.errors.InvalidArgumentError,
            r"Received: encoded\[0\]: it is empty, encoded\[2\]: it is "
            r"truncated or damaged, encoded\[3\]: .*"
            r"encoded\[5\]: it is empty\]",
        ):
            serve(encoded=tf.constant(files))

    def test_broken_files_are_answered_as_they_are_trained_on(self):
        """If a decoder tolerates an error, it does so in both."""
        classifier, serve = self.served(Reading(9, 7, 3))
        whole = [
            encode(COLORS, "JPEG"),
            encode(COLORS, "GIF"),
            encode(COLORS, "WEBP"),
            encode(COLORS, "BMP"),
        ]
        path, answered = self.top / "x", 0
        for number in range(80):
            content = bytearray(whole[number % 4])
            content[RANDOM.integers(len(content))] ^= 1 << number // 4 % 8
            path.write_bytes(content)
            images, readable = image_files.read(
                [path], Reading(9, 7, 3), skip_unreadable=True
            )
            try:
                logits = serve(encoded=tf.constant([bytes(content)]))["logits"]
            except tf.errors.InvalidArgumentError:
                self.assertFalse(readable[0])
                continue
            self.assertTrue(readable[0])
            expected = classifier(to_pixels(images))
            self.assertAllClose(logits, expected, ROUNDING, ROUNDING)
            answered += 1
        self.assertBetween(answered, 20, 79)

    def test_colors_for_a_classifier_of_gray_levels(self):
        classifier, serve = self.served(Reading(9, 7, 1))
        levels = [GRAY, np.asarray(Image.fromarray(COLORS).convert("L"))]
        files = [encode(GRAY, "JPEG", quality=100), encode(COLORS, "BMP")]
        logits = classifier(to_pixels(np.stack(levels)[..., np.newaxis]))
        answer = serve(encoded=tf.constant(files))["logits"]
        # JPEG differs by some levels, and the other rounding by one.
        self.assertAllClose(answer, logits, 0, 0.5)
        self.assertGreater(np.abs(logits[0] - logits[1]).max(), 1)


if __name__ == "__main__":
    tf.test.main()
