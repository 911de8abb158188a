"""The model zoo: functional Keras classifiers from pixels to logits.

>>> import fastbat_tf as fb
>>> model = fb.models.preact_resnet18(num_classes=10, width=2)
>>> model.output_shape
(None, 10)

`get` builds the same networks by name, and those of `keras.applications`.
"""

from fastbat_tf.models.members import (
    preact_resnet18,
    preact_resnet34,
    preact_resnet50,
    preact_resnet101,
    preact_resnet152,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
    wrn,
)
from fastbat_tf.models.registry import (
    ACTIVATIONS,
    APPLICATIONS,
    HEADS,
    LARGEST_CIFAR_IMAGE,
    MODELS,
    PADDINGS,
    SHORTCUTS,
    STEMS,
    get,
    parse,
    resolve_options,
)

__all__ = [
    "ACTIVATIONS",
    "APPLICATIONS",
    "HEADS",
    "LARGEST_CIFAR_IMAGE",
    "MODELS",
    "PADDINGS",
    "SHORTCUTS",
    "STEMS",
    "get",
    "parse",
    "preact_resnet101",
    "preact_resnet152",
    "preact_resnet18",
    "preact_resnet34",
    "preact_resnet50",
    "resnet101",
    "resnet152",
    "resnet18",
    "resnet34",
    "resnet50",
    "resolve_options",
    "wrn",
]
