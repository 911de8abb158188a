"""Signatures of `keras.Model`, with the types that Keras does not write.

A type checker would guess them from the defaults: `verbose="auto"` would refuse
`verbose=0`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import keras

Verbose = Literal["auto"] | int | bool
Callbacks = (
    keras.callbacks.Callback
    | keras.callbacks.CallbackList
    | Sequence[Any]
    | None
)
# A list or dict of one loss stands for it.
Loss = str | Callable[..., Any] | Sequence[Any] | Mapping[str, Any] | None
LossWeights = float | Sequence[float] | Mapping[str, float] | None
# No other sequences: a string would be one of its letters.
Metrics = list[Any] | tuple[Any, ...] | Mapping[str, Any] | None


class Signatures:
    """The methods of `keras.Model` that `FittedModel` overrides."""

    def fit(  # noqa: PLR0917
        self: Any,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Verbose = "auto",
        callbacks: Callbacks = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Mapping[Any, float] | None = None,
        sample_weight: Any = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: int | Sequence[int] = 1,
    ) -> keras.callbacks.History: ...

    def evaluate(  # noqa: PLR0917
        self: Any,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Verbose = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Callbacks = None,
        return_dict: bool = False,
    ) -> Any: ...

    def predict(
        self: Any,
        x: Any,
        batch_size: int | None = None,
        verbose: Verbose = "auto",
        steps: int | None = None,
        callbacks: Callbacks = None,
    ) -> Any: ...

    def train_on_batch(
        self: Any,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Mapping[Any, float] | None = None,
        return_dict: bool = False,
    ) -> Any: ...
