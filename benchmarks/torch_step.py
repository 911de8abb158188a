"""A plain training step in PyTorch, for `benchmarks/step_time.py` to compare.

    python benchmarks/torch_step.py --width=16 --batch_size=128

The same PreActResNet-18 (He et al. 2016), batch, loss and optimizer as the
standard step of `fastbat_tf`. For every line on its input it makes a step and
prints the seconds; `memory` prints the peak memory in GB. It needs PyTorch and
NumPy alone, which need not be installed where TensorFlow is.
"""

import argparse
import resource
import sys
import time

import numpy as np
import torch
from torch import nn


class Block(nn.Module):
    """BatchNorm, ReLU, convolution, twice; the shortcut reads the input."""

    def __init__(self, channels, filters, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.shortcut = nn.Identity()
        if stride != 1 or channels != filters:
            self.shortcut = nn.Conv2d(channels, filters, 1, stride, bias=False)

    def forward(self, x):
        inside = self.conv1(torch.relu(self.bn1(x)))
        return self.conv2(torch.relu(self.bn2(inside))) + self.shortcut(x)


class PreActResNet18(nn.Module):
    """Four groups of two blocks, from pixels to 10 logits."""

    def __init__(self, width):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        blocks, channels = [], width
        for group in range(4):
            for stride in (1 if group == 0 else 2, 1):
                filters = width * 2**group
                blocks.append(Block(channels, filters, stride))
                channels = filters
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, 10)

    def forward(self, x):
        x = self.blocks(self.stem((x - 0.5) / 0.25))
        return self.head(torch.relu(self.bn(x)).mean((2, 3)))


def main():
    """Answers each line on the input with the seconds of a step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch_size", type=int, default=128)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    shape = (options.batch_size, 3, 32, 32)
    images = torch.from_numpy(random.random(shape, np.float32))
    labels = torch.from_numpy(random.integers(0, 10, options.batch_size))
    network = PreActResNet18(options.width)
    optimizer = torch.optim.SGD(
        network.parameters(), 0.01, momentum=0.9, weight_decay=5e-4
    )
    for line in sys.stdin:
        if line.strip() == "memory":
            kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(kilobytes / 2**20, flush=True)
            continue
        start = time.perf_counter()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
