"""The data sets, by name."""

from typing import NamedTuple

from fastbat_tf.errors import look_up


class DatasetSpec(NamedTuple):
    """What is known of a data set before it is read.

    Attributes:
        tfds_name: Name and version in TensorFlow Datasets; None for a set that
            this package holds.
        source_url: Where TensorFlow Datasets downloads it from, or None.
        num_classes: Number of labels, which count from 0.
        image_shape: `(height, width, channels)`.
        mean: Per channel, of the pixels in [0, 1].
        std: Per channel.
    """

    tfds_name: str | None
    source_url: str | None
    num_classes: int
    image_shape: tuple
    mean: tuple
    std: tuple


_CIFAR10 = {
    "num_classes": 10,
    "image_shape": (32, 32, 3),
    "mean": (0.4914, 0.4822, 0.4465),
    "std": (0.2470, 0.2435, 0.2616),
}

DATASETS = {
    "cifar10": DatasetSpec(
        "cifar10:3.0.2", "https://www.cs.toronto.edu/~kriz/", **_CIFAR10
    ),
    "cifar10_mini": DatasetSpec(None, None, **_CIFAR10),
}


def get(name):
    """Returns the `DatasetSpec` of `name`, or lists the known names."""
    return look_up(DATASETS, "data set", dataset=name)
