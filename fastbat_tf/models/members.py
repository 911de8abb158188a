"""A function for each network of the zoo, such as `preact_resnet18`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from fastbat_tf.models.registry import get

if TYPE_CHECKING:
    import keras

_Arguments = ParamSpec("_Arguments")


def wrn(
    depth: int,
    widening: int,
    num_classes: int = 10,
    *,
    activation: str = "relu",
    stem: str | None = None,
    dropout: float = 0.0,
    input_shape: Sequence[int] = (32, 32, 3),
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    batch_normalization: Any = None,
) -> keras.Model:
    """Builds a WideResNet with random weights.

    Zagoruyko & Komodakis, "Wide Residual Networks", BMVC 2016 (arXiv
    1605.07146).

    Args:
        depth: 6n + 4, such as 28.
        widening: How many times wider the blocks are than those of the
            narrowest network, such as 10; at least 1.
        num_classes: The number of logits, at least 2. Defaults to 10.
        activation: `"relu"`, `"softplus"` (with beta = 10) or `"swish"`.
            Defaults to `"relu"`.
        stem: `"cifar"`, a 3x3 convolution, or `"imagenet"`, a 7x7 convolution
            and max pooling, both with stride 2. Defaults to None: `"cifar"`
            for images of at most 64 x 64 pixels.
        dropout: Rate of dropout in the blocks, in [0, 1). Defaults to 0.
        input_shape: `(height, width, channels)` of the images. Defaults to
            `(32, 32, 3)`.
        mean: One float per channel, which the first layer subtracts from the
            pixels. Defaults to None: no normalization.
        std: One float per channel, by which the first layer divides. Defaults
            to None; it is given if and only if `mean` is.
        batch_normalization: Layer class, such as
            `fastbat_tf.FusedBatchNormalization`. Defaults to None: Keras' own.

    Returns:
        A `keras.Model` from pixels in [0, 1], of shape `(batch, height, width,
        channels)`, to logits `(batch, num_classes)`.

    Raises:
        ValueError: If an argument is invalid.

    Example:

    >>> import fastbat_tf as fb
    >>> model = fb.models.wrn(16, 4, num_classes=100)
    >>> model.name, model.output_shape
    ('wrn16_4', (None, 100))
    """
    return get(
        f"wrn{depth}_{widening}",
        num_classes,
        activation=activation,
        stem=stem,
        dropout=dropout,
        input_shape=input_shape,
        mean=mean,
        std=std,
        batch_normalization=batch_normalization,
    )


def _residual(
    name: str,
    num_classes: int = 10,
    *,
    width: int = 64,
    activation: str = "relu",
    stem: str | None = None,
    input_shape: Sequence[int] = (32, 32, 3),
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    batch_normalization: Any = None,
) -> keras.Model:
    """Builds a {network} with random weights.

    {paper}.

    Args:
        num_classes: The number of logits, at least 2. Defaults to 10.
        width: The channels of the first group of blocks, at least 1. Defaults
            to 64.
        activation: `"relu"`, `"softplus"` (with beta = 10) or `"swish"`.
            Defaults to `"relu"`.
        stem: `"cifar"`, a 3x3 convolution, or `"imagenet"`, a 7x7 convolution
            and max pooling, both with stride 2. Defaults to None: `"cifar"`
            for images of at most 64 x 64 pixels.
        input_shape: `(height, width, channels)` of the images. Defaults to
            `(32, 32, 3)`.
        mean: One float per channel, which the first layer subtracts from the
            pixels. Defaults to None: no normalization.
        std: One float per channel, by which the first layer divides. Defaults
            to None; it is given if and only if `mean` is.
        batch_normalization: Layer class, such as
            `fastbat_tf.FusedBatchNormalization`. Defaults to None: Keras' own.

    Returns:
        A `keras.Model` from pixels in [0, 1], of shape `(batch, height, width,
        channels)`, to logits `(batch, num_classes)`.

    Raises:
        ValueError: If an argument is invalid.

    Example:

    ```python
    import fastbat_tf as fb

    model = fb.models.{name}(num_classes=10, width=16)
    ```
    """
    return get(
        name,
        num_classes,
        width=width,
        activation=activation,
        stem=stem,
        input_shape=input_shape,
        mean=mean,
        std=std,
        batch_normalization=batch_normalization,
    )


# What the docstring of a network says, by the family in its name.
_FAMILIES = {
    "resnet": (
        "ResNet",
        'He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition",'
        "\nCVPR 2016 (arXiv 1512.03385)",
    ),
    "preact_resnet": (
        "PreActResNet",
        'He, Zhang, Ren & Sun, "Identity Mappings in Deep Residual Networks",'
        "\nECCV 2016 (arXiv 1603.05027)",
    ),
}


def _named(
    residual: Callable[Concatenate[str, _Arguments], keras.Model], name: str
) -> Callable[_Arguments, keras.Model]:
    """Returns `residual` for one name, with a signature and a docstring."""

    def build(
        *args: _Arguments.args, **kwargs: _Arguments.kwargs
    ) -> keras.Model:
        return residual(name, *args, **kwargs)

    family = name.rstrip("0123456789")
    network, paper = _FAMILIES[family]
    build.__name__ = build.__qualname__ = name
    if residual.__doc__:  # `python -OO` leaves it out.
        build.__doc__ = inspect.getdoc(residual).format(
            network=f"{network}-{name.removeprefix(family)}",
            paper=paper,
            name=name,
        )
    signature = inspect.signature(residual)
    first, *others = signature.parameters.values()
    build.__signature__ = signature.replace(parameters=others)
    return build


resnet18 = _named(_residual, "resnet18")
resnet34 = _named(_residual, "resnet34")
resnet50 = _named(_residual, "resnet50")
resnet101 = _named(_residual, "resnet101")
resnet152 = _named(_residual, "resnet152")
preact_resnet18 = _named(_residual, "preact_resnet18")
preact_resnet34 = _named(_residual, "preact_resnet34")
preact_resnet50 = _named(_residual, "preact_resnet50")
preact_resnet101 = _named(_residual, "preact_resnet101")
preact_resnet152 = _named(_residual, "preact_resnet152")
