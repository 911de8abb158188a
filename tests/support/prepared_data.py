"""Writes small data sets like those that TensorFlow Datasets prepares."""

import numpy as np
import tensorflow_datasets as tfds

from fastbat_tf import data
from tests.support.image_data import pixels


def image_of(number, shape):
    """A unique image for each number."""
    image = pixels(number, *shape[:2])
    return np.ascontiguousarray(image[..., : shape[2]])


def label_of(number, classes):
    return 7 * number % classes


class Prepared(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A data set with the name, version and features of a published one.

    Args:
        dataset: A key of `fastbat_tf.data.DATASETS`.
        counts: Dict, the number of examples by split.
        classes: Integer, if others than the published ones.
        **kwargs: Arguments of the builder, such as `data_dir`.
    """

    VERSION = tfds.core.Version("0.0.0")

    def __init__(self, dataset, counts, classes=None, **kwargs):
        self.spec = data.get(dataset)
        self.counts = counts
        self.classes = classes or self.spec.num_classes
        self.name, version = self.spec.tfds_name.split(":")
        self.VERSION = tfds.core.Version(version)
        super().__init__(version=version, **kwargs)

    def _info(self):
        shape = self.spec.image_shape
        kwargs = {"shape": shape}
        if self.name == "imagenet2012":
            kwargs = {"encoding_format": "jpeg"}
        features = {
            "image": tfds.features.Image(**kwargs),
            "label": tfds.features.ClassLabel(num_classes=self.classes),
        }
        if self.name == "imagenet2012":
            features["file_name"] = tfds.features.Text()
        elif "mnist" not in self.name and self.name != "stl10":
            features["id"] = tfds.features.Text()
        if self.name == "cifar100":
            features["coarse_label"] = tfds.features.ClassLabel(num_classes=20)
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        # Later splits continue the numbering.
        starts = np.cumsum([0, *self.counts.values()])
        return {
            split: self._generate_examples(int(start), count)
            for start, (split, count) in zip(
                starts, self.counts.items(), strict=False
            )
        }

    def _generate_examples(self, start, count):
        shape = self.spec.image_shape
        for number in range(start, start + count):
            if self.name == "imagenet2012":  # Of mixed sizes.
                shape = (300 + 10 * (number % 7), 400 - 20 * (number % 5), 3)
            example = {
                "image": image_of(number, shape),
                "label": label_of(number, self.classes),
            }
            for name in self.info.features:
                if name in ("id", "file_name"):
                    example[name] = f"{number}"
                elif name == "coarse_label":
                    example[name] = 3
            yield number, example


def prepare(dataset, data_dir, counts, shards=1, classes=None):
    """Writes a prepared data set below `data_dir`.

    Args:
        dataset: A key of `fastbat_tf.data.DATASETS`.
        data_dir: Directory.
        counts: Dict, the number of examples by split.
        shards: Integer, the number of TFRecord files of each split.
        classes: Integer, if others than the published ones.
    """
    builder = Prepared(dataset, counts, classes, data_dir=data_dir)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(num_shards=shards)
    )
    return builder.data_path
