"""Measures the accuracy on common corruptions."""

import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from fastbat_tf.attacks.classifier import Classifier
from fastbat_tf.attacks.inputs import as_count
from fastbat_tf.attacks.sharding import Sharding, strategy_of
from fastbat_tf.errors import InputError
from fastbat_tf.evaluation import inputs
from fastbat_tf.evaluation.corruption_table import (
    EXTRA,
    SEVERITIES,
    STANDARD,
    summarize,
)
from fastbat_tf.runtime import display

LABELS = "labels"
BATCHES = 8  # As many are read at once.


class Files(NamedTuple):
    """The files of a directory, which are read where they are used.

    Attributes:
        images: Dict from the names of the corruptions to uint8 arrays `(5 n,
            height, width, channels)`, in the order of the paper.
        labels: Integer array `(n,)`, the same at each severity.
    """

    images: dict[str, np.ndarray]
    labels: np.ndarray


def evaluate_corruptions(
    model: Any,
    directory: str | os.PathLike,
    *,
    max_examples: int | None = None,
    batch_size: int = 250,
    seed: int = 0,
    verbose: bool = False,
    pixel_range: Any = None,
    allow_code: bool = False,
) -> dict[str, Any]:
    """Measures the accuracy on corrupted images, as those of CIFAR-10-C.

    The directory has the published layout: a file for each corruption, such as
    `fog.npy`, of uint8 images `(50000, 32, 32, 3)`, in which the same 10,000
    images follow each other at severity 1, 2, ... 5, and `labels.npy`, the
    labels of all of them. Other numbers and sizes of images are taken, too.

    The means are those over corruptions, each of which counts alike; they are
    not divided by the errors of another network.

    Reference: Hendrycks & Dietterich, "Benchmarking Neural Network Robustness
    to Common Corruptions and Perturbations", ICLR 2019 (arXiv 1903.12261).

    Args:
        model: A model in any form that `evaluate_robustness` takes.
        directory: Path of the directory. Its arrays are read in pieces.
        max_examples: Integer, the size of a class-balanced subset, the same
            images at each severity, which is drawn with `seed`. Defaults to
            None, which takes all images; so does 0.
        batch_size: Integer, images per call of the model. Defaults to 250.
        seed: Integer of at least 0. Defaults to 0.
        verbose: Whether to print a line for each corruption; a terminal shows
            a progress bar. Defaults to False.
        pixel_range: Pair of floats, the range of the pixels that the model
            takes. Defaults to None, the range of a `RobustClassifier`, and
            `(0, 1)` for any other model.
        allow_code: Whether the file of `model` may bring Python code. Defaults
            to False.

    Returns:
        A dict. Accuracies are fractions.

        * `accuracy`: dict from the names of the corruptions to the accuracies
          at severities 1 to 5;
        * `mean_accuracy`: the mean over the 15 standard corruptions and all
          severities, and `severity_accuracy`, the five means over the
          corruptions; both are None if one of the 15 is missing;
        * `missing`: the names of those that are;
        * `examples` at each severity, `subset`, a sentence about them or None,
          and `seed`.

        The four extra corruptions, `speckle_noise`, `gaussian_blur`, `spatter`
        and `saturate`, are not in the means.

    Raises:
        InputError: A `ValueError`, if a file cannot be read or has another
            shape, or an argument is invalid.

    Example:

    ```python
    found = fb.evaluate_corruptions(model, "CIFAR-10-C", max_examples=1000)
    found["mean_accuracy"], found["accuracy"]["fog"]
    ```
    """
    max_examples = as_count("max_examples", max_examples or 0, lowest=0)
    seed = as_count("seed", seed, lowest=0)
    batch_size = as_count("batch_size", batch_size)
    sharding = Sharding(strategy_of(model))
    shown = display.get(1 if verbose and sharding.workers.is_chief else -1)
    files = sharding.together(lambda: open_files(directory))
    index, subset = inputs.choose(files.labels, max_examples, seed)
    network, _ = inputs.as_network(model, pixel_range, allow_code=allow_code)
    classify = Classifier(network, batch_size, sharding)
    accuracy = {}
    total = len(files.images) * SEVERITIES
    with shown.task("corruptions", total=total) as task:
        for name, images in files.images.items():
            accuracy[name] = []
            for severity in range(SEVERITIES):
                task.update(
                    len(accuracy) * SEVERITIES - SEVERITIES + severity,
                    detail=f"{name}, severity {severity + 1}",
                )
                first = severity * len(files.labels)
                share = _measure(classify, images, files.labels, first, index)
                accuracy[name].append(share)
            shares = ", ".join(f"{share:.1%}" for share in accuracy[name])
            shown.log(f"{name}: {shares} at severities 1 to {SEVERITIES}")
    return {**summarize(accuracy, len(index)), "subset": subset, "seed": seed}


def _measure(classify, images, labels, first, index):
    """Returns the accuracy at one severity, whose images begin at `first`."""
    correct, step = 0, BATCHES * classify.batch_size
    for start in range(0, len(index), step):
        chosen = index[start : start + step]
        # A copy in memory of these images alone.
        clean = classify(np.asarray(images[first + chosen]), labels[chosen])
        correct += int(clean.correct.sum())
    return correct / len(index)


def open_files(directory):
    """Opens the arrays of a directory, and checks their shapes.

    Args:
        directory: Path.

    Returns:
        The `Files`. Images stay on the disk until they are used.

    Raises:
        InputError: If a file is missing, or not as expected.
    """
    directory = pathlib.Path(directory)
    names = [
        name
        for name in (*STANDARD, *EXTRA)
        if (directory / f"{name}.npy").is_file()
    ]
    if not names:
        raise InputError(
            "A directory with a file for each corruption is expected, such as "
            f"{STANDARD[0]}.npy. Received: directory={directory}"
        )
    labels = _open(directory, LABELS)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        raise _refusal(directory, LABELS, labels, "integers (images,)")
    if len(labels) % SEVERITIES:
        raise _refusal(
            directory, LABELS, labels, f"{SEVERITIES} severities of one size"
        )
    each = np.array(labels).reshape(SEVERITIES, -1)
    if (each != each[0]).any():
        raise InputError(
            "The labels are expected to be the same at each of the "
            f"{SEVERITIES} severities, which follow each other. "
            f"Received: file={directory / LABELS}.npy"
        )
    images, shape = {}, ("height", "width", "channels")
    for name in names:
        found = images[name] = _open(directory, name)
        expected = ", ".join(map(str, (len(labels), *shape)))
        if (
            found.dtype != np.uint8
            or found.ndim != 4
            or len(found) != len(labels)
            or (len(images) > 1 and found.shape[1:] != shape)
        ):
            raise _refusal(directory, name, found, f"uint8 ({expected})")
        shape = found.shape[1:]
    return Files(images, each[0].astype(np.int64))


def _open(directory, name):
    """Opens an array on the disk; nothing is unpickled."""
    path = directory / f"{name}.npy"
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(found, np.ndarray):
            found.close()
            raise ValueError("an archive of arrays")
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            "An array of numbers is expected, as numpy.save writes it. "
            f"Received: file={path} ({reason})"
        ) from error
    return found


def _refusal(directory, name, found, expected):
    shape = ", ".join(map(str, found.shape))
    return InputError(
        f"Expected {expected} in {name}.npy. "
        f"Received: {found.dtype} ({shape}), file={directory / name}.npy"
    )
