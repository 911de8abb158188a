"""Twins in PyTorch of the networks whose weights are loaded.

They are written from the papers and from the names of the published weights:
which layers there are, in which order they compute, and what they are called.
`python -m tests.support.torch_networks` records `tests/golden/torch`; it needs
PyTorch.
"""

import json

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.support import torch_cases
from tests.support.torch_cases import CASES, GOLDEN
from tests.support.torch_wrappers import WRAPPERS

COUNTS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
ACTIVATIONS = {"relu": functional.relu, "swish": functional.silu}


def _conv(inputs, outputs, size=3, stride=1, padding=None):
    padding = size // 2 if padding is None else padding
    return nn.Conv2d(inputs, outputs, size, stride, padding, bias=False)


class Wong(nn.Module):
    """A pre-activation block of two 3x3 convolutions."""

    expansion = 1

    def __init__(self, inputs, filters, stride, shortcut, name):
        super().__init__()
        self.reads = shortcut
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = _conv(inputs, filters, stride=stride)
        self.bn2 = nn.BatchNorm2d(filters)
        self.conv2 = _conv(filters, filters)
        if stride > 1 or inputs != filters:
            self.shortcut = nn.Sequential(_conv(inputs, filters, 1, stride))

    def forward(self, x):
        y = functional.relu(self.bn1(x))
        if hasattr(self, "shortcut"):
            x = self.shortcut(y if self.reads == "activated" else x)
        return x + self.conv2(functional.relu(self.bn2(self.conv1(y))))


class Identity(nn.Module):
    """A pre-activation bottleneck, whose shortcut reads activated inputs."""

    expansion = 4

    def __init__(self, inputs, filters, stride, shortcut, name):
        super().__init__()
        outputs = 4 * filters
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = _conv(inputs, filters, 1)
        self.bn2 = nn.BatchNorm2d(filters)
        self.conv2 = _conv(filters, filters, stride=stride)
        self.bn3 = nn.BatchNorm2d(filters)
        self.conv3 = _conv(filters, outputs, 1)
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(_conv(inputs, outputs, 1, stride))

    def forward(self, x):
        y = functional.relu(self.bn1(x))
        if hasattr(self, "shortcut"):
            x = self.shortcut(y)
        y = self.conv2(functional.relu(self.bn2(self.conv1(y))))
        return x + self.conv3(functional.relu(self.bn3(y)))


class Residual(nn.Module):
    """A block with the activation after the sum, basic or a bottleneck."""

    expansion = 1

    def __init__(self, inputs, filters, stride, shortcut, name):
        super().__init__()
        sizes = ((3, stride), (3, 1))
        if self.expansion == 4:
            sizes = ((1, 1), (3, stride), (1, 1))
        channels = [inputs] + [filters] * len(sizes)
        channels[-1] *= self.expansion
        self.length = len(sizes)
        for n, (size, step) in enumerate(sizes):
            conv = _conv(channels[n], channels[n + 1], size, step)
            setattr(self, f"conv{n + 1}", conv)
            setattr(self, f"bn{n + 1}", nn.BatchNorm2d(channels[n + 1]))
        self.name = name
        if stride > 1 or inputs != channels[-1]:
            conv = _conv(inputs, channels[-1], 1, stride)
            setattr(
                self,
                name,
                nn.Sequential(conv, nn.BatchNorm2d(channels[-1])),
            )

    def forward(self, x):
        y = x
        for n in range(1, self.length + 1):
            y = getattr(self, f"bn{n}")(getattr(self, f"conv{n}")(y))
            if n < self.length:
                y = functional.relu(y)
        if hasattr(self, self.name):
            x = getattr(self, self.name)(x)
        return functional.relu(y + x)


class Bottleneck(Residual):
    expansion = 4


class ResNet(nn.Module):
    """A ResNet or PreActResNet of four groups."""

    def __init__(
        self,
        block,
        depth,
        width,
        classes,
        *,
        stem="cifar",
        head="normalized",
        shortcut="input",
        torchvision=False,
    ):
        super().__init__()
        self.is_preact = block in (Wong, Identity)
        self.is_large = stem == "imagenet"
        size, stride = (7, 2) if self.is_large else (3, 1)
        self.conv1 = _conv(3, width, size, stride)
        if not self.is_preact:
            self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        name = "downsample" if torchvision else "shortcut"
        for group, count in enumerate(COUNTS[depth]):
            blocks = []
            for n in range(count):
                stride = 2 if group and not n else 1
                filters = width * 2**group
                blocks.append(block(inputs, filters, stride, shortcut, name))
                inputs = filters * block.expansion
            setattr(self, f"layer{group + 1}", nn.Sequential(*blocks))
        if self.is_preact and head == "normalized":
            self.bn = nn.BatchNorm2d(inputs)
        self.last = "fc" if torchvision else "linear"
        setattr(self, self.last, nn.Linear(inputs, classes))

    def forward(self, x):
        x = self.conv1(x)
        if not self.is_preact:
            x = functional.relu(self.bn1(x))
        if self.is_large:
            x = functional.max_pool2d(x, 3, 2, 1)
        for group in range(1, 5):
            x = getattr(self, f"layer{group}")(x)
        if hasattr(self, "bn"):
            x = functional.relu(self.bn(x))
        return getattr(self, self.last)(x.mean((2, 3)))


