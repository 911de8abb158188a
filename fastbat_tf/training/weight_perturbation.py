"""Adversarial perturbations of the weights, for a training step."""

import contextlib
import numbers
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

import keras
import tensorflow as tf

from fastbat_tf.errors import InputError


@keras.saving.register_keras_serializable("fastbat_tf")
class AdversarialWeightPerturbation:
    """Trains at the weights that make the loss worst, near the weights (AWP).

    ```
    g_l = d L(w, x + delta*) / d w_l
    v_l = gamma * norm(w_l) * g_l / norm(g_l)      for each kernel l
    w  <- w - learning_rate * d L(w + v, x + delta*) / d w
    ```

    `delta*` is what the method finds at w, and `L` its whole objective, such
    as both terms of TRADES. `delta*` and v are constants. The norms are those
    of whole layers. Kernels are the trainable weights of two or more
    dimensions; biases, and scales and offsets of normalizations, are not
    perturbed.

    `L(w + v, ...)` is also what training logs and what moves the statistics of
    BatchNormalization. The pass that finds v is in training mode, sees the
    same draw of random layers, and leaves no trace. As in the program of the
    authors, v does not look at weight decay or at the losses of layers, such
    as regularizers, which the update has at `w + v`. Weight decay by `compile`
    is that of w.

    A method that differentiates what its attack computed, such as Fast-BAT,
    does so at w, where it computed it. Its gradient is that of
    `L(w + v, x + delta*(w))`.

    Each update costs a forward and a backward pass of the objective more,
    except in the first `warmup_steps`, in which v is zero. A `tf.distribute`
    strategy sums g over its replicas, so that v is that of one device; XLA
    then compiles nothing.

    Reference: Wu, Xia & Wang, "Adversarial Weight Perturbation Helps Robust
    Generalization", NeurIPS 2020 (arXiv 2004.05884).

    Args:
        gamma: Float in [0, 1), the length of v relative to the weights of its
            layer. Defaults to `0.005`.
        warmup_steps: Integer, the number of updates at the start without a
            perturbation. Defaults to `0`.

    Raises:
        InputError: If one of them is out of range.

    Example:

    ```python
    awp = fb.AdversarialWeightPerturbation(gamma=0.005)
    robust = fb.RobustClassifier(model, fb.TRADES(epsilon=8 / 255))
    robust.compile(keras.optimizers.SGD(0.1), weight_perturbation=awp)
    ```
    """

    def __init__(self, gamma: float = 0.005, warmup_steps: int = 0) -> None:
        if not isinstance(gamma, numbers.Real) or not 0 <= gamma < 1:
            raise InputError(
                "`gamma` is expected to be a number in [0, 1). "
                f"Received: gamma={gamma}"
            )
        if not isinstance(warmup_steps, numbers.Integral) or warmup_steps < 0:
            raise InputError(
                "`warmup_steps` is expected to be an integer of at least 0. "
                f"Received: warmup_steps={warmup_steps}"
            )
        self.gamma = float(gamma)
        self.warmup_steps = int(warmup_steps)

    def perturbations(
        self, weights: Sequence[Any], gradients: Sequence[Any]
    ) -> list[Any]:
        """Computes v, layer by layer.

        Args:
            weights: List of tensors, the kernels.
            gradients: List of tensors like them, g. Where one is zero, so is
                v.

        Returns:
            List of tensors.

        Example:

        >>> awp = fb.AdversarialWeightPerturbation(gamma=0.1)
        >>> weight = tf.constant([[3.0, 4.0]])
        >>> gradient = tf.constant([[0.0, 2.0]])
        >>> awp.perturbations([weight], [gradient])[0].numpy().tolist()
        [[0.0, 0.5]]
        """
        return [
            self.gamma
            * tf.norm(weight)
            * tf.math.divide_no_nan(gradient, tf.norm(gradient))
            for weight, gradient in zip(weights, gradients, strict=True)
        ]

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {"gamma": self.gamma, "warmup_steps": self.warmup_steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Makes one of what `get_config` returns."""
        return cls(**config)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(gamma={self.gamma}, "
            f"warmup_steps={self.warmup_steps})"
        )


def kernels(variables: Iterable[Any]) -> list[Any]:
    """Returns the variables that are perturbed: two or more dimensions.

    Args:
        variables: Iterable of trainable variables.
    """
    return [v for v in variables if len(v.shape) > 1]


@contextlib.contextmanager
def moved(variables: Iterable[Any], offsets: Iterable[Any]) -> Iterator[None]:
    """Adds tensors to variables for the length of a `with` block.

    Whatever reads the weights sees them, such as a `tf.function` of a layer.
    After the block, the variables have the values from before it, bit by bit.
    Each replica moves its own copy.

    Args:
        variables: Iterable of `tf.Variable`s.
        offsets: Iterable of tensors like them, the same on all replicas.
    """
    variables = list(variables)
    before = [tf.identity(variable) for variable in variables]
    for variable, value, offset in zip(variables, before, offsets, strict=True):
        _write(variable, value + offset)
    try:
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            _write(variable, value)


@contextlib.contextmanager
def without_trace(classifier: Any, context: Any) -> Iterator[None]:
    """Forgets what passes in a `with` block change beside their results.

    That is the statistics of BatchNormalization and all other weights that are
    not trained, and what the method has reported and noted.

    Args:
        classifier: A `keras.Model`.
        context: The `StepContext`.
    """
    variables = [v.value for v in classifier.non_trainable_variables]
    before = [tf.identity(variable) for variable in variables]
    kept = [(told, dict(told)) for told in (context.reports, context.notes)]
    try:
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            _write(variable, value)
        for told, old in kept:
            told.clear()
            told.update(old)


def _write(variable, value):
    # `assign` of a variable of several replicas would make them meet.
    tf.raw_ops.AssignVariableOp(resource=variable.handle, value=value)
