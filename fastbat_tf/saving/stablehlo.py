"""Writes functions as StableHLO, which any XLA compiler runs."""

import pathlib
import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fastbat_tf.errors import InputError
from fastbat_tf.files import write_json
from fastbat_tf.training.classifier import RobustClassifier

_QUOTED = r'"(?:[^"\\]|\\.)*"'


def export_step(
    robust: RobustClassifier,
    data: Any,
    path: str | pathlib.Path,
    prepare: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    """Writes a whole training step as StableHLO.

    The step is the one that `fit` makes: it solves the lower-level problem,
    computes the gradients, and updates weights, optimizer, moving statistics
    and metrics. It is a pure function from the batch and the variables to the
    logs and the new variables. Three files are written:

    * `step.mlir`, the computation;
    * `step.json` with the lists `inputs` and `outputs`, in the order of the
      computation. An input is an `argument`, one of the tensors of the batch
      or a `state`, a variable named by its path, both with `shape` and `dtype`.
      An output is a `result` to log, or the new value of a `state`. The list
      `metrics` has the states that an epoch starts at 0;
    * `state.npz`, the values of all states now.

    Calling the step again with the new states trains on. Random numbers depend
    on the state that counts the steps, as in `fit`.

    Args:
        robust: A compiled `RobustClassifier` on one device, whose method makes
            one step for each batch.
        data: A batch as `train_on_batch` takes it, a pair of inputs and labels
            of static shapes. Its values do not matter.
        path: The directory to write, created if it does not exist.
        prepare: Function of tensors that returns a batch, such as one that
            augments the images. It becomes part of the step, and `data` is then
            a dict of its arguments by name. Defaults to `None`: `data` is the
            batch.

    Returns:
        The content of `step.json`.

    Raises:
        InputError: If the step changes its variables in a way that cannot be
            described like this, such as several times, or if two variables
            have the same path.

    Example:

    ```python
    from fastbat_tf.saving import stablehlo

    robust = fb.RobustClassifier(model, fb.FastBAT()).compile("sgd")
    stablehlo.export_step(robust, (images, labels), "runs/step")
    ```
    """
    if robust.method.replays != 1:
        raise InputError(
            "A method that replays its batches cannot be exported; expected "
            f"replays=1. Received: replays={robust.method.replays}"
        )
    robust.optimizer.build(robust.trainable_variables)
    if prepare is None:
        inputs, labels = data
        inputs = inputs if isinstance(inputs, dict) else {"images": inputs}
        data, prepare = {**inputs, "labels": labels}, _pair
    specs = {
        name: tf.TensorSpec.from_tensor(tf.convert_to_tensor(value))
        for name, value in data.items()
    }

    def step(*values):
        batch = prepare(**dict(zip(specs, values, strict=True)))
        return robust.train_step(batch)

    folder = pathlib.Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    description = write(
        folder / "step.mlir", step, specs, lambda: get_variables(robust)
    )
    states = {path: v.numpy() for path, v in get_variables(robust)}
    states |= description.pop("constants")
    np.savez(folder / "state.npz", **states)
    description["metrics"] = [
        v.path for metric in robust.metrics for v in metric.variables
    ]
    write_json(folder / "step.json", description)
    return description


def _pair(labels, **inputs):
    return inputs, labels


def get_variables(
    robust: RobustClassifier,
) -> list[tuple[str, keras.Variable]]:
    """Lists the variables of a training.

    Args:
        robust: A compiled `RobustClassifier`, whose optimizer is built.

    Returns:
        A list of pairs of a path and a `keras.Variable`.

    Raises:
        InputError: If two variables have the same path.
    """
    variables = {id(v): v for v in robust.variables}
    variables |= {id(v): v for v in robust.optimizer.variables}
    for metric in robust.metrics:
        variables |= {id(v): v for v in metric.variables}
    pairs = [(v.path, v) for v in variables.values()]
    paths = [path for path, _ in pairs]
    twice = sorted({path for path in paths if paths.count(path) > 1})
    if twice:
        raise InputError(
            "Each variable is expected to have a unique path. "
            f"Received: path={twice[0]}"
        )
    return pairs


def write(
    file: pathlib.Path,
    function: Callable[..., dict[str, Any]],
    arguments: dict[str, Any],
    list_variables: Callable[[], list[tuple[str, keras.Variable]]],
) -> dict[str, Any]:
    """Writes a function as StableHLO.

    Args:
        file: `pathlib.Path` of the file.
        function: Function of tensors that returns a dict of tensors.
        arguments: Dict from names of arguments to `tf.TensorSpec`s.
        list_variables: Function that lists pairs of a unique path and a
            `keras.Variable`, those that the function may use. It is called
            when the function has been traced, which may create some.

    Returns:
        A dict with `file`, `inputs`, `outputs`, and the values of `constants`.

    Raises:
        InputError: If the computation cannot be described in this form.
    """
    compiled = tf.function(function, jit_compile=True, autograph=False)
    concrete = compiled.get_concrete_function(*arguments.values())
    results = sorted(concrete.structured_outputs)
    inputs = [
        {"argument": name, **_describe(spec)}
        for name, spec in arguments.items()
    ]
    variables = list_variables()
    paths = {id(v.value.handle): path for path, v in variables}
    values = {id(v.value.handle): v.value for _, v in variables}
    constants = {}
    for tensor in concrete.captured_inputs:
        path = paths.get(id(tensor))
        if path is None:  # For example, the mean of a normalization.
            path = f"{file.stem}_constant{len(constants)}"
            constants[path] = tensor.numpy()
        value = values.get(id(tensor), tensor)
        inputs.append({"state": path, **_describe(value)})

    get_ir = compiled.experimental_get_compiler_ir(*arguments.values())
    text = get_ir(stage="hlo")
    # The header lists which output is the new value of which input.
    aliases = {
        int(output): int(given)
        for output, given in re.findall(
            r"\{(\d+)\}: \((\d+), \{\}", text.partition("\n")[0]
        )
    }
    parameters = text.partition("\nENTRY")[2].count(" parameter(")
    expected = range(len(results), len(results) + len(aliases))
    # XLA drops results that are the same in every step.
    if parameters != len(inputs) or sorted(aliases) != list(expected):
        raise InputError(
            f"The computation is expected to have {len(inputs)} parameters "
            f"and {len(results)} results before its new state. "
            f"Received: parameters={parameters}, aliases={aliases}"
        )
    outputs: list[dict[str, Any]] = [
        {"result": name, **_describe(concrete.structured_outputs[name])}
        for name in results
    ]
    outputs += [inputs[aliases[output]] for output in expected]
    file.write_text(_plain(get_ir(stage="stablehlo")))
    return {
        "file": file.name,
        "inputs": inputs,
        "outputs": outputs,
        "constants": constants,
    }


def _describe(tensor):
    return {"shape": list(tensor.shape), "dtype": tensor.dtype.name}


def _plain(text):
    """Replaces copies, the only operation of another dialect, in StableHLO.

    Only some devices know that operation. A reshape to the same shape is
    equivalent. Locations, which name files of this machine, are left out, and
    so are attributes of that dialect that say nothing.
    """
    text = re.sub(r"^#loc.*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"mhlo\.\w+ = (?:\[\]|false)(?:, )?", "", text)
    text = text.replace(" attributes {} {", " {", 1)
    text = re.sub(r" \{mhlo\.frontend_attributes = \{[^}]*\}\}", "", text)
    text = re.sub(rf" loc\((?:{_QUOTED}|[^\"()])*\)", "", text)
    text = re.sub(
        r" = mhlo\.copy (%[\w#]+) : (tensor<[^>]*>)",
        r" = stablehlo.reshape \1 : (\2) -> \2",
        text,
    )
    foreign = re.search(r"= \"?((?:mhlo|chlo)\.\w+)", text)
    if foreign:
        raise InputError(
            "The computation is expected to be StableHLO only. "
            f"Received: operation={foreign[1]}"
        )
    return text
