"""The data sets, by name.

To add a data set of TensorFlow Datasets, add an entry to `DATASETS`. For one
that is unpacked from its own archive, also list its images in `archives.py`.
"""

from typing import NamedTuple

from fastbat_tf.errors import look_up

# Data sets that take more than this as uint8 are streamed, not held in memory.
MEMORY_LIMIT = 4 * 10**9  # Bytes.
# The short side before a center crop, divided by the size of the crop.
SHORT_SIDE = 256 / 224


class Reading(NamedTuple):
    """How a file is decoded to an image, in training, test and serving.

    Images are resized bilinearly, and rounded to the 256 levels of uint8.

    Attributes:
        height: Integer, the height of the image.
        width: Integer, the width of the image.
        channels: Integer, 3 for RGB or 1 for gray levels.
        short_side: Integer, the size in pixels to which the short side is
            resized before the center is cropped. Defaults to None, which
            resizes the whole image, whatever its aspect ratio.
        antialias: Whether downscaling averages over pixels. Defaults to True.
    """

    height: int
    width: int
    channels: int
    short_side: int | None = None
    antialias: bool = True

    @classmethod
    def center_crop(cls, height, width, channels):
        """The reading of ImageNet's test images: 224 of 256 pixels."""
        return cls(height, width, channels, round(height * SHORT_SIDE))

    @property
    def shape(self):
        """`(height, width, channels)` of the image."""
        return self[:3]


class Augmentation(NamedTuple):
    """The random changes of training images, besides flips of half of them.

    Attributes:
        padding: Integer, the pixels of zeros added on each side before a crop
            to the original size. Defaults to 0.
        degrees: Integer, the largest rotation in either direction, after the
            crop. Defaults to 0.
        resized_crop: Whether to use, instead of both, a crop of random area
            and aspect ratio that is resized (Szegedy et al., CVPR 2015, arXiv
            1409.4842). Defaults to False.
    """

    padding: int = 0
    degrees: int = 0
    resized_crop: bool = False


class DatasetSpec(NamedTuple):
    """What is known about a data set before it is read.

    Attributes:
        source: The source of the images: `"tfds"`, TensorFlow Datasets;
            `"archive"`, the published archive, unpacked; `"folder"`, the
            user's images; `"embedded"`, this package.
        num_classes: Integer, the number of labels, which start at 0; None for
            `folder`.
        image_shape: `(height, width, channels)`; None for `folder`.
        mean: Tuple of floats, the mean of each channel of pixels in [0, 1].
        std: Tuple of floats, the standard deviation of each channel.
        augmentation: An `Augmentation`, or None.
        validation: The rule that selects `validation_share` of the training
            split for validation. `"last"` takes the last part, for data sets
            in random order. `"balanced"` takes that share of each class,
            rounded, at least one image but never all, drawn with a fixed seed.
            `"balanced tracks"` takes that share of the traffic signs of each
            class, with all photographs of a sign.
        counts: Pair of integers, the published number of images in the
            training and the test split; None for `folder`.
        tfds_name: Name and version in TensorFlow Datasets. Defaults to None.
        source_url: URL from which TensorFlow Datasets downloads the data.
            Defaults to None, if it cannot download them.
        test_split: Name of the labeled test split in TensorFlow Datasets.
            Defaults to `"test"`.
        directory: Name of the directory of the unpacked archive in `data_dir`.
            Defaults to None.
    """

    source: str
    num_classes: int | None
    image_shape: tuple | None
    mean: tuple
    std: tuple
    augmentation: Augmentation | None
    validation: str
    counts: tuple | None
    tfds_name: str | None = None
    source_url: str | None = None
    test_split: str = "test"
    directory: str | None = None

    @property
    def reading(self):
        """The `Reading` of the test images."""
        if self.augmentation and self.augmentation.resized_crop:
            return Reading.center_crop(*self.image_shape)
        return Reading(*self.image_shape)

    @property
    def reads_records(self):
        """Whether training images come from TFRecord files, one by one."""
        crops = bool(self.augmentation and self.augmentation.resized_crop)
        return self.source == "tfds" and crops


_CROP_AND_FLIP = Augmentation(padding=4)
_IMAGENET_COLORS = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}

