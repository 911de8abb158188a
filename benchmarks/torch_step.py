"""Training steps in plain PyTorch, to which `step_time.py` compares ours.

    python benchmarks/torch_step.py --width=16 --batch_size=128

The PreActResNet-18 (He et al. 2016), the batch, the loss and the optimizer are
those of the steps of `fastbat_tf`. The step is

* `standard`: the standard one;
* `fastbat`: Fast-BAT's equations (Zhang et al., ICML 2022), with as few passes
  and second derivatives as they need: 11 passes;
* `fastbat-published`: the same equations as the published program spends its
  passes: a graph of second derivatives for both lower steps, an evaluation of
  the clean images, and the final images forward twice: 14 passes.

For each line of its input, the program takes a step and prints its wall and CPU
seconds; for the line `memory`, it prints the peak memory in GB, and the memory
before the first step. It needs only PyTorch and NumPy, which may be installed
apart from TensorFlow.
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


def interior_gradient(delta, images, gradient, epsilon=8 / 255):
    """Returns a gradient to delta, 0 where delta is on a bound."""
    low = torch.clamp(-images, min=-epsilon) + 1e-7
    high = torch.clamp(1 - images, max=epsilon) - 1e-7
    return ((low < delta) & (delta < high)) * gradient


class LowerLevel:
    """The lower level of Fast-BAT for one batch."""

    def __init__(self, network, images, labels):
        self._network = network
        self._images = images
        self._labels = labels

    def start(self, epsilon=8 / 255):
        """Draws the first perturbation."""
        noise = torch.empty_like(self._images).uniform_(-epsilon, epsilon)
        return project(noise, self._images)

    def loss(self, delta):
        """Computes the sum of the cross-entropies."""
        logits = self._network(self._images + delta)
        return nn.functional.cross_entropy(
            logits, self._labels, reduction="sum"
        )

    def step(self, delta, create_graph=False, step_size=5000 / 255):
        """Returns the next perturbation, and the gradient at this one."""
        delta = delta.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(
            self.loss(delta), delta, create_graph=create_graph
        )
        moved = project(delta + step_size * gradient, self._images)
        return moved.detach(), gradient


def fastbat_gradients(network, images, labels):
    """Computes Fast-BAT's gradients for lambda = 10, stored in the weights."""
    lower = LowerLevel(network, images, labels)
    point, _ = lower.step(lower.start())
    delta, lower_gradient = lower.step(point, create_graph=True)
    delta.requires_grad_()
    standard_gradients(network, images + delta, labels)
    vector = interior_gradient(delta, images, delta.grad / 10)
    (lower_gradient * vector).sum().backward()


def published_gradients(network, images, labels):
    """Computes the same gradients with the published program's passes."""
    network.eval()
    with torch.no_grad():  # The clean accuracy, for the log.
        network(images).argmax(1)
    network.train()
    lower = LowerLevel(network, images, labels)
    point, unused = lower.step(lower.start(), create_graph=True)
    delta, lower_gradient = lower.step(point, create_graph=True)
    delta.requires_grad_()
    (upper_gradient,) = torch.autograd.grad(lower.loss(delta), delta)
    scale = 10 * len(images)
    vector = interior_gradient(delta, images, upper_gradient / scale).detach()
    implicit = torch.autograd.grad(
        lower_gradient, list(network.parameters()), vector, allow_unused=True
    )
    standard_gradients(network, images + delta.detach(), labels)
    for weight, term in zip(network.parameters(), implicit, strict=True):
        if term is not None:  # The last bias has no part in it.
            weight.grad += term


GRADIENTS = {
    "standard": standard_gradients,
    "fastbat": fastbat_gradients,
    "fastbat-published": published_gradients,
}


def memory(name):
    """Memory of this process in GB: `VmHWM`, its peak, or `VmRSS`, now."""
    with open("/proc/self/status") as file:
        return int(re.search(rf"{name}:\s+(\d+) kB", file.read())[1]) / 2**20


def main():
    """Takes a step for each line of the input, and prints its seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--method", choices=GRADIENTS, default="standard")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    random = np.random.default_rng(0)
    shape = (options.batch_size, 3, 32, 32)
    images = torch.from_numpy(random.random(shape, np.float32))
    labels = torch.from_numpy(random.integers(0, 10, options.batch_size))
    network = PreActResNet18(options.width)
    optimizer = torch.optim.SGD(
        network.parameters(), 0.01, momentum=0.9, weight_decay=5e-4
    )
    gradients = GRADIENTS[options.method]
    before = memory("VmRSS")
    for line in sys.stdin:
        if line.strip() == "memory":
            print(memory("VmHWM"), before, flush=True)
            continue
        wall, cpu = time.perf_counter(), time.process_time()
        optimizer.zero_grad()
        gradients(network, images, labels)
        optimizer.step()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(wall, cpu, flush=True)


if __name__ == "__main__":
    main()
