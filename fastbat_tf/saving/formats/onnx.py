"""Writes an ONNX file, which ONNX Runtime and others run."""

import contextlib
import json
import logging
import pathlib

import onnx
import tensorflow as tf
import tf2onnx
from tensorflow.python.framework import convert_to_constants

from fastbat_tf.errors import InputError
from fastbat_tf.runtime import environment
from fastbat_tf.saving.facts import list_facts
from fastbat_tf.saving.precision import in_float32
from fastbat_tf.saving.served import FormatOptions, Served

OPSET = 18  # The latest that tf2onnx writes.
OUTPUTS = ("logits", "probabilities", "classes")
# A file is one protocol buffer, which has less than 2 GiB. What is not weights
# takes far less than 16 MiB.
LARGEST = 2**31 - 2**24


def write(served: Served, folder: pathlib.Path, options: FormatOptions) -> None:
    """Writes `model.onnx`.

    Its input is `images`, float32 `(batch, height, width, channels)` in [0, 1],
    and its outputs are those of `Served.answer_or_nan`. Its metadata has what
    `list_facts` tells, with lists as JSON.

    Args:
        served: The `Served`.
        folder: `pathlib.Path` of an empty directory.
        options: The `FormatOptions`, none of which applies.

    Raises:
        InputError: If the model is too large for the format, or has an
            operation that ONNX does not have.
    """
    del options
    _check_size(served.classifier)
    model = _convert(served)
    _check_operations(model)
    _name_sizes(model.graph)
    model.graph.name = served.info.name.encode("utf-8", "replace")
    logits = model.graph.output[0].type.tensor_type.shape
    facts = list_facts(served.info, logits.dim[1].dim_value or None).items()
    onnx.helper.set_model_props(
        model,
        {k: v if isinstance(v, str) else json.dumps(v) for k, v in facts},
    )
    onnx.checker.check_model(model, full_check=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def _check_size(classifier):
    values = [weight.value for weight in classifier.weights]
    size = sum(v.dtype.size * v.shape.num_elements() for v in values)
    if size > LARGEST:
        raise InputError(
            "A model whose weights have less than 2 GiB is expected; an ONNX "
            f"file holds no more. Received: {size / 2**30:.2f} GiB"
        )


def _convert(served):
    """Converts a classifier to an ONNX model, by tf2onnx."""
    images = tf.TensorSpec((None, *served.shape), tf.float32, name="images")
    answer = tf.function(served.answer_or_nan, [images], autograph=False)
    with in_float32(served.classifier):
        concrete = answer.get_concrete_function()
    with _silent_loggers(), environment.captured_errors():
        # Also the captured constants, of which tf2onnx makes inputs: the mean
        # of a normalization, for example.
        frozen = convert_to_constants.convert_variables_to_constants_v2(
            concrete
        )
        names = {"images": frozen.inputs[0].name}
        for name, tensor in zip(sorted(OUTPUTS), frozen.outputs, strict=True):
            names[name] = tensor.name
        model, _ = tf2onnx.convert.from_graph_def(
            frozen.graph.as_graph_def(),
            input_names=[names["images"]],
            output_names=[names[name] for name in OUTPUTS],
            opset=OPSET,
            tensors_to_rename={tensor: name for name, tensor in names.items()},
        )
    return model


@contextlib.contextmanager
def _silent_loggers():
    """Hides what is deprecated, and what becomes an error."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "tf2onnx")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _check_operations(model):
    # tf2onnx leaves an operation that it does not know as it is.
    unknown = {
        node.op_type
        for graph in _graphs(model.graph)
        for node in graph.node
        if not onnx.defs.has(node.op_type, node.domain)
    }
    if unknown:
        raise InputError(
            "A model that ONNX can express is expected; choose another format. "
            f"Received: operations={', '.join(sorted(unknown))}"
        )


def _graphs(graph):
    """Yields a graph and the graphs in its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)


def _name_sizes(graph):
    """Names the sizes that are open, for those who look at the file."""
    names = ("batch", "height", "width")
    for value in (*graph.input, *graph.output):
        sizes = value.type.tensor_type.shape.dim
        for size, name in zip(sizes, names, strict=False):
            if not size.HasField("dim_value"):
                size.dim_param = name
