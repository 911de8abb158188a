"""Types of the arguments that our classes hand on to those of Keras.

Keras takes them as `**kwargs`, in which a type checker finds no misspelt name.
"""

from typing import Any, TypedDict


class LayerArguments(TypedDict, total=False):
    """Arguments of `keras.layers.Layer`, and so of `keras.Model`."""

    name: str | None
    dtype: Any
    trainable: bool
    activity_regularizer: Any
    autocast: bool


class BatchNormalizationArguments(LayerArguments, total=False):
    """Arguments of `keras.layers.BatchNormalization`."""

    axis: int
    momentum: float
    epsilon: float
    center: bool
    scale: bool
    beta_initializer: Any
    gamma_initializer: Any
    moving_mean_initializer: Any
    moving_variance_initializer: Any
    beta_regularizer: Any
    gamma_regularizer: Any
    beta_constraint: Any
    gamma_constraint: Any
    renorm: bool
    renorm_clipping: dict[str, float] | None
    renorm_momentum: float
    synchronized: bool
