"""The data sets, by name."""

from fastbat_tf.data.registry import (
    DATASETS,
    MEMORY_LIMIT,
    SHORT_SIDE,
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
    "MEMORY_LIMIT",
    "Reading",
    "SHORT_SIDE",
    "get",
    "get_folder",
]
