"""Makes the graph of a training step hold fewer tensors at once.

TensorFlow runs an operation as soon as its inputs are there. In a step with
second derivatives, many operations are ready long before their results are
needed, and each result occupies memory until then. Here, operations run in the
order in which they were traced, where each is soon followed by those that use
its result. Cheap results that are used again much later are computed again
instead of kept. Neither changes a number. XLA needs neither, because it orders
the operations itself.
"""

import collections
import functools

import tensorflow as tf

# The operations that are ordered. With oneDNN, TensorFlow merges others with a
# convolution that runs at another time, such as `BiasAddGrad`; if these had a
# place of their own, the merged operation would wait for itself.
_ORDERED = {
    "Conv2D",
    "Conv2DBackpropFilter",
    "Conv2DBackpropInput",
    "FusedBatchNormGradV3",
    "FusedBatchNormV3",
    "Mul",
    "ReluGrad",
    "Sub",
    "Sum",
}
_SAME = {"Identity", "IdentityN"}
# Operations that are worth computing again, because they pass over the memory
# once or twice, and those whose result is computed again with them.
_CHEAP = {
    "FusedBatchNormGradV3": (),
}
# A result is used much later if this share of all operations runs before that.
# With a fifth, a step of Fast-BAT computes again what its implicit term takes
# from the second lower step, across the whole upper level.
MUCH_LATER = 0.2


def with_less_memory(function, recomputes=False):
    """Decorates a function that `tf.function` traces.

    Args:
        function: A Python function of tensors, called in a `tf.Graph`.
        recomputes: Boolean, whether cheap results are computed again instead of
            kept for long. It takes some time, and less memory in functions with
            second derivatives. Defaults to False.

    Returns:
        A function with the same results.
    """

    @functools.wraps(function)
    def traced(*args, **kwargs):
        results = function(*args, **kwargs)
        operations = [
            operation
            for operation in tf.compat.v1.get_default_graph().get_operations()
            if operation.type in _ORDERED
            and any(map(_is_large, (*operation.inputs, *operation.outputs)))
        ]
        if recomputes:
            operations = _recompute(operations)
        for before, operation in zip(operations, operations[1:], strict=False):
            operation._add_control_input(before)
        return results

    return traced


def _recompute(operations):
    """Computes cheap results again where they are used much later.

    A result is kept nevertheless if its inputs would be kept for it.

    Args:
        operations: List of `tf.Operation`s in the order in which they run.

    Returns:
        The list with the new operations.
    """
    uses = _find_uses(operations)
    distance = MUCH_LATER * len(operations)
    added = collections.defaultdict(list)
    for place, operation in enumerate(operations):
        if operation.type not in _CHEAP:
            continue
        chain = [operation]
        maker = _source(operation.inputs[0]).op
        if maker.type in _CHEAP[operation.type]:
            chain.insert(0, maker)
        result = operation.outputs[0]
        later = _after_gap([place, *uses[result.ref()]], distance)
        inputs = [_source(x) for x in chain[0].inputs if _is_large(x)]
        if later and all(uses[x.ref()][-1] >= later[0] for x in inputs):
            copies = _copy(chain)
            added[later[0]] += copies
            for user in later:
                _replace(operations[user], result, copies[-1].outputs[0])
    return [
        one
        for place, operation in enumerate(operations)
        for one in (*added[place], operation)
    ]


def _find_uses(operations):
    """The places in a list where each tensor is used, by its reference."""
    uses = collections.defaultdict(list)
    for place, operation in enumerate(operations):
        if operation.type not in _SAME:
            for tensor in {_source(x).ref() for x in operation.inputs}:
                uses[tensor].append(place)
    return uses


def _after_gap(places, distance):
    """The places after the first gap that is longer than a distance."""
    for i, (place, following) in enumerate(
        zip(places, places[1:], strict=False)
    ):
        if following - place > distance:
            return places[i + 1 :]
    return []


def _copy(chain):
    """Creates operations again, each of which takes the result of the last."""
    copies, results = [], {}
    for operation in chain:
        inputs = map(_source, operation.inputs)
        copy = operation.graph.create_op(
            operation.type,
            [results.get(x.ref(), x) for x in inputs],
            [x.dtype for x in operation.outputs],
            attrs=dict(operation.node_def.attr),
            name=f"{operation.name}/again",
        )
        for old, new in zip(operation.outputs, copy.outputs, strict=True):
            results[old.ref()] = new
        copies.append(copy)
    return copies


def _replace(user, old, new):
    """Replaces an input of an operation, even behind an identity."""
    for i, given in enumerate(user.inputs):
        if _source(given) is old:
            user._update_input(i, new)


def _source(tensor):
    """The tensor that identities pass on."""
    while tensor.op.type in _SAME:
        tensor = tensor.op.inputs[tensor.value_index]
    return tensor


def _is_large(tensor):
    """Whether a tensor is more than a vector."""
    return tensor.shape.rank is None or tensor.shape.rank > 1
