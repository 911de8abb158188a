"""Metadata of a method: its paper, its cost and its variants.

This module imports no TensorFlow.
"""

from typing import Any, NamedTuple


class Paper(NamedTuple):
    """The paper that describes a method.

    Attributes:
        authors: String, such as `"Zhang et al."`.
        venue: String with the year, such as `"ICML 2022"`.
        url: String. Defaults to None.
    """

    authors: str
    venue: str
    url: str | None = None


class Passes(NamedTuple):
    """The passes of a step and the reach of its perturbation, on paper.

    A step is all updates on one batch. Tests count its passes.

    Attributes:
        forwards: Float, forward passes over a batch. A pass over half of the
            images counts as 0.5, and a pass that ends before the last layer as
            a whole one.
        to_images: Float, backward passes to the images.
        to_weights: Float, backward passes to the weights. A second derivative
            goes back through a forward and a backward pass, so it counts as
            two passes to the images and two to the weights.
        reach: Float, the largest entry of a perturbation, in units of
            `epsilon`. Defaults to 1.
        in_range: Whether all perturbed images are in the pixel range. Defaults
            to True.
    """

    forwards: float
    to_images: float
    to_weights: float
    reach: float = 1.0
    in_range: bool = True

    def total(self):
        """Returns the sum of the passes."""
        return self.forwards + self.to_images + self.to_weights


class Variant(NamedTuple):
    """Options that change the step of a method, for tests and benchmarks.

    Attributes:
        options: Dict, the options that differ from their defaults.
        passes: A `Passes`. Defaults to None, for the passes of the method.
    """

    options: dict
    passes: Passes | None = None


class MethodSpec(NamedTuple):
    """Describes a method without importing TensorFlow.

    Attributes:
        class_name: The class in `fastbat_tf/methods/<module>.py`.
        module: The module of the class.
        summary: Short description of the method.
        paper: A `Paper` or None.
        passes: A `Passes` or None.
        variants: Dict of `Variant`s by name.
        options: Dict of `fastbat_tf.methods.options.Option`s by name, in the
            order of the constructor.
        reports: Dict of what the method logs: the meaning of each, by its
            name in the logs without `robust_`.
    """

    class_name: str
    module: str
    summary: str = ""
    paper: Any = None
    passes: Any = None
    variants: dict = {}
    options: dict = {}
    reports: dict = {}

    @property
    def has_attack(self) -> bool:
        """Whether the method perturbs the images.

        A method that does not say how far is taken to do so if it has options.
        """
        if self.passes is None:
            return bool(self.options)
        return self.passes.reach > 0


def by_cost(specs):
    """Returns pairs of names and `MethodSpec`s, the cheapest first.

    Args:
        specs: Dict of `MethodSpec`s by name.
    """
    return sorted(
        specs.items(), key=lambda item: (item[1].passes.total(), item[0])
    )


def costs(specs):
    """Returns the passes of all methods and variants that declare them.

    Args:
        specs: Dict of `MethodSpec`s by name.

    Returns:
        Dict of `Passes` by `NAME` or `NAME-VARIANT`, the cheapest method
        first.
    """
    listed = {}
    for name, spec in by_cost(specs):
        listed[name] = spec.passes
        for variant, (_, passes) in spec.variants.items():
            if passes is not None:
                listed[f"{name}-{variant}"] = passes
    return listed
