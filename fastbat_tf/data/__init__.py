"""Image data sets, by name."""

from fastbat_tf.data.registry import (
    DATASETS,
    Augmentation,
    DatasetSpec,
    Reading,
    get,
    get_folder,
)

__all__ = [
    "Augmentation",
    "DATASETS",
    "DatasetSpec",
    "Reading",
    "get",
    "get_folder",
]
