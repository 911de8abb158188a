"""The contract of a training method.

Adversarial training solves, in every step,

    minimize over theta   mean loss(theta, x + delta*(theta))
    subject to            delta* solves the lower-level problem of the method.

A method says how delta* is found and what is added to the upper-level
gradient. `RobustClassifier.train_step` does everything else:

    solution = method.solve(context)
    loss     = method.objective(context, solution)    # one forward at x + delta*
    gradient = d loss / d (weights, delta*)         # one backward pass
    gradient = method.correct(context, solution, gradient, ...)

    state    = method.update(context)                 # after the weights moved

What a method remembers from step to step is declared by `initial_state`, read
from `StepContext.state` and returned by `update`: variables that are saved with the
weights, of which a step sees the rows of its own examples. What `update` needs
of the step is kept by `StepContext.note`. A method that updates the weights several
times on one batch sets `replays`.

How to add a method is described in CONTRIBUTING.md.
"""

import abc
import copy
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
        name: The key in `METHODS`, if it is registered.
        differentiates_twice: Whether the method takes derivatives of input
            gradients. Layers with wrong second derivatives are then replaced
            or refused by the trainer.
        needs_perturbation_gradient: Whether `correct` wants the gradient of
            the objective with respect to delta*.
        trains_through_solve: Whether the weight gradient goes through `solve`
            too, as far as that does not stop it. Then `solve` stops it at
            delta* itself.
        needs_plan: Whether the method reads `StepContext.progress`, or its state has
            rows: `RobustClassifier.compile` then expects a `Plan`.
        remembers_examples: Whether its state has rows of the examples.
        needs_features: Whether the method calls `StepContext.features`.
        radii: Names of the options that shrink where only a share of the
            radius is used, if the method has them: `scaled` multiplies them.
        whole: None, or in a copy made by `scaled` the method itself.
        reports: Names of the scalars that the method logs by `StepContext.report`.
        replays: Integer, the updates on each batch; each solves anew.
    """

    name = None
    differentiates_twice = False
    needs_perturbation_gradient = False
    trains_through_solve = False
    needs_plan = False
    remembers_examples = False
    needs_features = False
    radii = ("epsilon", "step_size")
    whole = None
    reports = ()
    replays = 1

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        keras.saving.register_keras_serializable("fastbat_tf")(cls)

    def set_options(self, **given):
        """Sets the options of the method as attributes.

        None stands for the default of `METHODS`; raises `InputError` for a
        value out of range.
        """
        vars(self).update(methods.resolve_options(self.name, given))

    def scaled(self, share):
        """This method with a share of its radius, for one step.

        Args:
            share: Scalar tensor in [0, 1], so that `epsilon` and the like are
                tensors in the hooks.
        """
        method = copy.copy(self)
        method.whole = self
        for name in vars(self).keys() & set(self.radii):
            setattr(method, name, share * getattr(self, name))
        return method

    @abc.abstractmethod
    def solve(self, context) -> Solution:
        """Solves the lower-level problem of `context`.

        Returns:
            A `Solution`, whose perturbation is a constant for the objective.
        """

    def objective(self, context, solution):
        """The upper-level loss, and the logits that it was computed from.

        The default is the mean loss at `x + delta*` plus `penalty`. A method
        that trains on something else, such as clean logits, overrides this.

        Returns:
            The scalar loss and the logits `(batch, classes)`.
        """
        logits = context.logits(context.images + solution.perturbation)
        loss = tf.reduce_mean(context.losses(logits))
        return loss + self.penalty(context, solution, logits), logits

    def penalty(self, context, solution, logits):
        """A scalar that is added to the mean loss; zero by default."""
        del context, solution
        return tf.zeros([], logits.dtype)

    def correct(self, context, solution, gradients, perturbation_gradient):
        """Corrects the upper-level gradient; unchanged by default.

        Args:
            context: The `StepContext`.
            solution: What `solve` returned.
            gradients: Gradients of the objective, one per trainable variable.
            perturbation_gradient: Gradient of the objective with respect to
                delta*, or None if the method does not need it.

        Returns:
            A list like `gradients`.
        """
        del context, solution, perturbation_gradient
        return gradients

    def initial_state(self, sizes, draws):
        """What the method remembers; nothing by default.

        Args:
            sizes: The `fastbat_tf.methods.state.Sizes` of the run.
            draws: `Draws`, for random first values.

        Returns:
            Dict of `fastbat_tf.methods.state.Slot`s by name.
        """
        del sizes, draws
        return {}

    def update(self, context):
        """What the method remembers of a step; nothing by default.

        It is called after the weights have moved, outside of what XLA
        compiles, on all replicas at once.

        Args:
            context: The `StepContext`, with the `notes` of the hooks before.

        Returns:
            Dict of new values of `StepContext.state`: rows of its own examples, or
            whole variables, which must be the same on all replicas.
        """
        del context
        return {}

    def get_config(self):
        """The hyperparameters, resolved: arguments of the constructor."""
        return dict(vars(self))

    @classmethod
    def from_config(cls, config):
        """The inverse of `get_config`."""
        return cls(**config)

    def __repr__(self):
        options = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({options})"
