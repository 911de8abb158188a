"""Tests the registry of data sets."""

import subprocess
import sys
from pathlib import Path

from absl.testing import absltest, parameterized

from fastbat_tf import data
from fastbat_tf.data import registry
from fastbat_tf.errors import InputError

TOP = Path(__file__).absolute().parents[2]


# Classes, shape, images for training and test, augmentation, validation rule.
PUBLISHED = {
    "cifar10": (10, (32, 32, 3), 50_000, 10_000, (4, 0, False), "last"),
    "cifar100": (100, (32, 32, 3), 50_000, 10_000, (4, 15, False), "last"),
    "svhn_cropped": (10, (32, 32, 3), 73_257, 26_032, None, "last"),
    "gtsrb": (43, (32, 32, 3), 39_209, 12_630, None, "balanced tracks"),
    "tiny_imagenet": (
        *(200, (64, 64, 3), 100_000, 10_000, (4, 0, False), "balanced"),
    ),
    "imagenet2012": (
        *(1000, (288, 288, 3), 1_281_167, 50_000, (0, 0, True), "last"),
    ),
    "mnist": (10, (28, 28, 1), 60_000, 10_000, None, "last"),
    "fashion_mnist": (10, (28, 28, 1), 60_000, 10_000, None, "last"),
    "stl10": (10, (96, 96, 3), 5_000, 8_000, (12, 0, False), "last"),
    "cifar10_mini": (10, (32, 32, 3), 4_000, 1_000, (4, 0, False), "last"),
}
COLORS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "svhn_cropped": ((0.4377, 0.4438, 0.4728), (0.1201, 0.1231, 0.1052)),
    "gtsrb": ((0.3403, 0.3121, 0.3214), (0.2724, 0.2608, 0.2669)),
    "tiny_imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "imagenet2012": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2860,), (0.3530,)),
}


class DataTest(parameterized.TestCase):
    def test_all_are_published_or_the_users(self):
        self.assertEqual(set(data.DATASETS), {*PUBLISHED, "folder"})

    @parameterized.parameters(*PUBLISHED)
    def test_spec(self, name):
        spec = data.get(name)
        self.assertIs(spec, data.DATASETS[name])
        self.assertEqual(
            (
                spec.num_classes,
                spec.image_shape,
                *spec.counts,
                spec.augmentation,
                spec.validation,
            ),
            PUBLISHED[name],
        )
        if name in COLORS:
            self.assertEqual((spec.mean, spec.std), COLORS[name])
        channels = spec.image_shape[-1]
        self.assertLen(spec.mean, channels)
        self.assertLen(spec.std, channels)
        for mean, std in zip(spec.mean, spec.std, strict=True):
            # For pixels in [0, 1], not gray levels.
            self.assertBetween(mean, 0, 1)
            self.assertBetween(std, 0, 0.5)

    @parameterized.parameters(*data.DATASETS)
    def test_source(self, name):
        spec = data.get(name)
        self.assertEqual(spec.source == "tfds", spec.tfds_name is not None)
        self.assertEqual(spec.source == "archive", spec.directory is not None)
        if spec.source == "tfds":
            self.assertRegex(spec.tfds_name, rf"^{name}:\d+\.\d+\.\d+$")
        if spec.source_url:
            self.assertRegex(spec.source_url, "^https?://")

    @parameterized.parameters(*PUBLISHED)
    def test_memory(self, name):
        # Data sets that are read into memory take less than the limit.
        spec = data.get(name)
        height, width, channels = spec.image_shape
        size = max(spec.counts) * height * width * channels
        streamed = name == "imagenet2012"
        self.assertEqual(size > registry.MEMORY_LIMIT, streamed)

    def test_cifar10_mini_is_like_cifar10(self):
        self.assertEqual(
            data.get("cifar10_mini"),
            data.get("cifar10")._replace(
                source="embedded",
                counts=(4_000, 1_000),
                tfds_name=None,
                source_url=None,
            ),
        )

    def test_folder(self):
        self.assertIsNone(data.get("folder").num_classes)
        spec = data.get_folder(num_classes=7, image_size=48)
        self.assertEqual(spec.num_classes, 7)
        self.assertEqual(spec.image_shape, (48, 48, 3))
        self.assertEqual(spec.augmentation, data.Augmentation(padding=6))
        self.assertEqual(spec.validation, "balanced")

    def test_unknown_name(self):
        with self.assertRaises(InputError) as caught:
            data.get("imagenet")
        self.assertEqual(
            str(caught.exception),
            "Unknown data set. Expected one of "
            f"{', '.join(data.DATASETS)}. Received: dataset=imagenet",
        )

    def test_needs_no_tensorflow(self):
        program = (
            "import sys, fastbat_tf.data, fastbat_tf.data.folder\n"
            "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
        )
        subprocess.run([sys.executable, "-c", program], cwd=TOP, check=True)


if __name__ == "__main__":
    absltest.main()
