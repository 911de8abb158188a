"""Moving averages of weights and BatchNormalization statistics."""

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import keras
import tensorflow as tf


class WeightAverage(keras.layers.Layer):
    """Exponential moving averages of variables.

    ```
    average_1 = w_1,    average_t = decay average_{t-1} + (1 - decay) w_t
    ```

    where `w_t` are the values after update t. A batch whose gradient is only
    accumulated does not count as an update.

    Keras' `use_ema` starts in the same way, but it leaves out the moving
    statistics of BatchNormalization, without which averaged weights form a
    different network, and it overwrites the weights when `fit` ends.

    The averages are weights of this layer, so they are saved with the model.
    The averaged variables are passed to each call: stored as attributes, they
    would become weights of this layer, too.

    Reference: Izmailov et al., "Averaging Weights Leads to Wider Optima and
    Better Generalization", UAI 2018 (arXiv 1803.05407); for adversarial
    training Gowal et al., 2020 (arXiv 2010.03593).

    Args:
        decay: Float in (0, 1).
        variables: List of the `keras.Variable`s to average.
        **kwargs: Arguments of `keras.layers.Layer`.
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
        """Adds the current values to the averages.

        Each replica averages its own view: the same weights, and its own
        statistics, as BatchNormalization does.

        Args:
            variables: List of the `keras.Variable`s that were passed to the
                constructor.
            counts: Boolean or scalar boolean tensor, whether the weights were
                updated. If not, the averages stay. Defaults to `True`.
        """
        is_first = tf.equal(self.updates.value, 0)
        for average, variable in zip(self.averages, variables, strict=True):
            old, new = average.value, tf.convert_to_tensor(variable.value)
            # In this form, a value that does not change keeps its bits.
            moved = old + (1.0 - self.decay) * (new - old)
            moved = tf.where(is_first, new, moved)
            average.assign(
                moved if counts is True else tf.where(counts, moved, old)
            )
        self.updates.assign_add(tf.cast(counts, "int64"))

    @contextlib.contextmanager
    def swapped_into(self, variables):
        """Swaps the averages into the variables for a `with` block."""
        kept = [variable.numpy() for variable in variables]
        _assign(variables, [average.numpy() for average in self.averages])
        try:
            yield
        finally:
            _assign(variables, kept)


def _assign(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


class AveragedModel(keras.Model):
    """A model that may average the weights of its attribute `classifier`."""

    classifier: Any
    weight_average: WeightAverage | None

    def averaged_weights(self) -> AbstractContextManager[None]:
        """Swaps in the averaged weights for the length of a `with` block.

        They are the moving average that `compile(weight_averaging=...)` keeps,
        including the moving statistics of BatchNormalization layers.

        Returns:
            A context manager.

        Raises:
            ValueError: If no average is kept.

        Example:

        ```python
        with robust.averaged_weights():
            robust.save("averaged.keras")
        ```
        """
        if self.weight_average is None:
            raise ValueError(
                "There are no averaged weights; expected compile("
                "weight_averaging=...). Received: weight_averaging=0"
            )
        return self.weight_average.swapped_into(self._averaged_variables)

    @property
    def _averaged_variables(self):
        # Integers, such as counters, are not averaged.
        return [v for v in self.classifier.weights if v.value.dtype.is_floating]
