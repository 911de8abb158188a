"""Writes the files of an evaluation."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from fastbat_tf.attacks.records import Clean
from fastbat_tf.errors import InputError
from fastbat_tf.evaluation import gallery, surface
from fastbat_tf.evaluation.gallery import Outcomes
from fastbat_tf.evaluation.inputs import Sample
from fastbat_tf.evaluation.request import Request
from fastbat_tf.evaluation.runner import AttackOutcome
from fastbat_tf.evaluation.state import EvaluationState
from fastbat_tf.layers.pixel_range import PixelRange

GALLERY, SURFACE = "gallery.npz", "surface.npz"
NO_SURFACE = "No loss surface was computed: no image is classified correctly."


def describe(
    model: Any, class_names: list[str] | None, classes: int
) -> dict[str, Any]:
    """What `results.json` says about the model and the data.

    Args:
        model: The model, or its path.
        class_names: List of strings, or None.
        classes: Integer, the number of classes of the model.

    Returns:
        A dict with `class_names` and `model`, if they are known.

    Raises:
        InputError: If there are more names than classes.
    """
    found = {}
    if class_names is not None:
        if len(class_names) > classes:
            raise InputError(
                "`class_names` is expected to have at most a name for each of "
                f"the model's {classes} classes. "
                f"Received: class_names={_shorten(class_names)}"
            )
        # A model may have more classes than the data set.
        rest = [str(label) for label in range(len(class_names), classes)]
        found["class_names"] = [*class_names, *rest]
    if isinstance(model, str | os.PathLike):
        found["model"] = os.fspath(model)
    return found


def _shorten(names, shown=6):
    more = f", ... ({len(names)} names)" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def save_images(
    state: EvaluationState,
    outcome: AttackOutcome,
    epsilon: float,
    *,
    clean: Clean,
    sample: Sample,
    pixels: PixelRange,
) -> None:
    """Writes the adversarial images of an attack at a radius.

    Args:
        state: The `EvaluationState`.
        outcome: The `AttackOutcome`, with its perturbation.
        epsilon: Float, the radius.
        clean: The `Clean` examples.
        sample: The `Sample` that they are.
        pixels: The `PixelRange` of the data, in which the images are written.
    """
    images = np.clip(clean.images + outcome.perturbation, 0.0, 1.0)
    state.write_npz(
        f"adversarial_{outcome.name}-{epsilon:.8g}.npz",
        images=pixels.from_unit(images),
        label=clean.labels,
        robust=outcome.robust,
        index=sample.index,
    )


def write_outcomes(
    state: EvaluationState,
    outcomes: Outcomes,
    clean: Clean,
    index: np.ndarray,
) -> None:
    """Writes `outcomes.npz`: what became of each example.

    Args:
        state: The `EvaluationState`.
        outcomes: Dict from each radius to the list of its `AttackOutcome`s.
        clean: The `Clean` examples.
        index: Integer array `(examples,)`, their places in the data set.
    """
    rows = [(e, outcome) for e, row in outcomes.items() for outcome in row]
    predictions = [outcome.prediction for _, outcome in rows]
    state.write_npz(
        "outcomes.npz",
        index=index,
        label=clean.labels,
        clean_correct=clean.correct,
        clean_class=clean.prediction.predicted,
        clean_confidence=clean.prediction.confidence,
        attack=np.array([outcome.name for _, outcome in rows]),
        epsilon=np.array([epsilon for epsilon, _ in rows]),
        robust=np.array([outcome.robust for _, outcome in rows]),
        adversarial_class=np.array([p.predicted for p in predictions]),
        adversarial_confidence=np.array([p.confidence for p in predictions]),
    )


def write_pictures(
    state: EvaluationState,
    network: Callable[[Any], Any],
    outcomes: Outcomes,
    *,
    clean: Clean,
    index: np.ndarray,
    request: Request,
) -> None:
    """Writes `gallery.npz`, and `surface.npz` if it was asked for.

    Files that are there are kept: they are of the same evaluation.

    Args:
        state: The `EvaluationState`.
        network: Callable from images in [0, 1] to logits.
        outcomes: Dict from each radius to the list of its `AttackOutcome`s.
        clean: The `Clean` examples.
        index: Integer array `(examples,)`, their places in the data set.
        request: The `Request`.
    """
    state.complete(
        GALLERY,
        lambda: gallery.make(
            network,
            clean,
            outcomes,
            index,
            norm=request.norm,
            seed=request.seed,
        ),
    )
    if request.loss_surface and clean.correct.any():
        state.complete(
            SURFACE,
            lambda: surface.make(
                network,
                state.read_npz(GALLERY),
                seed=request.seed,
                batch_size=request.batch_size,
            ),
        )
