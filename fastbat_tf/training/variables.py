"""Creates, reads and assigns the variables of a training."""

import contextlib

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


def assign(variable, values):
    """Assigns the array that `values` returned.

    The number of replicas may have changed since then.
    """
    for i, copy in enumerate(_copies(variable)):
        copy.assign(values[i % len(values)])


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
