"""Finds operations in a SavedModel that do more than compute."""

import os
import pathlib
import re

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from fastbat_tf.errors import InputError

GRAPHS = "saved_model.pb"

# Operations with a state that is the model's own: variables, tables, random
# numbers, calls and loops. TensorFlow marks every operation that touches the
# world outside as one with a state, so all others are refused, those of
# libraries that are not known here among them.
_OWN_STATE = re.compile(
    r"VarHandleOp|_?ReadVariables?Op|Assign(Add|Sub)?VariableOp"
    r"|VarIsInitializedOp|VariableShape|Variable(V2)?|TemporaryVariable"
    r"|DestroyResourceOp|DisableCopyOnRead|IsResourceHandleRefCounting"
    r"|Resource(Gather|Scatter|Sparse|Apply|Strided|CountUpTo)\w*"
    r"|StatefulPartitionedCall|If|While|Case|XlaIf|XlaWhile|XlaCallModule"
    r"|Assert|CheckNumerics(V2)?|Empty|DeepCopy|GuaranteeConst|VariableShape"
    r"|TensorArray\w*|Stack(V2|P(ush|op)V2|CloseV2)?"
    r"|Random(Uniform|UniformInt|StandardNormal|Gamma|Poisson|PoissonV2"
    r"|Shuffle|Crop)|Multinomial|(Parameterized)?TruncatedNormal"
    r"|Stateful(Uniform|Standard|Truncated|Random)\w*|Rng(ReadAnd)?Skip"
    r"|StatelessRandomGetAlg|NonDeterministicInts"
    r"|SampleDistortedBoundingBox(V2)?|CudnnRNN\w*"
    r"|(Anonymous)?(Mutable)?(Dense)?HashTable(OfTensors)?(V2)?"
    r"|LookupTable\w+|InitializeTableV2|DatasetToSingleElement|ReduceDataset"
    r"|(Tensor|TensorSlice|Range|Shuffle)Dataset(V[23])?"
    r"|(Anonymous|Dummy)\w*SeedGenerator"
)

# Operations without a state that read and write files all the same, listen to
# the network, call Python, end the process, or build other graphs. The other
# data sets without one are made of tensors; loops over images use them.
_OUTSIDE = re.compile(
    r".*(CacheDataset|Snapshot|RegisterDataset|FromGraph|Reader|Iterator|PyFunc"
    r"|ReadFile|MatchingFiles|FromTextFile|Debug|Vocab|Proto|Abort|XlaHost"
    r"|TRT).*"
)

# How TensorFlow saves and restores variables, when it is asked to.
_OF_SAVER = ("MergeV2Checkpoints", "RestoreV2", "SaveV2")


def check_saved_model(path: str | os.PathLike[str], received: str) -> None:
    """Refuses a SavedModel whose graphs do more than compute.

    Args:
        path: Path of its directory.
        received: String, `name=value`, which setting names it.

    Raises:
        InputError: If it cannot be read, or if an operation reads or writes
            files, uses the network, or calls Python.
    """
    try:
        content = pathlib.Path(path, GRAPHS).read_bytes()
        graphs = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    except (OSError, DecodeError) as error:
        raise InputError(
            "The model cannot be read; the directory of a SavedModel, with "
            f"its {GRAPHS}, is expected. Received: {received} ({error})"
        ) from error
    for graph in graphs:
        for operation in _find_outside(graph):
            raise InputError(
                f"The SavedModel has the operation {operation}, which can "
                "reach files, the network or Python; expected one that only "
                "computes: if you trust it, pass --allow_code (in Python "
                f"allow_code=True). Received: {received}"
            )


def _find_outside(graph):
    functions = {
        each.signature.name: each.node_def
        for each in graph.graph_def.library.function
    }
    everywhere = [graph.graph_def.node, *functions.values()]
    yield from sorted(
        {
            node.op
            for nodes in everywhere
            for node in nodes
            if node.op not in functions and _is_outside(node.op)
        }
    )
    for node in _served(graph, functions):
        if node.op in _OF_SAVER:
            yield node.op


def _is_outside(operation):
    if operation in _OF_SAVER:
        return False
    definition = op_def_registry.get(operation)
    # TensorFlow itself says which operation is unknown.
    if definition is not None and definition.is_stateful:
        return not _OWN_STATE.fullmatch(operation)
    return bool(_OUTSIDE.fullmatch(operation))


def _served(graph, functions):
    """The nodes that run when the model is loaded or called."""
    nodes = {node.name: node for node in graph.graph_def.node}
    pending = [
        tensor.name.partition(":")[0]
        for signature in graph.signature_def.values()
        for tensor in signature.outputs.values()
    ]
    for collection in graph.collection_def.values():  # They initialize.
        pending += collection.node_list.value
    calls = set(graph.object_graph_def.concrete_functions)
    found = []
    seen = set()
    while pending:
        name = pending.pop()
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        node = nodes[name]
        found.append(node)
        pending += [
            each.removeprefix("^").partition(":")[0] for each in node.input
        ]
    reached = set()
    calls |= {name for node in found for name in _calls(node)}
    while calls:
        name = calls.pop()
        if name in reached or name not in functions:
            continue
        reached.add(name)
        for node in functions[name]:
            found.append(node)
            calls |= set(_calls(node))
    return found


def _calls(node):
    """The names of the functions that a node calls."""
    names = [node.op]  # A function may be called like an operation.
    for value in node.attr.values():
        names += [value.func.name, *(each.name for each in value.list.func)]
    return names
