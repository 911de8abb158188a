"""The settings of the data set."""

import dataclasses

from fastbat_tf.data import extra_files, folder, registry
from fastbat_tf.errors import InputError, at_least

# Of Gowal et al., 2021, and Rebuffi et al., 2021.
EXTRA_FRACTION = 0.7


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The images that training and evaluation read.

    Attributes:
        dataset: A key of `fastbat_tf.data.DATASETS`. Defaults to `"cifar10"`.
        data_dir: The directory of the data, as docs/data.md says. Defaults to
            None, the default of TensorFlow Datasets.
        validation_share: Float in (0, 1), the share of the training split that
            becomes the validation split, by the data set's rule. Defaults to
            0.1.
        training_examples: Integer, the number of images of the training split
            to use, from the first on. It does not affect the validation split.
            Defaults to 0, which uses all.
        augment: Whether to use the data set's augmentation. Defaults to None,
            which uses it if the data set has one.
        cutmix: Whether a box of each training image shows another image of its
            batch, with the label mixed accordingly. Defaults to False.
        extra_data: Path of a file of `numpy.savez` with more training images
            and their labels, as docs/data.md says. Defaults to None.
        extra_fraction: Float in (0, 1), the share of a batch that comes from
            `extra_data`. Defaults to 0.7 with `extra_data`, otherwise to None.
        image_size: Integer, the height and width to which images are resized;
            only for `folder`, where it is required. Defaults to None.
        skip_unreadable: Whether to skip images that cannot be read; only for
            `folder`. Defaults to False.
        classes: Tuple of strings, the names of the classes by label; only for
            `folder`. By default they are listed once from `data_dir`.
        extra_fingerprint: String, a checksum of what is in `extra_data`. By
            default it is read once from the file.

    Raises:
        InputError: If a setting is invalid, or does not apply to the data set.
    """

    dataset: str = "cifar10"
    data_dir: str | None = None
    validation_share: float = 0.1
    training_examples: int = 0
    augment: bool | None = None
    cutmix: bool = False
    extra_data: str | None = None
    extra_fraction: float | None = None
    image_size: int | None = None
    skip_unreadable: bool = False
    classes: tuple = ()
    extra_fingerprint: str | None = None

    def __post_init__(self):
        object.__setattr__(self, "classes", tuple(self.classes))
        spec = registry.get(self.dataset)
        if not 0 < self.validation_share < 1:
            raise InputError(
                "`validation_share` is expected in (0, 1). "
                f"Received: validation_share={self.validation_share}"
            )
        at_least(self, "training_examples", 0)
        if self.data_dir is not None and spec.source == "embedded":
            raise InputError(
                f"`data_dir` does not apply to the data set {self.dataset}, "
                "which is part of this package. "
                f"Received: data_dir={self.data_dir}"
            )
        if not self.data_dir and spec.source in ("archive", "folder"):
            raise InputError(
                f"The data set {self.dataset} expects `data_dir`, the "
                "directory that holds it, as docs/data.md says. "
                f"Received: data_dir={self.data_dir}"
            )
        if self.augment and not spec.augmentation:
            raise InputError(
                f"`augment` does not apply to the data set {self.dataset}, "
                f"which has no augmentation. Received: augment={self.augment}"
            )
        if self.augment is None:
            object.__setattr__(self, "augment", bool(spec.augmentation))
        self._check_folder(spec)
        self._check_extra(self.spec)

    def _check_extra(self, spec):
        if self.extra_data is None:
            for name in ("extra_fraction", "extra_fingerprint"):
                if getattr(self, name) is not None:
                    raise InputError(
                        f"`{name}` applies only with `extra_data`. "
                        f"Received: {name}={getattr(self, name)}"
                    )
            return
        if spec.reads_records:
            raise InputError(
                f"`extra_data` does not apply to the data set {self.dataset}, "
                "whose TFRecord files are read in an order of their own. "
                f"Received: extra_data={self.extra_data}"
            )
        if self.extra_fraction is None:
            object.__setattr__(self, "extra_fraction", EXTRA_FRACTION)
        if not 0 < self.extra_fraction < 1:
            raise InputError(
                "`extra_fraction` is expected in (0, 1). "
                f"Received: extra_fraction={self.extra_fraction}"
            )
        if self.extra_fingerprint is None:
            file = extra_files.inspect(self.extra_data, spec.image_shape)
            object.__setattr__(self, "extra_fingerprint", file.fingerprint)

    def _check_folder(self, spec):
        if spec.source != "folder":
            for name in ("image_size", "skip_unreadable", "classes"):
                value = getattr(self, name)
                if value != getattr(DataConfig, name):
                    raise InputError(
                        f"`{name}` applies only to the data set folder. "
                        f"Received: {name}={value}, dataset={self.dataset}"
                    )
            return
        if self.image_size is None:
            raise InputError(
                "The data set folder expects `image_size`, the height and "
                "width to which its images are resized. "
                "Received: image_size=None"
            )
        at_least(self, "image_size", 1)
        if not self.classes:
            classes = folder.list_classes(self.data_dir)
            object.__setattr__(self, "classes", classes)

    def check_training(self, training):
        """Rejects a training whose batches cannot be mixed like this.

        Args:
            training: The `TrainingConfig`.

        Raises:
            InputError: If it is rejected.
        """
        if self.extra_data is not None:
            extra_files.extra_in_batch(training.batch_size, self.extra_fraction)
        if self.cutmix and training.loss == "dlr":
            raise InputError(
                "`cutmix` gives an image several classes; expected "
                "loss=crossentropy. Received: cutmix=True, loss=dlr"
            )
        if self.cutmix and training.batch_size < 2:
            raise InputError(
                "`cutmix` mixes two images of a batch; expected a batch_size "
                "of at least 2. "
                f"Received: cutmix=True, batch_size={training.batch_size}"
            )

    @property
    def spec(self):
        """The `DatasetSpec`; of a folder, with its classes and image size."""
        if self.dataset == "folder":
            return registry.get_folder(len(self.classes), self.image_size)
        return registry.get(self.dataset)

    @property
    def augmentation(self):
        """The `fastbat_tf.data.Augmentation` of training, or None."""
        return self.spec.augmentation if self.augment else None

    @property
    def mixed_classes(self):
        """The number of classes if CutMix mixes the images, or None."""
        return self.spec.num_classes if self.cutmix else None
