"""Which images a training and an evaluation read."""

import dataclasses

from fastbat_tf.data import folder, registry
from fastbat_tf.errors import InputError, at_least


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images.

    Attributes:
        dataset: A key of `fastbat_tf.data.DATASETS`.
        data_dir: Where they are (docs/data.md); None for the default of
            TensorFlow Datasets.
        validation_share: Share of the training split that becomes the
            validation split, by the rule of the data set.
        training_examples: The first so many images of the training split; 0
            for all. The validation split stays as it is.
        augment: Whether training images are changed at random, as the data
            set has it; by default if it has any augmentation.
        image_size: `folder` only: height and width the images are resized to.
        skip_unreadable: `folder` only: whether images that cannot be read are
            left out.
        classes: `folder` only: names of the classes, by label; by default as
            they are in `data_dir`, which is not looked at again.
    """

    dataset: str = "cifar10"
    data_dir: str | None = None
    validation_share: float = 0.1
    training_examples: int = 0
    augment: bool | None = None
    image_size: int | None = None
    skip_unreadable: bool = False
    classes: tuple = ()

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
                "which comes with this program. "
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

    def _check_folder(self, spec):
        if spec.source != "folder":
            for name in ("image_size", "skip_unreadable", "classes"):
                value = getattr(self, name)
                if value != getattr(DataConfig, name):
                    raise InputError(
                        f"`{name}` applies to the data set folder alone. "
                        f"Received: {name}={value}, dataset={self.dataset}"
                    )
            return
        if self.image_size is None:
            raise InputError(
                "The data set folder expects `image_size`, the height and "
                "width that its images are resized to. "
                "Received: image_size=None"
            )
        at_least(self, "image_size", 1)
        if not self.classes:
            classes = folder.list_classes(self.data_dir)
            object.__setattr__(self, "classes", classes)

    @property
    def spec(self):
        """The `DatasetSpec`, with all that is known of a folder."""
        if self.dataset == "folder":
            return registry.get_folder(len(self.classes), self.image_size)
        return registry.get(self.dataset)

    @property
    def augmentation(self):
        """The `fastbat_tf.data.Augmentation` of training; None for none."""
        return self.spec.augmentation if self.augment else None
