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
    padding: str = "symmetric",
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
        activation: `"relu"`, `"softplus"` (with beta = 10), or `"swish"`, also
            named `"silu"`. Defaults to `"relu"`.
        stem: `"cifar"`, a 3x3 convolution, or `"imagenet"`, a 7x7 convolution
            and max pooling, both with stride 2. Defaults to None: `"cifar"`
            for images of at most 64 x 64 pixels.
        dropout: Rate of dropout in the blocks, in [0, 1). Defaults to 0.
        padding: `"symmetric"`, or `"same"`, TensorFlow's: before a convolution
            of stride 2, images of even size are padded below and to the right
            alone, as in DeepMind's WideResNets. Defaults to `"symmetric"`.
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
        padding=padding,
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
        activation: `"relu"`, `"softplus"` (with beta = 10), or `"swish"`, also
            named `"silu"`. Defaults to `"relu"`.
        stem: `"cifar"`, a 3x3 convolution, or `"imagenet"`, a 7x7 convolution
            and max pooling, both with stride 2. Defaults to None: `"cifar"`
            for images of at most 64 x 64 pixels.
        {options}input_shape: `(height, width, channels)` of the images.
            Defaults to `(32, 32, 3)`.
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


def _preact(
    name: str,
    num_classes: int = 10,
    *,
    width: int = 64,
    activation: str = "relu",
    stem: str | None = None,
    head: str = "normalized",
    input_shape: Sequence[int] = (32, 32, 3),
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    batch_normalization: Any = None,
) -> keras.Model:
    return get(
        name,
        num_classes,
        width=width,
        activation=activation,
        stem=stem,
        head=head,
        input_shape=input_shape,
        mean=mean,
        std=std,
        batch_normalization=batch_normalization,
    )


def _preact_basic(
    name: str,
    num_classes: int = 10,
    *,
    width: int = 64,
    activation: str = "relu",
    stem: str | None = None,
    head: str = "normalized",
    shortcut: str = "input",
    input_shape: Sequence[int] = (32, 32, 3),
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    batch_normalization: Any = None,
) -> keras.Model:
    return get(
        name,
        num_classes,
        width=width,
        activation=activation,
        stem=stem,
        head=head,
        shortcut=shortcut,
        input_shape=input_shape,
        mean=mean,
        std=std,
        batch_normalization=batch_normalization,
    )


# What the docstring of a network says of the options that only some have.
_OPTIONS = {
    "head": """\
head: `"normalized"`, BatchNorm and activation before pooling, or
    `"plain"`, neither. Defaults to `"normalized"`.
""",
    "shortcut": """\
shortcut: What the shortcut convolution of a block reads: the block's
    `"input"`, or the `"activated"` input. Defaults to `"input"`.
""",
}

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
    signature = inspect.signature(residual)
    if _residual.__doc__:  # `python -OO` leaves it out.
        options = "".join(_OPTIONS.get(x, "") for x in signature.parameters)
        build.__doc__ = inspect.getdoc(_residual).format(
            options=options.replace("\n", "\n    "),
            network=f"{network}-{name.removeprefix(family)}",
            paper=paper,
            name=name,
        )
    first, *others = signature.parameters.values()
    build.__signature__ = signature.replace(parameters=others)
    return build


resnet18 = _named(_residual, "resnet18")
resnet34 = _named(_residual, "resnet34")
resnet50 = _named(_residual, "resnet50")
resnet101 = _named(_residual, "resnet101")
resnet152 = _named(_residual, "resnet152")
preact_resnet18 = _named(_preact_basic, "preact_resnet18")
preact_resnet34 = _named(_preact_basic, "preact_resnet34")
preact_resnet50 = _named(_preact, "preact_resnet50")
preact_resnet101 = _named(_preact, "preact_resnet101")
preact_resnet152 = _named(_preact, "preact_resnet152")
