"""Prepares a graph for arithmetic in 8-bit integers.

Some operations have a range of values that 256 steps cannot cover. They are
replaced by others of the same values.
"""

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2,
)

from fastbat_tf.errors import InputError


def prepare(function: Any) -> Any:
    """Replaces what 8-bit integers express badly.

    * `softplus(x)`, which LiteRT computes as `log(exp(x) + 1)`, whose `exp(x)`
      may be of any size, becomes `relu(x) - log(sigmoid(abs(x)))`.
    * Padding by minus infinity before max pooling, of which nothing else could
      be told from the largest activation, becomes padding by the values at the
      edge, which never change the maximum.

    Args:
        function: `tf.function` of one tensor that returns a dict of tensors,
            with an input signature.

    Returns:
        A `tf.function` of the same input and outputs.

    Raises:
        InputError: If a constant of the graph is infinite or NaN.
    """
    concrete = function.get_concrete_function()
    names = sorted(concrete.structured_outputs)  # As `tf.nest` flattens it.
    frozen = convert_variables_to_constants_v2(concrete)
    graph = frozen.graph.as_graph_def()
    nodes = [new for node in graph.node for new in _replace(node, graph)]
    for node in nodes:
        # A gradient of one's own, which cannot be saved, and is not needed.
        node.attr.pop("_gradient_op_type", None)
    del graph.node[:]
    graph.node.extend(nodes)
    _check_constants(graph)
    (source,) = frozen.inputs
    answers = [tensor.name for tensor in frozen.outputs]

    def answer(images):
        tensors = tf.graph_util.import_graph_def(
            graph, {source.name: images}, answers, name=""
        )
        return dict(zip(names, tensors, strict=True))

    return tf.function(answer, function.input_signature, autograph=False)


def _replace(node, graph):
    """The nodes that take the place of a node."""
    if node.op == "Softplus":
        return _softplus(node)
    if node.op == "PadV2" and _pads_a_maximum(node, graph):
        return [_pad_by_edge(node)]
    return [node]


def _softplus(node):
    (x,) = node.input

    def new(op, *inputs, suffix=None):
        made = tf.compat.v1.NodeDef(op=op, input=inputs)
        made.name = f"{node.name}/{suffix or op}"
        made.attr["T"].CopyFrom(node.attr["T"])
        return made

    relu, size = new("Relu", x), new("Abs", x)
    sigmoid = new("Sigmoid", size.name)
    log = new("Log", sigmoid.name)
    result = new("Sub", relu.name, log.name)
    result.name = node.name
    return [relu, size, sigmoid, log, result]


def _pads_a_maximum(node, graph):
    """Whether the edge may stand for the padding, which is minus infinity."""
    padding, value = (_constant(graph, name) for name in node.input[1:])
    users = [n for n in graph.node if node.name in n.input]
    return (
        padding is not None
        and value is not None
        and np.isneginf(value)
        and all(
            user.op == "MaxPool"
            # A window that reaches into the padding has the values that are
            # repeated there.
            and np.all(2 * padding.max(-1) <= user.attr["ksize"].list.i)
            for user in users
        )
    )


def _pad_by_edge(node):
    made = tf.compat.v1.NodeDef(
        op="MirrorPad", name=node.name, input=node.input[:2]
    )
    for name in ("T", "Tpaddings"):
        made.attr[name].CopyFrom(node.attr[name])
    made.attr["mode"].s = b"SYMMETRIC"
    return made


def _constant(graph, name):
    """The value of a constant node; None for others."""
    for node in graph.node:
        if node.name == name.removesuffix(":0") and node.op == "Const":
            return tf.make_ndarray(node.attr["value"].tensor)
    return None


def _check_constants(graph):
    users = {name: node for node in graph.node for name in node.input}
    for node in graph.node:
        if node.op != "Const" or node.name not in users:
            continue
        value = tf.make_ndarray(node.attr["value"].tensor)
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            user = users[node.name]
            raise InputError(
                "8-bit integers cannot express infinity or NaN. "
                f"Received: format=tflite_int8, operation={user.op} "
                f"({user.name})"
            )
