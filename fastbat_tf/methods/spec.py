"""What the class of a method says about it, besides its options.

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
    """What a step costs and reaches on paper; tests count it.

    A step is all updates on one batch.

    Attributes:
        forwards: Float, forward passes over a batch: a pass over half of the
            images counts 0.5. A pass that ends before the last layer counts
            like any other.
        to_images: Float, backward passes to the images.
        to_weights: Float, backward passes to the weights. A second derivative
            goes back through a forward and a backward pass: it counts as two
            passes to the images and two to the weights.
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
        """The sum of the passes."""
        return self.forwards + self.to_images + self.to_weights


class Variant(NamedTuple):
    """Options that change the step of a method, for tests and benchmarks.

    Attributes:
        options: Dict, the options that are not at their default.
        passes: A `Passes`. Defaults to None: those of the method.
    """

    options: dict
    passes: Passes | None = None


class MethodSpec(NamedTuple):
    """What is known of a method without importing TensorFlow.

    Attributes:
        class_name: The class in `fastbat_tf/methods/<module>.py`.
        module: The module of the class.
        summary: What the method does, in a few words.
        paper: A `Paper` or None.
        passes: A `Passes` or None.
        variants: Dict of `Variant`s by name.
        options: Dict of `fastbat_tf.methods.options.Option`s by name, in the
            order of the constructor.
    """

    class_name: str
    module: str
    summary: str = ""
    paper: Any = None
    passes: Any = None
    variants: dict = {}
    options: dict = {}


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
