"""The names of the classes of a data set."""

import contextlib
import pathlib
from typing import Any

from fastbat_tf.data import prepared
from fastbat_tf.data.options import DataConfig

CIFAR10 = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
# The archive of GTSRB holds numbers only.
GTSRB = (
    *(f"Speed limit ({speed} km/h)" for speed in (20, 30, 50, 60, 70, 80)),
    "End of speed limit (80 km/h)",
    *(f"Speed limit ({speed} km/h)" for speed in (100, 120)),
    "No passing",
    "No passing for vehicles over 3.5 t",
    "Right of way at the next intersection",
    "Priority road",
    "Yield",
    "Stop",
    "No vehicles",
    "Vehicles over 3.5 t prohibited",
    "No entry",
    "General caution",
    "Dangerous curve to the left",
    "Dangerous curve to the right",
    "Double curve",
    "Bumpy road",
    "Slippery road",
    "Road narrows on the right",
    "Road work",
    "Traffic signals",
    "Pedestrians",
    "Children crossing",
    "Bicycles crossing",
    "Beware of ice or snow",
    "Wild animals crossing",
    "End of all speed and passing limits",
    "Turn right ahead",
    "Turn left ahead",
    "Ahead only",
    "Go straight or right",
    "Go straight or left",
    "Keep right",
    "Keep left",
    "Roundabout",
    "End of no passing",
    "End of no passing for vehicles over 3.5 t",
)


def class_names(settings: DataConfig) -> list[str]:
    """Returns the names of the classes of a data set, by label.

    Args:
        settings: The `DataConfig`.

    Returns:
        A list of strings: the directories of `folder`, the names that
        TensorFlow Datasets gives, or those that come with the data.

    Raises:
        InputError: If the data set cannot be read.

    Example:

    >>> class_names(DataConfig("cifar10_mini"))[:3]
    ['airplane', 'automobile', 'bird']
    """
    spec = settings.spec
    if spec.source == "folder":
        return list(settings.classes)
    if spec.source == "tfds":
        builder = prepared.get(settings.dataset, settings.data_dir)
        features: Any = builder.info.features
        return list(features["label"].names)
    if settings.dataset == "tiny_imagenet":
        return _tiny_imagenet(pathlib.Path(settings.data_dir, spec.directory))
    return list({"cifar10_mini": CIFAR10, "gtsrb": GTSRB}[settings.dataset])


def _tiny_imagenet(directory):
    """The first word of each class, or its number in WordNet."""
    words = {}
    with contextlib.suppress(OSError, UnicodeDecodeError):  # Not always kept.
        for line in (directory / "words.txt").read_text().splitlines():
            number, _, text = line.partition("\t")
            words[number] = text.partition(",")[0]
    names = sorted(p.name for p in directory.glob("train/*") if p.is_dir())
    return [words.get(name, name) for name in names]
