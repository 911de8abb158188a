"""The names of the classes of a data set."""

import contextlib
import pathlib
from typing import Any

from fastbat_tf.data import prepared
from fastbat_tf.data.options import DataConfig
from fastbat_tf.errors import InputError

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
# Their classes are called by their numbers.
DIGITS = ("mnist", "svhn_cropped")
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
        return _names(prepared.get(settings.dataset, settings.data_dir))
    if settings.dataset == "tiny_imagenet":
        return _tiny_imagenet(pathlib.Path(settings.data_dir, spec.directory))
    return list({"cifar10_mini": CIFAR10, "gtsrb": GTSRB}[settings.dataset])


def known_class_names(settings: DataConfig) -> list[str] | None:
    """Returns the names of the classes as far as they are known here.

    Unlike `class_names`, it downloads nothing.

    Args:
        settings: The `DataConfig`.

    Returns:
        A list of strings, or None.
    """
    spec = settings.spec
    if settings.dataset == "cifar10":
        return list(CIFAR10)
    found: list[str] = []
    try:
        if spec.source == "tfds":
            found = _names(prepared.find(settings.dataset, settings.data_dir))
        else:
            found = class_names(settings)
    except (InputError, OSError):
        return None
    numbers = [str(label) for label in range(spec.num_classes or 0)]
    # What TensorFlow Datasets says of names that it has not downloaded.
    is_unnamed = found == numbers and settings.dataset not in DIGITS
    return found if len(found) == len(numbers) and not is_unnamed else None


def _names(builder) -> list[str]:
    features: Any = builder.info.features
    return list(features["label"].names or ())


def _tiny_imagenet(directory):
    """The first word of each class, or its number in WordNet."""
    words = {}
    with contextlib.suppress(OSError, UnicodeDecodeError):  # Not always kept.
        for line in (directory / "words.txt").read_text().splitlines():
            number, _, text = line.partition("\t")
            words[number] = text.partition(",")[0]
    names = sorted(p.name for p in directory.glob("train/*") if p.is_dir())
    return [words.get(name, name) for name in names]
