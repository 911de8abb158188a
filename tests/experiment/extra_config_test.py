"""The settings of extra images and of CutMix."""

import pathlib
import tempfile

import numpy as np
from absl.testing import absltest, parameterized

from fastbat_tf.data import extra_files
from fastbat_tf.errors import InputError
from fastbat_tf.experiment import differences
from fastbat_tf.experiment.config import Config, DataConfig, TrainingConfig


class ExtraConfigTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        directory = self.enterContext(tempfile.TemporaryDirectory())
        self.file = str(pathlib.Path(directory, "extra.npz"))
        images = np.zeros((3, 32, 32, 3), np.uint8)
        np.savez(self.file, image=images, label=np.arange(3))

    def test_defaults(self):
        config = DataConfig("cifar10", extra_data=self.file)
        self.assertEqual(config.extra_fraction, 0.7)
        file = extra_files.inspect(self.file, (32, 32, 3))
        self.assertEqual(config.extra_fingerprint, file.fingerprint)
        self.assertIsNone(DataConfig().extra_fraction)
        self.assertIsNone(DataConfig().mixed_classes)
        self.assertEqual(
            DataConfig("gtsrb", "d", cutmix=True).mixed_classes, 43
        )

    @parameterized.parameters(
        ({"extra_fraction": 0.5}, None, "with `extra_data`.*=0.5$"),
        ({"extra_fingerprint": "0"}, None, "with `extra_data`.*=0$"),
        ({"extra_fraction": 0.0}, "", r"in \(0, 1\).*=0.0$"),
        ({"extra_fraction": 1.0}, "", r"in \(0, 1\).*=1.0$"),
        ({"dataset": "mnist"}, "", r"\(examples, 28, 28, 1\)"),
        ({"dataset": "imagenet2012"}, "", "not apply.*imagenet2012"),
    )
    def test_refused(self, settings, file, message):
        if file is not None:
            settings = {**settings, "extra_data": self.file}
        with self.assertRaisesRegex(InputError, message):
            DataConfig(**settings)

    @parameterized.parameters(
        ({}, {"batch_size": 1}, "original and extra.*batch_size=1$"),
        ({"cutmix": True}, {"loss": "dlr"}, "cutmix=True, loss=dlr$"),
    )
    def test_trainings_that_are_refused(self, data, training, message):
        data = DataConfig("cifar10", extra_data=self.file, **data)
        with self.assertRaisesRegex(InputError, message):
            Config(data=data, training=TrainingConfig(**training))

    def test_cutmix_needs_two_images(self):
        with self.assertRaisesRegex(InputError, "batch_size=1$"):
            Config(
                data=DataConfig(cutmix=True),
                training=TrainingConfig(batch_size=1),
            )

    def test_command(self):
        config = Config(data=DataConfig(cutmix=True, extra_data=self.file))
        found = differences.differing(config)
        self.assertEqual(found, {"cutmix": "true", "extra_data": self.file})
        command = differences.command(config)
        self.assertIn(f"--cutmix --extra_data={self.file}", command)
        other = DataConfig(
            cutmix=True, extra_data=self.file, extra_fraction=0.5
        )
        found = differences.differing(Config(data=other))
        self.assertEqual(found["extra_fraction"], "0.5")
        restored = Config.from_dict(config.to_dict())
        self.assertEqual(restored, config)


if __name__ == "__main__":
    absltest.main()
