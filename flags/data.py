"""Flags of the data."""

from absl import flags as absl_flags

from fastbat_tf.config import DataConfig
from fastbat_tf.data import DATASETS

_DEFAULT = DataConfig()

DATASET = absl_flags.DEFINE_string(
    "dataset", _DEFAULT.dataset, f"Data set: {', '.join(DATASETS)}."
)
DATA_DIR = absl_flags.DEFINE_string(
    "data_dir", None, "Where TensorFlow Datasets keeps its data."
)
VALIDATION_SHARE = absl_flags.DEFINE_float(
    "validation_share",
    _DEFAULT.validation_share,
    "Share of the training split, its end, that becomes the validation split.",
)
AUGMENT = absl_flags.DEFINE_bool(
    "augment", _DEFAULT.augment, "Crop and flip the training images."
)


def get_config():
    """The `DataConfig` of the flags."""
    return DataConfig(
        dataset=DATASET.value,
        data_dir=DATA_DIR.value,
        validation_share=VALIDATION_SHARE.value,
        augment=AUGMENT.value,
    )
