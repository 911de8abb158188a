"""The checked arguments of `evaluate_robustness`."""

from typing import NamedTuple

from fastbat_tf.attacks import (
    check_attacks,
    check_epsilons,
    check_surrogate,
    norms,
)
from fastbat_tf.attacks.inputs import as_count
from fastbat_tf.distribution import resolve_jit_compile
from fastbat_tf.errors import InputError


class Request(NamedTuple):
    """The checked settings of an evaluation.

    Attributes:
        attacks: List of attack names.
        epsilons: List of floats, the radii.
        norm: `"linf"` or `"l2"`.
        max_examples: Integer, the size of the subset; 0 for all examples.
        seed: Integer.
        batch_size: Integer, images per call of the model.
        jit_compile: Whether XLA compiles the attacks.
        save_images: Whether to write the adversarial images.
    """

    attacks: list
    epsilons: list
    norm: str
    max_examples: int
    seed: int
    batch_size: int
    jit_compile: bool
    save_images: bool


def check_request(
    attacks,
    epsilons,
    *,
    norm,
    max_examples,
    surrogate,
    batch_size,
    seed,
    jit_compile,
    directory,
    save_images,
):
    """Checks the arguments of `evaluate_robustness`, before any work starts.

    Args:
        attacks: Sequence of attack names.
        epsilons: Sequence of numbers, the radii.
        norm: `"linf"` or `"l2"`.
        max_examples: Integer, the size of the subset; None or 0 for all.
        surrogate: A model, or None.
        batch_size: Integer.
        seed: Integer.
        jit_compile: True, False or `"auto"`.
        directory: Path, or None.
        save_images: Whether to write the adversarial images.

    Returns:
        A `Request`.

    Raises:
        InputError: If an argument is invalid, or if two exclude each other.
    """
    attacks = _as_list("attacks", attacks, str)
    epsilons = _as_list("epsilons", epsilons, float)
    norms.get(norm)
    check_attacks(attacks)
    check_epsilons(epsilons, norm)
    check_surrogate(attacks, surrogate)
    if not epsilons:
        raise InputError(
            "`epsilons` is expected to hold at least one radius. "
            "Received: epsilons=[]"
        )
    if save_images and directory is None:
        raise InputError(
            "`save_images` needs a directory to save to. "
            "Received: directory=None"
        )
    return Request(
        attacks=attacks,
        epsilons=epsilons,
        norm=norm,
        max_examples=as_count("max_examples", max_examples or 0, lowest=0),
        seed=as_count("seed", seed, lowest=0),
        batch_size=as_count("batch_size", batch_size),
        jit_compile=resolve_jit_compile(jit_compile),
        save_images=save_images,
    )


def _as_list(name, values, kind):
    try:
        if isinstance(values, str):  # Each letter would be a value.
            raise TypeError
        return [kind(value) for value in values]
    except (TypeError, ValueError):
        raise InputError(
            f"`{name}` is expected to be a list of {kind.__name__}. "
            f"Received: {name}={values}"
        ) from None
