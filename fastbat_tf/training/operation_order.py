"""The order in which TensorFlow runs the operations of a step."""

import os
import tensorflow as tf

HEAVY = set(os.environ.get("F_TYPES", "Conv2D,Conv2DBackpropInput,Conv2DBackpropFilter,FusedBatchNormV3,FusedBatchNormGradV3").split(","))


def run_in_order_of_creation(graph):
    mode = os.environ.get("F_ORDER", "heavy")
    if mode == "none":
        return
    lag = int(os.environ.get("F_LAG", "1"))
    last = []
    for op in graph.get_operations():
        if mode == "heavy" and op.type not in HEAVY:
            continue
        if mode == "big" and not any(o.shape.rank in (2, 4) for o in op.outputs):
            continue
        if mode == "inputs" and not op.inputs:
            continue
        if mode == "touch" and not any(t.shape.rank is None or t.shape.rank > 1 for t in [*op.outputs, *op.inputs]):
            continue
        if op.type in ("Const", "Placeholder", "ReadVariableOp", "NoOp"):
            continue
        if len(last) >= lag:
            op._add_control_input(last[-lag])
        last.append(op)
