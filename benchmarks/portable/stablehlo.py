"""Writes computations of TensorFlow as StableHLO."""

import re

from fastbat_tf.errors import InputError


def get_variables(robust):
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


def write(file, function, arguments, robust):
    """Writes a function as StableHLO.

    Args:
        file: `pathlib.Path` of the file.
        function: Function of tensors that returns a dict of tensors.
        arguments: Dict from names of arguments to `tf.TensorSpec`s.
        robust: The `RobustClassifier` whose variables it uses.

    Returns:
        A dict with `file`, `inputs`, `outputs`, and the values of `constants`.

    Raises:
        InputError: If the computation cannot be described in this form.
    """
    import tensorflow as tf

    compiled = tf.function(function, jit_compile=True, autograph=False)
    concrete = compiled.get_concrete_function(*arguments.values())
    results = sorted(concrete.structured_outputs)
    inputs = [
        {"argument": name, "shape": list(spec.shape), "dtype": spec.dtype.name}
        for name, spec in arguments.items()
    ]
    paths = {id(v.value.handle): path for path, v in get_variables(robust)}
    constants = {}
    for tensor in concrete.captured_inputs:
        path = paths.get(id(tensor))
        if path is None:  # For example, the mean of a normalization.
            path = f"{file.stem}_constant{len(constants)}"
            constants[path] = tensor.numpy()
        inputs.append({"state": path})

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
    outputs = [{"result": name} for name in results]
    outputs += [inputs[aliases[output]] for output in expected]
    file.write_text(_plain(get_ir(stage="stablehlo")))
    return {
        "file": file.name,
        "inputs": inputs,
        "outputs": outputs,
        "constants": constants,
    }


def _plain(text):
    """Replaces copies, the only operation of another dialect, in StableHLO.

    Only some devices know that operation. A reshape to the same shape is
    equivalent.
    """
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
