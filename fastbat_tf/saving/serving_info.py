"""What a served model says about itself: the answer of its `info` signature."""

import json
from typing import Any

import numpy as np

import fastbat_tf
from fastbat_tf.errors import InputError
from fastbat_tf.saving.model_info import ModelInfo

# Of a number. TensorFlow Serving would write NaN as it is, which most readers
# of JSON refuse.
UNKNOWN = -1
# Those of the results that are about the model, and not about where it lies.
MEASURED = (
    "clean_accuracy",
    "clean_confidence_interval",
    "examples",
    "subset",
    "norm",
    "seed",
    "weights_sha256",
    "attacks",
    "worst_case",
    "distances",
    "warnings",
    "notes",
)


def describe(info: ModelInfo, classes: int | None) -> dict[str, np.ndarray]:
    """Describes a model by arrays.

    Args:
        info: The `ModelInfo`.
        classes: Integer, the number of logits; None if it is not fixed.

    Returns:
        A dict of NumPy arrays. Strings are UTF-8; `""` or no entry at all, and
        -1 for a number, stand for what is not known:

        * `class_names`, bytes `(classes,)` or `(0,)`;
        * `method`, bytes, the training method;
        * `norm`, bytes, and `epsilon`, float64, a fraction of the pixel range:
          the perturbations against which the robust accuracy was measured; if
          it was not, those of the training;
        * `clean_accuracy` and `robust_accuracy`, float64 in [0, 1], of the same
          examples. The robust accuracy is the lowest that was measured on
          them: of all attacks together, if they were measured together;
        * `attacks`, bytes `(attacks,)`, the attacks that left it;
        * `examples`, int64, the number of examples;
        * `version`, bytes, that of this library;
        * `measured`, bytes, a JSON object: all results as
          `evaluate_robustness` returns them, with their confidence intervals,
          warnings and notes, and `doubts`, reasons not to quote them. `{}` if
          nothing was measured.

    Raises:
        InputError: If there is not one name for each class.

    Example:

    >>> describe(fb.ModelInfo("mine", method="fastbat"), 10)["method"]
    array(b'fastbat', dtype=object)
    """
    names = info.class_names or ()
    if names and classes not in (None, len(names)):
        raise InputError(
            f"One name for each of the {classes} logits is expected. "
            f"Received: class_names={tuple(names)}"
        )
    results = info.results or {}
    row = info.worst_case or {}
    clean, examples = _clean(results, row)
    has_row = bool(row)
    described = {
        "class_names": names,
        "method": info.method,
        "norm": row["norm"] if has_row else info.norm,
        "epsilon": row["epsilon"] if has_row else info.epsilon,
        "clean_accuracy": clean,
        "robust_accuracy": row.get("robust_accuracy"),
        "attacks": row.get("attacks") or ([row["attack"]] if has_row else []),
        "examples": examples,
        "version": fastbat_tf.__version__,
        "measured": _measured(results, info.doubts),
    }
    return {name: _array(name, value) for name, value in described.items()}


def _clean(results, row):
    """The clean accuracy of the examples of a row, and how many they are."""
    if not row:
        return results.get("clean_accuracy"), results.get("examples")
    examples = row["examples"]
    if "attacked" in row:  # Those that are classified correctly.
        return row["attacked"] / examples, examples
    same = all(row.get(k) == results.get(k) for k in ("examples", "seed"))
    return results.get("clean_accuracy") if same else None, examples


def _measured(results, doubts):
    kept = {name: results[name] for name in MEASURED if name in results}
    for group in ("attacks", "worst_case", "distances"):
        if group in kept:
            kept[group] = [_without_outcomes(row) for row in kept[group]]
    if kept and doubts:
        kept["doubts"] = list(doubts)
    # The results of others may hold NaN, which is no JSON.
    finite = json.loads(json.dumps(kept), parse_constant=lambda _: None)
    return json.dumps(finite, allow_nan=False)


def _without_outcomes(row):
    """Leaves out the path of a file in the run."""
    return {key: value for key, value in row.items() if key != "outcomes"}


def _array(name, value) -> np.ndarray:
    if name == "examples":
        return np.asarray(UNKNOWN if value is None else value, np.int64)
    if name == "epsilon" or name.endswith("accuracy"):
        known = value is not None and np.isfinite(value)
        return np.asarray(value if known else UNKNOWN, np.float64)
    if name in ("class_names", "attacks"):
        return np.asarray([_encode(text) for text in value], object)
    return np.asarray(_encode(value or ""), object)


def _encode(text: Any) -> bytes:
    # A name of a folder may be no UTF-8, which JSON could not hold.
    return str(text).encode("utf-8", "replace")
