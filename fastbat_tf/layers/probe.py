"""Finds layers whose second derivatives are wrong, by differences.

`exact_moments` mends what uses `tf.nn.moments`. The probe is the last net: for
a `tf.function` that was traced before, for a version of Keras or TensorFlow in
which that function is not used any more, and for wrong derivatives that nobody
thought of. All of them stop a gradient, or define one, in the graph of the
layer; layers that do neither are not probed.

A layer that stops a gradient on purpose, such as a straight-through estimator,
has first derivatives that differ from differences, too. It is left alone.
"""

import contextlib
import threading
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from fastbat_tf.layers import differences, moments
from fastbat_tf.layers.batch_normalization import FusedBatchNormalization
from fastbat_tf.layers.replacement import Replacement
from fastbat_tf.layers.structure import specs_in_step
from fastbat_tf.layers.tracing import apart, call_in_training

_local = threading.local()


class Call(NamedTuple):
    """A call of a layer, or of another operation of Keras, in a graph."""

    operation: Any
    args: tuple
    kwargs: dict
    graph: tf.Graph
    nodes: list  # Names of the nodes that it added, also in its sublayers.


def wrong_layers(classifier, images):
    """The layers whose second derivatives are wrong.

    It traces a forward pass, in 0.3 s for PreActResNet-18, and evaluates one
    layer of each kind that stops or defines gradients.

    Args:
        classifier: A built `keras.Model`.
        images: The images of the step: a tensor, or its `tf.TensorSpec`.

    Returns:
        List of layers, and other operations of Keras.
    """
    specs = specs_in_step(classifier, images)
    try:
        calls = apart(_suspicious_calls, classifier, specs)
    except Exception:  # The step will report it.
        return []
    return [c.operation for c in calls if apart(_is_wrong, c)]


def _suspicious_calls(classifier, specs):
    """One call of each kind of layer that stops or defines gradients."""
    calls = []

    def forward(images):
        with moments.exact_moments(), _recorded(calls):
            call_in_training(classifier, images)

    traced = tf.function(forward, autograph=False)
    graph = traced.get_concrete_function(specs).graph
    functions = {
        function.signature.name: function.node_def
        for function in graph.as_graph_def().library.function
    }
    definitions = {}  # A layer may be called in the graph of a condition.
    for inner in {one.graph for one in calls}:
        for node in inner.as_graph_def().node:
            definitions[inner, node.name] = node
    kinds = {}
    for one in calls:  # Those of sublayers come first, and take their nodes.
        own = [definitions.pop((one.graph, name), None) for name in one.nodes]
        if isinstance(one.operation, FusedBatchNormalization):
            continue  # Its derivatives are compared in its tests.
        found = list(_expand(filter(None, own), functions))
        if any(map(_stops_or_defines_gradients, found)):
            key = type(one.operation), tuple(node.op for node in found)
            kinds.setdefault(key, one)
    return list(kinds.values())


@contextlib.contextmanager
def _recorded(calls):
    """Records the calls of Keras' operations in this thread."""
    _local.calls = calls
    try:
        with _replacement:
            yield
    finally:
        _local.calls = None


def _call(operation, *args, **kwargs):
    original = _replacement.originals[keras.Operation, "__call__"]
    calls = getattr(_local, "calls", None)
    if calls is None:
        return original(operation, *args, **kwargs)
    graph = tf.compat.v1.get_default_graph()
    first = len(graph.get_operations())
    outputs = original(operation, *args, **kwargs)
    nodes = [node.name for node in graph.get_operations()[first:]]
    calls.append(Call(operation, args, kwargs, graph, nodes))
    return outputs


_replacement = Replacement({(keras.Operation, "__call__"): _call})


def _expand(nodes, functions):
    """The nodes, and those of the functions that they call."""
    pending, entered = list(nodes), set()
    while pending:
        node = pending.pop()
        yield node
        for attribute in node.attr.values():
            for function in (attribute.func, *attribute.list.func):
                if function.name not in entered:
                    entered.add(function.name)
                    pending += functions.get(function.name, ())


def _stops_or_defines_gradients(node):
    if f"/{moments.NAME}/" in f"/{node.name}":
        return False
    return node.op == "StopGradient" or "_gradient_op_type" in node.attr


def _is_wrong(one):
    """Whether only the second derivatives of a call are wrong."""
    random = np.random.default_rng(0)
    given = one.args, one.kwargs
    values = [_concrete(x, random) for x in tf.nest.flatten(given)]
    moving = [i for i, x in enumerate(values) if _is_float(x)]
    weights = getattr(one.operation, "trainable_weights", ())

    def function(points):
        changed = list(values)
        for i, x in zip(moving, points, strict=True):
            changed[i] = x
        args, kwargs = tf.nest.pack_sequence_as(given, changed)
        with _restored(one.operation):
            outputs = one.operation(*args, **kwargs)
        return list(filter(_is_float, tf.nest.flatten(outputs)))

    try:
        with moments.exact_moments():
            return differences.only_second_are_wrong(
                function,
                [values[i] for i in moving],
                [v.value for v in weights],
            )
    except Exception:  # Not differentiable, or not on such inputs.
        return False


def _is_float(x):
    return tf.is_tensor(x) and x.dtype.is_floating


def _concrete(x, random):
    """A random value for a tensor of a graph."""
    if not tf.is_tensor(x):
        return x
    # The batch first.
    shape = [size or (8 if i else 2) for i, size in enumerate(x.shape)]
    if x.dtype.is_floating:
        return tf.cast(random.normal(size=shape), x.dtype)
    # A mask that hides nothing; the first of several classes.
    return (
        tf.ones(shape, x.dtype) if x.dtype.is_bool else tf.zeros(shape, x.dtype)
    )


@contextlib.contextmanager
def _restored(operation):
    """Restores moving statistics, and the states of random generators."""
    variables = getattr(operation, "variables", ())
    before = [v.numpy() for v in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            if not np.array_equal(variable.numpy(), value):
                variable.assign(value)