class WideBlock(nn.Module):
    """Zagoruyko's block: where channels change, all read activated inputs."""

    def __init__(self, inputs, outputs, stride, activation):
        super().__init__()
        self.activate = activation
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = _conv(inputs, outputs, stride=stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = _conv(outputs, outputs)
        if inputs != outputs:
            self.convShortcut = _conv(inputs, outputs, 1, stride)

    def forward(self, x):
        y = self.activate(self.bn1(x))
        if hasattr(self, "convShortcut"):
            x = self.convShortcut(y)
        return x + self.conv2(self.activate(self.bn2(self.conv1(y))))


class DeepMindBlock(nn.Module):
    """The same, padded at the bottom and the right where the stride is 2."""

    def __init__(self, inputs, outputs, stride, activation):
        super().__init__()
        self.activate = activation
        self.pad = (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1)
        self.batchnorm_0 = nn.BatchNorm2d(inputs)
        self.conv_0 = _conv(inputs, outputs, stride=stride, padding=0)
        self.batchnorm_1 = nn.BatchNorm2d(outputs)
        self.conv_1 = _conv(outputs, outputs)
        if inputs != outputs:
            self.shortcut = _conv(inputs, outputs, 1, stride)

    def forward(self, x):
        y = self.activate(self.batchnorm_0(x))
        if hasattr(self, "shortcut"):
            x = self.shortcut(y)
        y = self.conv_0(functional.pad(y, self.pad))
        return x + self.conv_1(self.activate(self.batchnorm_1(y)))


def _wide_groups(block, depth, widening, activation):
    """The blocks of each of the three groups of a WideResNet."""
    inputs, groups = 16, []
    for group in range(3):
        outputs = 16 * widening * 2**group
        blocks = []
        for n in range((depth - 4) // 6):
            stride = 2 if group and not n else 1
            blocks.append(block(inputs, outputs, stride, activation))
            inputs = outputs
        groups.append(nn.Sequential(*blocks))
    return groups, inputs


class _Group(nn.Module):
    """Holds the blocks of a group under a name."""

    def __init__(self, name, blocks):
        super().__init__()
        setattr(self, name, blocks)
        self.name = name

    def forward(self, x):
        return getattr(self, self.name)(x)


class WideResNet(nn.Module):
    """A WideResNet under Zagoruyko's names."""

    def __init__(
        self, depth, widening, classes, *, activation="relu", unused=False
    ):
        super().__init__()
        self.activate = ACTIVATIONS[activation]
        self.conv1 = _conv(3, 16)
        groups, outputs = _wide_groups(
            WideBlock, depth, widening, self.activate
        )
        for n, blocks in enumerate(groups):
            setattr(self, f"block{n + 1}", _Group("layer", blocks))
        if unused:  # As in the program of TRADES.
            (first, *_), _ = _wide_groups(
                WideBlock, depth, widening, self.activate
            )
            self.sub_block1 = _Group("layer", first)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.fc = nn.Linear(outputs, classes)

    def forward(self, x):
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(self.activate(self.bn1(x)).mean((2, 3)))


class DeepMind(nn.Module):
    """A WideResNet under DeepMind's names."""

    def __init__(self, depth, widening, classes, *, activation="relu"):
        super().__init__()
        self.activate = ACTIVATIONS[activation]
        self.init_conv = _conv(3, 16)
        groups, outputs = _wide_groups(
            DeepMindBlock, depth, widening, self.activate
        )
        self.layer = nn.Sequential(*(_Group("block", g) for g in groups))
        self.batchnorm = nn.BatchNorm2d(outputs)
        self.logits = nn.Linear(outputs, classes)

    def forward(self, x):
        x = self.layer(self.init_conv(x))
        return self.logits(self.activate(self.batchnorm(x)).mean((2, 3)))


_KINDS = {
    "resnet": (Residual, Bottleneck),
    "preact": (Wong, Identity),
}


def build(case):
    """Builds the twin of a `torch_cases.Case`, with its weights."""
    if case.kind in _KINDS:
        block = _KINDS[case.kind][case.depth > 34]
        network = ResNet(
            block, case.depth, case.width, case.classes, **case.options
        )
    else:
        kind = {"zagoruyko": WideResNet, "deepmind": DeepMind}[case.kind]
        network = kind(case.depth, case.width, case.classes, **case.options)
    if case.wrapper:
        network = WRAPPERS[case.wrapper](network)
    own = getattr(network, "own", str)
    state = network.state_dict()
    shapes = {own(name): tuple(x.shape) for name, x in state.items()}
    arrays = torch_cases.weights(shapes)
    network.load_state_dict(
        {name: torch.from_numpy(arrays[own(name)]) for name in state}
    )
    return network.eval(), arrays


@torch.no_grad()
def logits(network, images):
    """Logits of images `(batch, height, width, channels)`."""
    x = torch.from_numpy(np.moveaxis(images, -1, 1).copy())
    return network(x).numpy()


def record():
    """Writes the names, shapes and logits of the small cases."""
    GOLDEN.mkdir(exist_ok=True)
    for name, case in CASES.items():
        network, arrays = build(case)
        found = {
            "shapes": {k: list(v.shape) for k, v in arrays.items()},
            "logits": logits(network, case.images()).tolist(),
        }
        text = json.dumps(found, separators=(",", ":"))
        (GOLDEN / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    record()
