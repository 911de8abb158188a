"""Tests of the settings of the data: what applies to which data set."""

import json
import pathlib
import tempfile

from absl.testing import absltest, parameterized

from fastbat_tf import data
from fastbat_tf.errors import InputError
from fastbat_tf.experiment.config import Config, DataConfig


class DataConfigTest(parameterized.TestCase):
    @parameterized.parameters(
        ("cifar10", True, data.Augmentation(4)),
        ("cifar100", True, data.Augmentation(4, 15)),
        ("imagenet2012", True, data.Augmentation(resized_crop=True)),
        ("svhn_cropped", False, None),
        ("mnist", False, None),
    )
    def test_augment_is_resolved(self, name, augment, augmentation):
        config = DataConfig(name)
        self.assertIs(config.augment, augment)
        self.assertEqual(config.augmentation, augmentation)
        self.assertEqual(config.spec, data.get(name))
        off = DataConfig(name, augment=False)
        self.assertIs(off.augment, False)
        self.assertIsNone(off.augmentation)

    @parameterized.parameters(
        ({"dataset": "svhn_cropped", "augment": True}, "augment=True"),
        ({"dataset": "cifar10", "image_size": 32}, "image_size=32, "),
        ({"dataset": "cifar10", "image_size": 0}, "image_size=0, "),
        ({"dataset": "gtsrb", "data_dir": None}, "data_dir=None"),
        ({"dataset": "gtsrb", "data_dir": ""}, "data_dir="),
        ({"dataset": "tiny_imagenet"}, "data_dir=None"),
        ({"dataset": "mnist", "skip_unreadable": True}, "skip_unreadable="),
        ({"dataset": "mnist", "classes": ("a",)}, "classes=.*dataset=mnist"),
        ({"dataset": "cifar10_mini", "data_dir": "d"}, "data_dir=d"),
        ({"dataset": "folder", "image_size": 8}, "data_dir=None"),
        ({"dataset": "folder", "data_dir": "d"}, "image_size=None"),
        (
            {"dataset": "folder", "data_dir": "d", "image_size": 0},
            "image_size=0",
        ),
    )
    def test_what_does_not_apply(self, settings, received):
        with self.assertRaisesRegex(InputError, f"Received: .*{received}"):
            DataConfig(**settings)

    def test_folder(self):
        top = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        for name in ("b", "a", "C"):
            (top / "train" / name).mkdir(parents=True)
        config = DataConfig("folder", str(top), image_size=24)
        self.assertEqual(config.classes, ("C", "a", "b"))
        self.assertEqual(config.spec, data.get_folder(3, 24))
        self.assertEqual(config.augmentation, data.Augmentation(padding=3))
        groups = json.loads(json.dumps(Config(data=config).to_dict()))
        # Known from then on, also where the images are not.
        for name in ("b", "a", "C"):
            (top / "train" / name).rmdir()
        restored = Config.from_dict(groups).data
        self.assertEqual(restored, config)
        self.assertEqual(restored.spec.num_classes, 3)

    @parameterized.parameters(
        ("mnist", 28, 1, None),
        ("gtsrb", 32, 3, None),
        ("imagenet2012", 288, 3, 329),
    )
    def test_how_files_are_read(self, name, size, channels, short_side):
        """It is kept with a run, and another way is refused."""
        groups = Config(data=DataConfig(name, "there")).to_dict()
        self.assertEqual(
            groups["data"]["reading"],
            {
                "height": size,
                "width": size,
                "channels": channels,
                "short_side": short_side,
                "antialias": True,
            },
        )
        expected = Config.from_dict(groups)
        self.assertEqual(expected.to_dict(), groups)
        groups["data"]["reading"]["antialias"] = False
        with self.assertRaisesRegex(
            InputError,
            "^This version reads image files differently from the one that "
            r"made the run; expected reading=\{.*'antialias': True\}\. "
            r"Received: reading=\{.*'antialias': False\}$",
        ):
            Config.from_dict(groups)
        del groups["data"]["reading"]  # As of older runs.
        self.assertEqual(Config.from_dict(groups), expected)


if __name__ == "__main__":
    absltest.main()
