"""The checked arguments of `evaluate_robustness`."""

import numbers
from typing import NamedTuple

from fastbat_tf.attacks.inputs import as_count
from fastbat_tf.attacks.registry import (
    DEFAULT_EPSILON,
    check_attacks,
    check_epsilons,
    check_surrogate,
    parse_norm,
)
from fastbat_tf.data.examples import as_array, describe
from fastbat_tf.distribution import resolve_jit_compile
from fastbat_tf.errors import InputError

LISTED = 6  # The most values that a message shows.


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
        class_names: List of strings, or None.
        loss_surface: Whether to write the loss surface.
        distances: Integer, the steps of the search for the nearest adversarial
            images; 0 for none.
    """

    attacks: list
    epsilons: list
    norm: str
    max_examples: int
    seed: int
    batch_size: int
    jit_compile: bool
    save_images: bool
    class_names: list | None
    loss_surface: bool
    distances: int


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
    class_names,
    loss_surface,
    distances=0,
):
    """Checks the arguments of `evaluate_robustness`, before any work starts.

    Args:
        attacks: Name of an attack, or a sequence of names.
        epsilons: Number, a sequence of numbers, or None, the radii.
        norm: Name of a norm, in any form that `parse_norm` takes.
        max_examples: Integer, the size of the subset; None or 0 for all.
        surrogate: A model, or None.
        batch_size: Integer.
        seed: Integer.
        jit_compile: True, False or `"auto"`.
        directory: Path, or None.
        save_images: Whether to write the adversarial images.
        class_names: A sequence of strings, or None.
        loss_surface: Whether to write the loss surface.
        distances: Integer, the steps of the search for the nearest adversarial
            images. Defaults to 0: none.

    Returns:
        A `Request`.

    Raises:
        InputError: If an argument is invalid, or if two exclude each other.
    """
    attacks = _as_attacks(attacks)
    norm = parse_norm(norm)
    epsilons = _as_epsilons(epsilons, norm)
    check_attacks(attacks)
    check_epsilons(epsilons, norm)
    check_surrogate(attacks, surrogate)
    if not epsilons:
        raise InputError(
            "`epsilons` is expected to hold at least one radius. "
            "Received: epsilons=[]"
        )
    for name, writes in (
        ("save_images", save_images),
        ("loss_surface", loss_surface),
    ):
        if writes and directory is None:
            raise InputError(
                f"`{name}` needs a directory to save to. "
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
        class_names=_as_names(class_names),
        loss_surface=loss_surface,
        distances=_as_steps(distances),
    )


def _as_steps(distances):
    if isinstance(distances, bool):  # True would be a single step.
        raise InputError(
            "`distances` is expected to be the number of steps toward each "
            f"class, such as 100. Received: distances={distances}"
        )
    return as_count("distances", distances, lowest=0)


def _as_names(class_names):
    if class_names is None:
        return None
    names = _as_list(class_names)
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError(
            "`class_names` is expected to be a list of strings, one for each "
            "label. "
            f"Received: class_names={_describe_all(class_names, names)}"
        )
    return [str(name) for name in names]


def _as_attacks(attacks):
    if isinstance(attacks, str):
        return [attacks]
    names = _as_list(attacks)
    if names is not None and all(isinstance(name, str) for name in names):
        return [str(name) for name in names]
    advice = 'such as ["pgd-50-10", "autoattack"]'
    if hasattr(attacks, "shape") or (names and not callable(names[0])):
        # Keras takes images and labels as two arguments.
        advice += "; images and labels are one: dataset=(images, labels)"
    raise InputError(
        f"`attacks` is expected to be a list of names, {advice}. "
        f"Received: attacks={_describe_all(attacks, names)}"
    )


def _as_epsilons(epsilons, norm):
    if epsilons is None:
        return [DEFAULT_EPSILON[norm]]
    numbered = epsilons
    if hasattr(epsilons, "shape"):  # A tensor, or an array of one number.
        numbered = as_array("epsilons", epsilons).tolist()
    values = _as_list(numbered)
    # A string is no number: each of its letters would be a value.
    if isinstance(numbered, numbers.Real):
        values = [numbered]
    if values is None or not all(
        isinstance(value, numbers.Real) for value in values
    ):
        raise InputError(
            "`epsilons` is expected to be a number or a list of numbers, such "
            "as [8 / 255]. "
            f"Received: epsilons={_describe_all(epsilons, values)}"
        )
    if norm == "linf" and any(1 < value <= 255 for value in values):
        level = next(value for value in values if 1 < value <= 255)
        raise InputError(
            "`epsilons` are expected as fractions of the pixel range, at most "
            f"1 for linf: for {level:g} gray levels {level:g}/255. "
            f"Received: epsilon={float(level)}"
        )
    return [float(value) for value in values]


def _as_list(values):
    """Returns the items of a sequence or an array; None for anything else."""
    if isinstance(values, str | bytes | dict) or callable(values):
        return None
    try:
        return list(values)
    except TypeError:
        return None


def _describe_all(values, items):
    """Shows values in one line: a short list, or what it is."""
    if items is None or len(items) > LISTED or hasattr(values, "shape"):
        return describe(values)
    shown = ", ".join(describe(item) for item in items)
    return f"[{shown}]"
