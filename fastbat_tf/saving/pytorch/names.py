"""The names of published PyTorch networks, and those of the zoo's layers.

Three namings cover the robust networks of the PyTorch world:

* Zagoruyko's, of the WideResNets of TRADES, AWP and most others:
  `block1.layer.0.bn1.weight`, `fc.weight`;
* DeepMind's, of Gowal, Rebuffi, Wang and those who start from them:
  `layer.0.block.0.batchnorm_0.weight`, `logits.weight`;
* that of ResNet and PreActResNet on CIFAR, and torchvision's, which differs in
  the shortcuts and the last layer: `layer1.0.bn1.weight`, `linear.weight`.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from fastbat_tf.errors import InputError

RESNET, PREACT, WIDE = "ResNet", "PreActResNet", "WideResNet"
SYMMETRIC, SAME = "symmetric", "same"


class Naming(NamedTuple):
    """How the tensors of a network are named.

    Attributes:
        network: String, what it is: `RESNET`, `PREACT` or `WIDE`.
        block: Format of the prefix of a block.
        layers: Dict from the names of the zoo, within a block or the network,
            to a tuple of those that PyTorch's networks use.
        padding: `"symmetric"` or `"same"`, of convolutions of stride 2.
        author: String, whose it is.
    """

    network: str
    block: str
    layers: dict[str, tuple[str, ...]]
    padding: str
    author: str


_RESIDUAL = {
    "stem.conv": ("conv1",),
    "stem.bn": ("bn1",),
    "head.bn": ("bn",),
    "head.dense": ("linear", "fc"),
    "shortcut_conv": ("shortcut.0", "downsample.0"),
    "shortcut_bn": ("shortcut.1", "downsample.1"),
}
_NAMINGS = {
    RESNET: Naming(RESNET, "layer{0}.{1}.", _RESIDUAL, SYMMETRIC, "CIFAR's"),
    PREACT: Naming(PREACT, "layer{0}.{1}.", _RESIDUAL, SYMMETRIC, "CIFAR's"),
    "zagoruyko": Naming(
        WIDE,
        "block{0}.layer.{1}.",
        {
            "stem.conv": ("conv1",),
            "head.bn": ("bn1",),
            "head.dense": ("fc", "linear"),
            "shortcut_conv": ("convShortcut",),
        },
        SYMMETRIC,
        "Zagoruyko's",
    ),
    "deepmind": Naming(
        WIDE,
        "layer.{2}.block.{1}.",
        {
            "stem.conv": ("init_conv",),
            "head.bn": ("batchnorm",),
            "head.dense": ("logits",),
            "bn1": ("batchnorm_0",),
            "conv1": ("conv_0",),
            "bn2": ("batchnorm_1",),
            "conv2": ("conv_1",),
            "shortcut_conv": ("shortcut",),
        },
        SAME,
        "DeepMind's",
    ),
}

# What wraps a network: DataParallel, torch.compile, a Sequential after the
# normalization.
_PREFIX = re.compile(r"^(?:(?:module|model|_orig_mod|net|backbone|1)\.)+")
_CONSTANT = re.compile(
    r"^(?:(?:normalize|normalizer|normalization|0)\.)?"
    r"(?:new_)?(mu|mean|sigma|std)$"
)
# A counter, a second first group that some WideResNets have and do not use, and
# a copy of the network that belongs to the attack.
_UNUSED = re.compile(r"(^|\.)num_batches_tracked$|^sub_block1\.|^attacker\.")


class Contents(NamedTuple):
    """What the tensors of a file are.

    Attributes:
        weights: Dict from the names without wrappers to those in the file.
        constants: Dict of those of `"mean"` and `"std"`, the constants of the
            normalization, that the file has.
        unused: List of the names of tensors that no network needs.
    """

    weights: dict[str, str]
    constants: dict[str, str]
    unused: list[str]


def sort(names: Iterable[str], received: str) -> Contents:
    """Sorts the tensors of a file.

    Args:
        names: Their names.
        received: String, `name=value` for errors.

    Returns:
        The `Contents`.

    Raises:
        InputError: If two tensors differ in their wrappers alone, or there is
            a mean without a standard deviation.

    Example:

    >>> sort(["module.conv1.weight"], "path=x").weights
    {'conv1.weight': 'module.conv1.weight'}
    """
    contents = Contents({}, {}, [])
    for name in names:
        bare = _PREFIX.sub("", name)
        constant = _CONSTANT.match(bare)
        if _UNUSED.search(bare):
            contents.unused.append(name)
            continue
        found, key = contents.weights, bare
        if constant:
            found = contents.constants
            key = "mean" if constant[1] in ("mu", "mean") else "std"
        if key in found:
            raise InputError(
                "Expected the tensors of one network; two have the same name: "
                f"{found[key]} and {name}. Received: {received}"
            )
        found[key] = name
    if len(contents.constants) == 1:
        (alone,) = contents.constants.values()
        raise InputError(
            "Expected the mean and the standard deviation of the pixels "
            f"together, or neither, but the file has {alone} alone. "
            f"Received: {received}"
        )
    return contents


def recognize(names: Iterable[str], received: str) -> Naming:
    """Finds out which network the tensors of a file belong to.

    Args:
        names: Names without wrappers, the keys of `Contents.weights`.
        received: String, `name=value` for errors.

    Raises:
        InputError: If it is none that the zoo has.
    """
    names = list(names)
    if "init_conv.weight" in names:
        return _NAMINGS["deepmind"]
    if any(name.startswith("block1.layer.") for name in names):
        return _NAMINGS["zagoruyko"]
    if any(name.startswith("layer1.0.") for name in names):
        # A PreActResNet begins with a convolution alone.
        return _NAMINGS[RESNET if "bn1.weight" in names else PREACT]
    reason = ""
    if any(name.startswith("layer_0.") for name in names):
        reason = (
            ". DeepMind's PreActResNet has 3x3 shortcuts, which the zoo has not"
        )
    raise InputError(
        f"Expected the tensors of a {RESNET}, {PREACT} or {WIDE} under "
        "published names, such as conv1.weight and layer1.0.conv1.weight"
        f"{reason}. Received: {received} (with {listed(names) or 'none'})"
    )


def candidates(naming: Naming, layer: str) -> tuple[str, ...]:
    """Names a layer of the zoo as PyTorch's networks do.

    Args:
        naming: The `Naming`.
        layer: The name of a layer of the zoo.

    Returns:
        Tuple of names, of which a file has one.

    Example:

    >>> candidates(recognize(["init_conv.weight"], ""), "group2.block1.bn1")
    ('layer.1.block.0.batchnorm_0',)
    """
    prefix, own = "", layer
    block = re.fullmatch(r"group(\d+)\.block(\d+)\.(\w+)", layer)
    if block:
        group, index = int(block[1]), int(block[2]) - 1
        prefix = naming.block.format(group, index, group - 1)
        own = block[3]
    return tuple(prefix + name for name in naming.layers.get(own, (own,)))


def listed(names: Iterable[str], most: int = 4) -> str:
    """Lists names, the first few of them."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
