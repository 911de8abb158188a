"""Training steps in plain PyTorch, to which `step_time.py` compares ours.

    python benchmarks/torch_step.py --width=16 --batch_size=128

The PreActResNet-18 (He et al. 2016), the batch, the loss and the optimizer are
those of the steps of `fastbat_tf`. The step is the standard one, or a direct
implementation of Fast-BAT's equations (Zhang et al., ICML 2022) with the second
derivative of `autograd`. For each line of its input, the program takes a step
and prints the seconds; for the line `memory`, it prints the peak memory in GB.
It needs only PyTorch and NumPy, which may be installed apart from TensorFlow.
"""

import argparse
import re
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


def project(delta, images, epsilon=8 / 255):
    """Projects onto the L-infinity ball, then onto the pixel range."""
    return (images + delta.clamp(-epsilon, epsilon)).clamp(0, 1) - images


def standard_gradients(network, images, labels):
    """Computes the gradients of the mean loss, stored in the weights."""
    nn.functional.cross_entropy(network(images), labels).backward()


def fastbat_gradients(network, images, labels, step_size=5000 / 255):
    """Computes Fast-BAT's gradients for lambda = 10, stored in the weights."""

    def gradient(delta, create_graph=False):
        loss = nn.functional.cross_entropy(
            network(images + delta), labels, reduction="sum"
        )
        return torch.autograd.grad(loss, delta, create_graph=create_graph)[0]

    epsilon = 8 / 255
    start = project(
        torch.empty_like(images).uniform_(-epsilon, epsilon), images
    )
    start.requires_grad_()
    point = project(start + step_size * gradient(start), images).detach()
    point.requires_grad_()
    lower_gradient = gradient(point, create_graph=True)
    delta = project(point + step_size * lower_gradient, images).detach()
    delta.requires_grad_()
    standard_gradients(network, images + delta, labels)
    low = torch.clamp(-images, min=-epsilon) + 1e-7
    high = torch.clamp(1 - images, max=epsilon) - 1e-7
    interior = (low < delta) & (delta < high)
    (lower_gradient * (interior * delta.grad / 10)).sum().backward()


GRADIENTS = {"standard": standard_gradients, "fastbat": fastbat_gradients}


def main():
    """Takes a step for each line of the input, and prints its seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--method", choices=GRADIENTS, default="standard")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    shape = (options.batch_size, 3, 32, 32)
    images = torch.from_numpy(random.random(shape, np.float32))
    labels = torch.from_numpy(random.integers(0, 10, options.batch_size))
    network = PreActResNet18(options.width)
    optimizer = torch.optim.SGD(
        network.parameters(), 0.01, momentum=0.9, weight_decay=5e-4
    )
    gradients = GRADIENTS[options.method]
    for line in sys.stdin:
        if line.strip() == "memory":
            with open("/proc/self/status") as file:
                kilobytes = re.search(r"VmHWM:\s+(\d+) kB", file.read())[1]
            print(int(kilobytes) / 2**20, flush=True)
            continue
        start = time.perf_counter()
        optimizer.zero_grad()
        gradients(network, images, labels)
        optimizer.step()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
