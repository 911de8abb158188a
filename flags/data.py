"""Flags of the data set."""

from absl import flags as absl_flags

from fastbat_tf.data import DATASETS
from fastbat_tf.data.options import EXTRA_FRACTION as DEFAULT_FRACTION
from fastbat_tf.experiment.config import DataConfig

_DEFAULT = DataConfig()

DATASET = absl_flags.DEFINE_string(
    "dataset", _DEFAULT.dataset, f"Data set: {', '.join(DATASETS)}."
)
DATA_DIR = absl_flags.DEFINE_string(
    "data_dir",
    None,
    "Directory of the data (docs/data.md; default: TensorFlow Datasets' own).",
)
VALIDATION_SHARE = absl_flags.DEFINE_float(
    "validation_share",
    _DEFAULT.validation_share,
    "Share of the training split that is held out for validation.",
)
TRAINING_EXAMPLES = absl_flags.DEFINE_integer(
    "training_examples",
    _DEFAULT.training_examples,
    "How many images of the training split to use, from its start; 0 means "
    "all.",
)
AUGMENT = absl_flags.DEFINE_bool(
    "augment",
    None,
    "Crop, flip and rotate the training images, as is usual for the data set.",
)
CUTMIX = absl_flags.DEFINE_bool(
    "cutmix",
    _DEFAULT.cutmix,
    "CutMix: show a part of another image of the batch in a box of each "
    "training image, and mix the labels.",
)
EXTRA_DATA = absl_flags.DEFINE_string(
    "extra_data",
    _DEFAULT.extra_data,
    "File of numpy.savez with more training images and labels, such as "
    "generated ones (docs/data.md).",
)
EXTRA_FRACTION = absl_flags.DEFINE_float(
    "extra_fraction",
    None,
    "extra_data: share of a batch that comes from it (default "
    f"{DEFAULT_FRACTION}).",
)
IMAGE_SIZE = absl_flags.DEFINE_integer(
    "image_size", None, "folder: height and width to which images are resized."
)
SKIP_UNREADABLE = absl_flags.DEFINE_bool(
    "skip_unreadable",
    _DEFAULT.skip_unreadable,
    "folder: skip images that cannot be read.",
)


def get_config():
    """Makes the `DataConfig` of the flags."""
    return DataConfig(
        dataset=DATASET.value,
        data_dir=DATA_DIR.value,
        validation_share=VALIDATION_SHARE.value,
        training_examples=TRAINING_EXAMPLES.value,
        augment=AUGMENT.value,
        cutmix=CUTMIX.value,
        extra_data=EXTRA_DATA.value,
        extra_fraction=EXTRA_FRACTION.value,
        image_size=IMAGE_SIZE.value,
        skip_unreadable=SKIP_UNREADABLE.value,
    )
