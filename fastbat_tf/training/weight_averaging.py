"""The moving average of the weights, and of the statistics of BatchNorm."""

import contextlib

import keras
import tensorflow as tf


class WeightAverage(keras.layers.Layer):
    """Exponential moving averages of variables.

    ```
    average_1 = w_1,    average_t = decay average_{t-1} + (1 - decay) w_t
    ```

    with w_t the values after update t; a batch whose gradient is only
    accumulated is none. Keras' `use_ema` starts likewise, but
    knows nothing of the moving statistics of BatchNormalization, without
    which averaged weights are those of another network, and it overwrites the
    weights when `fit` ends.

    The averages are weights of this layer, so they are saved with the model.
    The variables that they belong to are given to each call: as attributes
    they would be weights of this layer too.

    Reference: Izmailov et al., "Averaging Weights Leads to Wider Optima and
    Better Generalization", UAI 2018 (arXiv 1803.05407); for adversarial
    training Gowal et al., 2020 (arXiv 2010.03593).

    Args:
        decay: Float in (0, 1).
        variables: List of the `keras.Variable`s.
    """

    def __init__(self, decay, variables, **kwargs):
        super().__init__(trainable=False, **kwargs)
        self.decay = decay
        self.updates = self.add_weight(
            name="updates",
            shape=(),
            dtype="int64",
            initializer="zeros",
            aggregation="only_first_replica",
        )
        self.averages = [
            self.add_weight(
                name=variable.path.replace("/", "_"),
                shape=variable.shape,
                dtype=variable.dtype,
                initializer="zeros",
            )
            for variable in variables
        ]
        for average, variable in zip(self.averages, variables, strict=True):
            average.assign(variable)
        self.built = True

    def update(self, variables, counts=True):
        """Takes the values after an update of the weights into account.

        On several replicas each averages what it sees: the same weights, and
        the statistics of its own, as BatchNormalization itself does.

        Args:
            variables: List of the `keras.Variable`s.
            counts: Whether there was an update: a bool or a scalar boolean
                tensor.
        """
        is_first = tf.equal(self.updates.value, 0)
        for average, variable in zip(self.averages, variables, strict=True):
            old, new = average.value, tf.convert_to_tensor(variable.value)
            # In this form, what does not change stays as it is to the bit.
            moved = old + (1.0 - self.decay) * (new - old)
            moved = tf.where(is_first, new, moved)
            average.assign(
                moved if counts is True else tf.where(counts, moved, old)
            )
        self.updates.assign_add(tf.cast(counts, "int64"))

    @contextlib.contextmanager
    def swapped_into(self, variables):
        """Gives the variables their averages for the length of a `with`."""
        kept = [variable.numpy() for variable in variables]
        _assign(variables, [average.numpy() for average in self.averages])
        try:
            yield
        finally:
            _assign(variables, kept)


def _assign(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
