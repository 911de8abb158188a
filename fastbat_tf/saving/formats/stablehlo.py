"""Writes StableHLO, which any XLA compiler runs."""

import collections
import pathlib

import numpy as np
import tensorflow as tf

from fastbat_tf.errors import InputError
from fastbat_tf.files import write_json
from fastbat_tf.runtime import environment
from fastbat_tf.saving import stablehlo
from fastbat_tf.saving.facts import list_facts
from fastbat_tf.saving.precision import in_float32
from fastbat_tf.saving.served import FormatOptions, Served


def write(served: Served, folder: pathlib.Path, options: FormatOptions) -> None:
    """Writes `model.mlir`, `model.json` and `weights.npz`.

    The computation is a pure function from `images`, float32 `(batch, height,
    width, channels)` in [0, 1], and the weights to what
    `Served.answer_or_nan` returns. `model.json` has the lists `inputs` and
    `outputs`, in the order of the computation, with `shape` and `dtype`. An
    input is an `argument`, or a `state`, the name of an array of `weights.npz`.
    An output is a `result`. The dict `info` is what `list_facts` tells.

    Args:
        served: The `Served`.
        folder: `pathlib.Path` of an empty directory.
        options: The `FormatOptions`, whose `batch_size` is the size of all
            batches.

    Raises:
        InputError: If the images have no fixed size, or if XLA cannot compile
            the model.
    """
    if None in served.shape:
        raise InputError(
            "StableHLO expects images of a fixed size; build the model for "
            f"one. Received: image shape={served.shape}"
        )
    spec = tf.TensorSpec((options.batch_size, *served.shape), tf.float32)
    variables = _name_uniquely(served.classifier.variables)
    with in_float32(served.classifier), environment.captured_errors():
        try:
            description = stablehlo.write(
                folder / "model.mlir",
                served.answer_or_nan,
                {"images": spec},
                lambda: variables,
            )
        except (tf.errors.OpError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            reason = str(error).partition("\n")[0]
            raise InputError(
                "A model that XLA can compile is expected; choose another "
                f"format. Received: {reason}"
            ) from error
    values = dict(variables)
    constants = description.pop("constants")
    used = [entry["state"] for entry in description["inputs"][1:]]
    arrays = {
        name: constants[name] if name in constants else values[name].numpy()
        for name in used
    }
    np.savez(folder / "weights.npz", **arrays)
    shapes = {e["result"]: e["shape"] for e in description["outputs"]}
    classes = shapes["logits"][-1]
    description["info"] = list_facts(served.info, classes)
    write_json(folder / "model.json", description)


def _name_uniquely(variables):
    """Pairs of a unique name and a variable."""
    # Models that are parts of another one may share paths.
    seen = collections.Counter()
    pairs = []
    for variable in variables:
        seen[variable.path] += 1
        count = seen[variable.path]
        name = variable.path if count == 1 else f"{variable.path}#{count}"
        pairs.append((name, variable))
    return pairs