DATASETS = {
    "cifar10": DatasetSpec(
        source="tfds",
        num_classes=10,
        image_shape=(32, 32, 3),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        augmentation=_CROP_AND_FLIP,
        validation="last",
        counts=(50_000, 10_000),
        tfds_name="cifar10:3.0.2",
        source_url="https://www.cs.toronto.edu/~kriz/",
    ),
    "cifar100": DatasetSpec(
        source="tfds",
        num_classes=100,
        image_shape=(32, 32, 3),
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        augmentation=Augmentation(padding=4, degrees=15),
        validation="last",
        counts=(50_000, 10_000),
        tfds_name="cifar100:3.0.2",
        source_url="https://www.cs.toronto.edu/~kriz/",
    ),
    "svhn_cropped": DatasetSpec(
        source="tfds",
        num_classes=10,
        image_shape=(32, 32, 3),
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1201, 0.1231, 0.1052),
        augmentation=None,
        validation="last",
        counts=(73_257, 26_032),
        tfds_name="svhn_cropped:3.1.0",
        source_url="http://ufldl.stanford.edu/housenumbers/",
    ),
    "gtsrb": DatasetSpec(
        source="archive",
        num_classes=43,
        image_shape=(32, 32, 3),
        mean=(0.3403, 0.3121, 0.3214),
        std=(0.2724, 0.2608, 0.2669),
        augmentation=None,  # Flipped, "keep right" is a different sign.
        validation="balanced tracks",
        counts=(39_209, 12_630),
        directory="GTSRB",
    ),
    "tiny_imagenet": DatasetSpec(
        source="archive",
        num_classes=200,
        image_shape=(64, 64, 3),
        **_IMAGENET_COLORS,
        augmentation=_CROP_AND_FLIP,
        validation="balanced",
        counts=(100_000, 10_000),
        directory="tiny-imagenet-200",
    ),
    "imagenet2012": DatasetSpec(
        source="tfds",
        num_classes=1000,
        image_shape=(288, 288, 3),
        **_IMAGENET_COLORS,
        augmentation=Augmentation(resized_crop=True),
        validation="last",
        counts=(1_281_167, 50_000),
        tfds_name="imagenet2012:5.1.0",
        test_split="validation",  # The labels of the test split are secret.
    ),
    "mnist": DatasetSpec(
        source="tfds",
        num_classes=10,
        image_shape=(28, 28, 1),
        mean=(0.1307,),
        std=(0.3081,),
        augmentation=None,
        validation="last",
        counts=(60_000, 10_000),
        tfds_name="mnist:3.0.1",
        source_url="https://storage.googleapis.com/cvdf-datasets/mnist/"
        "t10k-labels-idx1-ubyte.gz",
    ),
    "fashion_mnist": DatasetSpec(
        source="tfds",
        num_classes=10,
        image_shape=(28, 28, 1),
        mean=(0.2860,),
        std=(0.3530,),
        augmentation=None,
        validation="last",
        counts=(60_000, 10_000),
        tfds_name="fashion_mnist:3.0.1",
        source_url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
        "t10k-labels-idx1-ubyte.gz",
    ),
    "stl10": DatasetSpec(
        source="tfds",
        num_classes=10,
        image_shape=(96, 96, 3),
        mean=(0.4467, 0.4398, 0.4066),
        std=(0.2603, 0.2566, 0.2713),
        augmentation=Augmentation(padding=12),
        validation="last",
        counts=(5_000, 8_000),
        tfds_name="stl10:1.0.0",
        source_url="http://ai.stanford.edu/~acoates/stl10/",
    ),
    "folder": DatasetSpec(
        source="folder",
        num_classes=None,
        image_shape=None,
        **_IMAGENET_COLORS,
        augmentation=_CROP_AND_FLIP,
        validation="balanced",
        counts=None,
    ),
}
DATASETS["cifar10_mini"] = DATASETS["cifar10"]._replace(
    source="embedded", counts=(4_000, 1_000), tfds_name=None, source_url=None
)


def get(name):
    """Returns the `DatasetSpec` of `name`, or lists the known names."""
    return look_up(DATASETS, "data set", dataset=name)


def get_folder(num_classes, image_size):
    """Returns the `DatasetSpec` of a folder of the user's images.

    Args:
        num_classes: Integer, the number of classes.
        image_size: Integer, the height and width to which images are resized.
    """
    return DATASETS["folder"]._replace(
        num_classes=num_classes,
        image_shape=(image_size, image_size, 3),
        # An eighth of the image: 4 of 32 pixels, as for CIFAR; 28 of 224.
        augmentation=Augmentation(padding=image_size // 8),
    )
