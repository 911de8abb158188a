"""Tests of the registry of data sets."""

import subprocess
import sys
from pathlib import Path

from absl.testing import absltest, parameterized

from fastbat_tf import data
from fastbat_tf.errors import InputError

TOP = Path(__file__).absolute().parent.parent


class DataTest(parameterized.TestCase):
    @parameterized.parameters(*data.DATASETS)
    def test_spec(self, name):
        spec = data.get(name)
        self.assertIs(spec, data.DATASETS[name])
        self.assertGreaterEqual(spec.num_classes, 2)
        height, width, channels = spec.image_shape
        self.assertGreater(min(height, width), 0)
        self.assertLen(spec.mean, channels)
        self.assertLen(spec.std, channels)
        for mean, std in zip(spec.mean, spec.std, strict=True):
            # Of pixels in [0, 1]: not of gray levels.
            self.assertBetween(mean, 0, 1)
            self.assertBetween(std, 0, 0.5)

    @parameterized.parameters(*data.DATASETS)
    def test_source(self, name):
        spec = data.get(name)
        if spec.tfds_name is None:
            self.assertIsNone(spec.source_url)
        else:
            self.assertRegex(spec.tfds_name, r"^\w+:\d+\.\d+\.\d+$")
            self.assertStartsWith(spec.source_url, "https://")

    def test_cifar10(self):
        spec = data.get("cifar10")
        self.assertEqual(spec.tfds_name, "cifar10:3.0.2")
        self.assertEqual(spec.num_classes, 10)
        self.assertEqual(spec.image_shape, (32, 32, 3))
        self.assertEqual(spec.mean, (0.4914, 0.4822, 0.4465))
        self.assertEqual(spec.std, (0.2470, 0.2435, 0.2616))

    def test_cifar10_mini_is_like_cifar10(self):
        mini, whole = data.get("cifar10_mini"), data.get("cifar10")
        self.assertEqual(mini, whole._replace(tfds_name=None, source_url=None))

    def test_unknown_name(self):
        with self.assertRaises(InputError) as caught:
            data.get("mnist")
        self.assertEqual(
            str(caught.exception),
            "Unknown data set. Expected one of "
            f"{', '.join(data.DATASETS)}. Received: dataset=mnist",
        )

    def test_needs_no_tensorflow(self):
        program = (
            "import sys, fastbat_tf.data\n"
            "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
        )
        subprocess.run([sys.executable, "-c", program], cwd=TOP, check=True)


if __name__ == "__main__":
    absltest.main()
