"""Measures how far away the nearest adversarial images are."""

from typing import Any, NamedTuple

import numpy as np

from fastbat_tf.attacks.bound import BoundAttack
from fastbat_tf.attacks.nearest import NearestFAB, distances
from fastbat_tf.attacks.records import Clean
from fastbat_tf.attacks.sharding import Sharding
from fastbat_tf.evaluation.inputs import Sample
from fastbat_tf.evaluation.intervals import confidence_interval
from fastbat_tf.evaluation.request import Request
from fastbat_tf.evaluation.runner import run_stage
from fastbat_tf.evaluation.state import EvaluationState
from fastbat_tf.layers.pixel_range import PixelRange
from fastbat_tf.runtime.display import Display

STEPS = 100  # Those of `fab-t`.
BINS = 20
QUARTILES = (0.25, 0.75)


class Found(NamedTuple):
    """The nearest adversarial images of a data set.

    Attributes:
        name: String, the attack whose outcomes they are, such as `fab-t-20`.
        distance: float32 array `(examples,)`: 0 for an image that is
            misclassified already, infinite if none was found.
        predicted: int32 array `(examples,)`, the class of the nearest image.
        perturbation: float32 array like the images, or None.
        seconds: Float.
    """

    name: str
    distance: np.ndarray
    predicted: np.ndarray
    perturbation: np.ndarray | None
    seconds: float


def build(request: Request, network: Any, sharding: Sharding) -> BoundAttack:
    """Builds the search on a network.

    Args:
        request: The `Request`, whose `distances` are the steps.
        network: Callable from images in [0, 1] to logits.
        sharding: The `Sharding`.

    Raises:
        InputError: If the network is a function of NumPy arrays.
    """
    attack = NearestFAB(
        steps=request.distances,
        norm=request.norm,
        batch_size=request.batch_size,
        jit_compile=request.jit_compile,
    )
    attack.title = f"distances ({name_of(request.distances)})"
    return attack.on(network).over(sharding)


def name_of(steps: int) -> str:
    """Returns the attack of that many steps.

    Example:

    >>> name_of(100), name_of(20)
    ('fab-t', 'fab-t-20')
    """
    return "fab-t" if steps == STEPS else f"fab-t-{steps}"


def measure(
    attack: BoundAttack,
    clean: Clean,
    request: Request,
    *,
    state: EvaluationState,
    shown: Display,
) -> Found:
    """Searches around each correctly classified image, or goes on with it.

    Args:
        attack: What `build` returned.
        clean: The `Clean` examples.
        request: The `Request`.
        state: The `EvaluationState`.
        shown: The `Display`.
    """
    record, seconds = run_stage(
        f"distances-{request.distances}",
        attack,
        clean,
        np.inf,
        robust=clean.correct,
        seed=request.seed,
        state=state,
        shown=shown,
    )
    return Found(
        name_of(request.distances),
        distances(clean, record),
        record.predicted,
        record.perturbation,
        seconds,
    )


def summarize(found: Found, clean: Clean, request: Request) -> dict[str, Any]:
    """Returns the entry of `distances` in the results.

    Args:
        found: The `Found`.
        clean: The `Clean` examples.
        request: The `Request`.

    Returns:
        A dict of JSON types, which `evaluate_robustness` documents. A quantile
        is None if fewer than that share of the images have an adversarial one.
    """
    tried = found.distance[clean.correct].astype(np.float64)
    finite = tried[np.isfinite(tried)]
    edges = np.linspace(0.0, finite.max(), BINS + 1) if len(finite) else []
    counts = np.histogram(finite, edges)[0] if len(finite) else np.zeros(0, int)
    return {
        "attack": found.name,
        "norm": request.norm,
        "examples": len(found.distance),
        "attacked": len(tried),
        "found": len(finite),
        "seconds": round(found.seconds, 1),
        "seed": request.seed,
        "median": _quantile(tried, 0.5),
        "quartiles": [_quantile(tried, share) for share in QUARTILES],
        "histogram": {
            "edges": [float(edge) for edge in edges],
            "counts": counts.tolist(),
            "robust_accuracy": [
                float((found.distance > edge).mean()) for edge in edges
            ],
        },
        "radii": [_at(found, epsilon) for epsilon in request.epsilons],
    }


def _quantile(distance, share):
    """The smallest distance that at least a share of the images do not exceed.

    No mean of two distances, of which one may be infinite.
    """
    if not len(distance):
        return None
    value = np.quantile(distance, share, method="inverted_cdf")
    return float(value) if np.isfinite(value) else None


def _at(found, epsilon):
    robust = found.distance > np.float32(epsilon)  # As the attack compares.
    return {
        "epsilon": epsilon,
        "robust_accuracy": float(robust.mean()),
        "confidence_interval": confidence_interval(robust),
    }


def write(
    state: EvaluationState,
    found: Found,
    clean: Clean,
    *,
    sample: Sample,
    pixels: PixelRange,
) -> None:
    """Writes `distances.npz`, and the images if they are kept.

    Args:
        state: The `EvaluationState`.
        found: The `Found`.
        clean: The `Clean` examples.
        sample: The `Sample` that they are.
        pixels: The `PixelRange` of the data, in which images are written.
    """
    arrays = {
        "index": sample.index,
        "label": clean.labels,
        "distance": found.distance,
        "adversarial_class": found.predicted,
        "attack": found.name,
    }
    state.write_npz("distances.npz", **arrays)
    if found.perturbation is not None:
        images = np.clip(clean.images + found.perturbation, 0.0, 1.0)
        state.write_npz(
            "adversarial_nearest.npz", images=pixels.from_unit(images), **arrays
        )
