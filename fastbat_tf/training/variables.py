"""Creates, reads and assigns the variables of a training."""

import contextlib
import hashlib

import numpy as np
import tensorflow as tf


def state_variables(robust):
    """Lists all variables that a training step reads or writes, once each.

    Args:
        robust: A compiled `RobustClassifier`.
    """
    variables = (
        *robust.variables,
        *robust.optimizer.variables,
        *robust.metrics_variables,
    )
    return list({id(variable): variable for variable in variables}.values())


def values(variable):
    """Reads a variable as an array `(copies, *shape)`.

    There is one copy, unless the replicas differ: each replica has its own
    BatchNormalization statistics and metrics.
    """
    copies = [copy.numpy() for copy in _copies(variable)]
    equal = len({copy.tobytes() for copy in copies}) == 1
    return np.stack(copies[:1] if equal else copies)


def all_values(variables, everyone):
    """Reads variables as `values` does, with the copies of all workers.

    Workers exchange only what differs between them. All of them call this.

    Args:
        variables: List of variables.
        everyone: The `Workers`.

    Returns:
        List of arrays `(copies, *shape)`.
    """
    arrays = [values(variable) for variable in variables]
    if everyone.count == 1:
        return arrays
    digests = everyone.gather(np.array([_digest(array) for array in arrays]))
    for number, (variable, array) in enumerate(
        zip(variables, arrays, strict=True)
    ):
        if len({digest[number] for digest in digests}) > 1:
            # Some workers may have found all of their copies to be equal.
            shape = len(_copies(variable)), *array.shape[1:]
            own = np.broadcast_to(array, shape)
            arrays[number] = np.concatenate(everyone.gather(own))
    return arrays


def _digest(array):
    data = np.ascontiguousarray(array).tobytes()
    digest = hashlib.blake2b(data, digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def assign(variable, values, worker=0):
    """Assigns the array that `values` or `all_values` returned.

    The number of replicas may have changed since then.

    Args:
        variable: A variable.
        values: Array `(copies, *shape)`.
        worker: Integer, the number of this worker. Defaults to `0`.
    """
    copies = _copies(variable)
    for i, copy in enumerate(copies, worker * len(copies)):
        copy.assign(values[i % len(values)])


def take_from_chief(variables, everyone):
    """Gives variables the values that they have on the chief.

    All workers call this.

    Args:
        variables: List of variables.
        everyone: The `Workers`.
    """
    if everyone.count == 1:
        return
    for variable in variables:
        own = values(variable) if everyone.is_chief else None
        assign(variable, everyone.from_chief(own))


def _copies(variable):
    """Returns the variable of each replica, or the only one."""
    return getattr(variable.value, "values", (variable.value,))


@contextlib.contextmanager
def before_the_step():
    """Creates variables at once, also while a `tf.function` is traced.

    TensorFlow traces a function twice if it creates variables.

    Example:

    ```python
    if not optimizer.built and not tf.distribute.has_strategy():
        with before_the_step():
            optimizer.build(model.trainable_variables)
    ```
    """

    def create(create_next, **arguments):
        arguments["experimental_enable_variable_lifting"] = False
        return create_next(**arguments)

    with tf.init_scope(), tf.variable_creator_scope(create):
        yield
