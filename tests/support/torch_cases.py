"""Published networks at small and full size, with weights by a rule.

PyTorch is not needed: the twins in `torch_networks` and the recorded names and
logits in `tests/golden/torch` share the rule.
"""

import json
import pathlib
import zlib
from typing import NamedTuple

import numpy as np

from fastbat_tf import models

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "torch"
# By the names that the constants have.
_MEANS, _STDS = ("mu", "mean", "new_mean"), ("sigma", "std", "new_std")


class Case(NamedTuple):
    """A published network.

    Attributes:
        kind: `"resnet"`, `"preact"`, `"zagoruyko"` or `"deepmind"`.
        depth: Integer.
        width: Integer, channels of the first group, or the widening factor.
        options: Dict of the options of the twin.
        wrapper: What holds the constants and the network, or None.
        model: The name in the zoo.
        zoo: Dict of the options of the zoo's network.
        classes: Integer. Defaults to `10`.
        size: Integer, of the images. Defaults to `32`.
    """

    kind: str
    depth: int
    width: int
    options: dict
    wrapper: str | None
    model: str
    zoo: dict
    classes: int = 10
    size: int = 32

    def images(self, count=4):
        """Images of large squares of different colors, in [0, 1]."""
        shape = count, 4, 4, 3
        colors = np.random.RandomState(1).uniform(size=shape)
        colors *= np.linspace(0.1, 1, count)[:, None, None, None]
        square = np.ones((1, self.size // 4, self.size // 4, 1))
        return np.kron(colors, square).astype("float32")

    def build(self, **options):
        """Builds the zoo's network, with random weights."""
        constants = {}
        if self.wrapper not in (None, "module"):
            constants = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
        arguments = {
            "input_shape": (self.size, self.size, 3),
            **constants,
            **self.zoo,
            **options,
        }
        return models.get(self.model, self.classes, **arguments)


_WIDE_4 = {"width": 4}
# Each of the published kinds, narrow.
CASES = {
    "wong_preact18": Case(
        "preact",
        18,
        4,
        {"head": "plain"},
        "mu",
        "preact_resnet18",
        {**_WIDE_4, "head": "plain"},
    ),
    "rice_preact18": Case(
        "preact",
        18,
        4,
        {"shortcut": "activated"},
        "mu",
        "preact_resnet18",
        {**_WIDE_4, "shortcut": "activated"},
    ),
    "fastbat_preact18": Case(
        "preact", 18, 4, {}, "normalize", "preact_resnet18", _WIDE_4
    ),
    "preact50": Case(
        "preact", 50, 2, {}, "module", "preact_resnet50", {"width": 2}
    ),
    "resnet18": Case("resnet", 18, 4, {}, None, "resnet18", _WIDE_4),
    "engstrom_resnet50": Case(
        "resnet", 50, 2, {}, "attacker", "resnet50", {"width": 2}
    ),
    "torchvision_resnet18": Case(
        "resnet",
        18,
        4,
        {"torchvision": True, "stem": "imagenet"},
        "normalize",
        "resnet18",
        {**_WIDE_4, "stem": "imagenet"},
        classes=12,
        size=64,
    ),
    "torchvision_resnet50": Case(
        "resnet",
        50,
        2,
        {"torchvision": True, "stem": "imagenet"},
        "attacker",
        "resnet50",
        {"width": 2, "stem": "imagenet"},
        size=64,
    ),
    "trades_wrn16_2": Case(
        "zagoruyko", 16, 2, {"unused": True}, "module", "wrn16_2", {}
    ),
    "zagoruyko_swish_wrn10_2": Case(
        "zagoruyko",
        10,
        2,
        {"activation": "swish"},
        "mu",
        "wrn10_2",
        {"activation": "swish"},
        classes=100,
    ),
    "deepmind_wrn16_2": Case(
        "deepmind", 16, 2, {}, None, "wrn16_2", {"padding": "same"}
    ),
    "deepmind_swish_wrn10_2": Case(
        "deepmind",
        10,
        2,
        {"activation": "swish"},
        "mean",
        "wrn10_2",
        {"activation": "swish", "padding": "same"},
    ),
}


def _full(name):
    case = CASES[name]
    return case._replace(width=64, zoo={**case.zoo, "width": 64})


def _wide(name, depth, width):
    return CASES[name]._replace(
        depth=depth, width=width, model=f"wrn{depth}_{width}"
    )


# The sizes that are published.
FULL = {
    "wong_preact18": _full("wong_preact18"),
    "rice_preact18": _full("rice_preact18"),
    "fastbat_preact18": _full("fastbat_preact18"),
    "resnet18": _full("resnet18"),
    "engstrom_resnet50": _full("engstrom_resnet50"),
    "torchvision_resnet50": _full("torchvision_resnet50")._replace(
        classes=1000, size=224
    ),
    "trades_wrn28_10": _wide("trades_wrn16_2", 28, 10),
    "trades_wrn34_10": _wide("trades_wrn16_2", 34, 10),
    "zagoruyko_swish_wrn70_16": _wide("zagoruyko_swish_wrn10_2", 70, 16),
    "deepmind_wrn34_10": _wide("deepmind_wrn16_2", 34, 10),
    "deepmind_swish_wrn28_10": _wide("deepmind_swish_wrn10_2", 28, 10),
    "deepmind_swish_wrn70_16": _wide("deepmind_swish_wrn10_2", 70, 16),
}


def weights(shapes):
    """Makes weights of the shapes that a state_dict has.

    Each tensor depends on its name and shape alone. `RandomState` gives the
    same numbers in every version of NumPy.
    """
    return {name: _tensor(name, shape) for name, shape in shapes.items()}


def _tensor(name, shape):
    # The copy of a network in its attacker is the same network.
    random = np.random.RandomState(
        zlib.crc32(name.replace("attacker.", "").encode())
    )
    own = name.rpartition(".")[2]
    if own == "num_batches_tracked":
        return np.array(7, "int64")
    if own in _MEANS:
        found = random.uniform(0.4, 0.5, shape)
    elif own in _STDS:
        found = random.uniform(0.2, 0.3, shape)
    elif own == "running_var":
        found = random.uniform(0.5, 2.0, shape)
    elif own in ("running_mean", "bias"):
        found = random.uniform(-0.2, 0.2, shape)
    elif len(shape) == 1:
        found = random.uniform(0.5, 1.5, shape)
    else:  # Small enough that deep networks keep the size of their input.
        scale = (0.6 if len(shape) == 4 else 3) * (
            2 / np.prod(shape[1:])
        ) ** 0.5
        found = scale * random.standard_normal(shape)
    return found.astype("float32")


def recorded(name):
    """Reads the weights and the logits of a small case."""
    found = json.loads((GOLDEN / f"{name}.json").read_text())
    shapes = {name: tuple(shape) for name, shape in found["shapes"].items()}
    return weights(shapes), np.array(found["logits"], "float32")
