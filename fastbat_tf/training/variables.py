"""The variables of a training, and their values on every replica."""

import numpy as np


def state_variables(robust):
    """All that a training step reads and writes, each variable once."""
    variables = (
        *robust.variables,
        *robust.optimizer.variables,
        *robust.metrics_variables,
    )
    return list({id(variable): variable for variable in variables}.values())


def values(variable):
    """An array `(copies, *shape)`: one copy, unless the replicas differ.

    They do in the statistics of BatchNormalization, of which each replica has
    its own, and in metrics.
    """
    copies = [copy.numpy() for copy in _copies(variable)]
    equal = len({copy.tobytes() for copy in copies}) == 1
    return np.stack(copies[:1] if equal else copies)


def assign(variable, values):
    """Gives a variable what `values` has returned."""
    # Perhaps there are more replicas than there were, or fewer.
    for i, copy in enumerate(_copies(variable)):
        copy.assign(values[i % len(values)])


def _copies(variable):
    """The variable of each replica; the one that there is, without replicas."""
    return getattr(variable.value, "values", (variable.value,))
