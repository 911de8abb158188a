"""What published networks are wrapped in: normalization, DataParallel."""

import torch
from torch import nn


class Buffers(nn.Module):
    """Constants of a normalization, under two names."""

    def __init__(self, mean, std):
        super().__init__()
        self.names = mean, std
        for name in self.names:
            self.register_buffer(name, torch.ones(3, 1, 1))

    def forward(self, x):
        mean, std = (getattr(self, name) for name in self.names)
        return (x - mean) / std


class Beside(nn.Module):
    """A network that holds its constants itself, as RobustBench's do."""

    def __init__(self, network, mean, std):
        super().__init__()
        self.normalize_ = Buffers(mean, std)
        self.network_ = network

    def forward(self, x):
        return self.network_(self.normalize_(x))

    def own(self, name):
        """The name that a tensor has in a file."""
        return name.replace("normalize_.", "").replace("network_.", "")


class Before(nn.Module):
    """A normalization, and the network after it."""

    def __init__(self, network):
        super().__init__()
        self.normalize = Buffers("mean", "std")
        self.model = network

    def forward(self, x):
        return self.model(self.normalize(x))


class Attacked(nn.Module):
    """A network with a copy in its attacker, as Engstrom's."""

    def __init__(self, network):
        super().__init__()
        self.normalizer = Buffers("new_mean", "new_std")
        self.model = network
        self.attacker = nn.Module()
        self.attacker.normalize = Buffers("new_mean", "new_std")
        self.attacker.model = network

    def forward(self, x):
        return self.model(self.normalizer(x))


class Wrapped(nn.Module):
    """What DataParallel makes of a network."""

    def __init__(self, network):
        super().__init__()
        self.module = network

    def forward(self, x):
        return self.module(x)


WRAPPERS = {
    "mu": lambda network: Beside(network, "mu", "sigma"),
    "mean": lambda network: Beside(network, "mean", "std"),
    "normalize": Before,
    "attacker": lambda network: Wrapped(Attacked(network)),
    "module": Wrapped,
}
