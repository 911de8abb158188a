"""The contract of a training method.

Adversarial training solves, in every step,

    minimize over theta   mean loss(theta, x + delta*(theta))
    subject to            delta* solves the lower-level problem of the method.

A method says how delta* is found and what is added to the upper-level
gradient. `RobustClassifier.train_step` does everything else:

    solution = method.solve(step)
    loss     = method.objective(step, solution)     # one forward at x + delta*
    gradient = d loss / d (weights, delta*)         # one backward pass
    gradient = method.correct(step, solution, gradient, ...)

A method may keep state from step to step in `keras.Variable`s that its
constructor makes: they are saved with the weights, and `Step.index` tells
which examples the batch holds, where the data say so. A method that updates
the weights several times on one batch sets `replays`.

How to add a method is described in CONTRIBUTING.md.
"""

import abc
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from fastbat_tf import methods


class Solution(NamedTuple):
    """What `Method.solve` found.

    Attributes:
        perturbation: Tensor like the images: delta*, in pixels.
        memory: Whatever the later hooks of the same step need; the trainer
            does not look at it.
    """

    perturbation: tf.Tensor
    memory: Any = None


class Method(abc.ABC):
    """Base class of the training methods.

    Only `solve` must be written. A method never touches optimizer, metrics,
    data or strategy; hyperparameters are attributes named as the arguments of
    its constructor.

    Attributes:
        differentiates_twice: Whether the method takes derivatives of input
            gradients. Layers with wrong second derivatives are then replaced
            or refused by the trainer.
        needs_perturbation_gradient: Whether `correct` wants the gradient of
            the objective with respect to delta*.
        reports: Names of the scalars that the method logs by `Step.report`.
        replays: Integer, the updates on each batch; each solves anew.
    """

    differentiates_twice = False
    needs_perturbation_gradient = False
    reports = ()
    replays = 1

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        keras.saving.register_keras_serializable("fastbat_tf")(cls)

    def set_options(self, name, **given):
        """Sets the options of the registered method `name` as attributes.

        None stands for the default of `METHODS`; raises `InputError` for a
        value out of range.
        """
        vars(self).update(methods.resolve_options(name, given))

    @abc.abstractmethod
    def solve(self, step):
        """Solves the lower-level problem of `step`.

        Returns:
            A `Solution`, whose perturbation is a constant for the objective.
        """

    def objective(self, step, solution):
        """The upper-level loss, and the logits that it was computed from.

        The default is the mean loss at `x + delta*` plus `penalty`. A method
        that trains on something else, such as clean logits, overrides this.

        Returns:
            The scalar loss and the logits `(batch, classes)`.
        """
        logits = step.logits(step.images + solution.perturbation)
        loss = tf.reduce_mean(step.losses(logits))
        return loss + self.penalty(step, solution, logits), logits

    def penalty(self, step, solution, logits):
        """A scalar that is added to the mean loss; zero by default."""
        del step, solution
        return tf.zeros([], logits.dtype)

    def correct(self, step, solution, gradients, perturbation_gradient):
        """Corrects the upper-level gradient; unchanged by default.

        Args:
            step: The `Step`.
            solution: What `solve` returned.
            gradients: Gradients of the objective, one per trainable variable.
            perturbation_gradient: Gradient of the objective with respect to
                delta*, or None if the method does not need it.

        Returns:
            A list like `gradients`.
        """
        del step, solution, perturbation_gradient
        return gradients

    def get_config(self):
        """The hyperparameters, resolved: arguments of the constructor."""
        return {
            name: value
            for name, value in vars(self).items()
            if not isinstance(value, keras.Variable)
        }

    @property
    def variables(self):
        """The state of the method: its `keras.Variable`s."""
        return [v for v in vars(self).values() if isinstance(v, keras.Variable)]

    @classmethod
    def from_config(cls, config):
        """The inverse of `get_config`."""
        return cls(**config)

    def __repr__(self):
        options = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({options})"
