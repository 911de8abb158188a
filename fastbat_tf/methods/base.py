"""The base class of the training methods.

Adversarial training solves, in every step,

    minimize over theta   mean loss(theta, x + delta*(theta))
    subject to            delta* solves the lower-level problem of the method.

A method says how delta* is found and what is added to the upper-level
gradient. `RobustClassifier.train_step` does everything else:

    solution = method.solve(context)
    loss     = method.objective(context, solution)  # one forward at x + delta*
    gradient = d loss / d (weights, delta*)         # one backward pass
    gradient = method.correct(context, solution, gradient, ...)
    ...                                             # the weights are updated
    state    = method.update(context)

A method declares the variables that it keeps in `initial_state`, reads them
from `StepContext.state` and returns their new values from `update`. They are
saved with the weights. If a variable has a row for each example, a step sees
the rows of its own examples. `StepContext.note` passes tensors to `update`.

CONTRIBUTING.md describes how to add a method.
"""

import abc
import copy
import typing
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import keras
import tensorflow as tf

from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError
from fastbat_tf.methods import options
from fastbat_tf.methods.declaration import make_dataclass
from fastbat_tf.methods.options import Option
from fastbat_tf.methods.spec import Paper, Passes, Variant
from fastbat_tf.methods.state import Sizes, Slot
from fastbat_tf.methods.step import StepContext


class Solution(NamedTuple):
    """The result of `Method.solve`.

    Attributes:
        perturbation: Tensor like the images: delta*, in pixels.
        memory: Anything that later hooks of the same step need; the trainer
            does not look at it. Defaults to None.

    Example:

    >>> fb.Solution(tf.zeros_like(images)).perturbation.shape
    TensorShape([8, 8, 8, 3])
    """

    perturbation: Any
    memory: Any = None


# `option` is no field specifier here: a type checker then takes an option that
# has only a formula for one with a default, which it is.
@typing.dataclass_transform(eq_default=False)
class Method(abc.ABC):
    """Base class of the training methods.

    A subclass declares its options as attributes and implements `solve`. It
    becomes a dataclass: the options are the arguments of its constructor, in
    the order of their declaration, then attributes of the method.

    If a subclass defines `__post_init__`, the options are resolved before it
    is called. A mixin, a base that is not a `Method`, may declare options, too.

    A method never touches the optimizer, the metrics, the data or the
    distribution strategy.

    Class arguments:
        package: String, the package that the class is registered under in
            Keras, so that a saved model finds it. Defaults to the top-level
            package of the module, or `"Custom"` in a script or notebook. Of
            two classes of one name, a saved model takes that of its module.

    Attributes:
        name: String, the value of `--method`, for methods of the library.
            Defaults to None.
        summary: String, what the method does. Defaults to `""`.
        paper: A `fastbat_tf.methods.spec.Paper`. Defaults to None.
        passes: A `fastbat_tf.methods.spec.Passes`, the cost of a step and the
            reach of its perturbation; for methods of the library. Defaults to
            None.
        variants: Dict of `fastbat_tf.methods.spec.Variant`s by name. Defaults
            to none.
        options: Dict of the declared `Option`s by name.
        differentiates_twice: Whether the method takes derivatives of input
            gradients. `tf.nn.moments`, and so Keras' normalization layers,
            then have exact derivatives in the step; other layers with wrong
            ones are refused. Defaults to False.
        needs_perturbation_gradient: Whether `correct` needs the gradient of
            the objective with respect to delta*. Defaults to False.
        needs_largest: Whether `correct` reads `StepContext.largest`. Defaults
            to False.
        adds_apart: Whether `correct` returns a pair, of which `add` makes the
            gradient. Defaults to False.
        batch_wide: Whether the equations look at the batch as a whole, beyond
            means over its examples. On several replicas, each then computes
            them of its own examples, and `fit` says so. Defaults to False.
        trains_through_solve: Whether the weight gradient also goes through
            `solve`, which must then stop it at delta*. Defaults to False.
        needs_plan: Whether the method reads `StepContext.progress` or has
            state with rows. Without `fit`, `RobustClassifier.compile` then
            expects a `Plan`. Defaults to False.
        remembers_examples: Whether its state has a row for each example.
            Defaults to False.
        takes_differences: Whether half precision is too coarse for the method,
            which compares nearby points. Defaults to False.
        needs_features: Whether the method calls `StepContext.features`.
            Defaults to False.
        radii: Tuple of the names of the options that `scaled` multiplies.
            Names that the method does not have are ignored. Defaults to
            `("epsilon", "step_size")`.
        whole: The unscaled method, in a copy made by `scaled`, otherwise None.
        reports: Dict of the scalars that the method logs with
            `StepContext.report`: what each means, by name; or a tuple of the
            names alone. Their names in the logs begin with `robust_`. Defaults
            to none.
        unused_reports: Tuple of the names in `reports` that this object does
            not log, as its options are. Defaults to none.
        replays: Integer, the number of updates on each batch. Each calls
            `solve` again. Defaults to 1.

    Example:

    ```python
    class Noise(fb.Method):
        \"\"\"Trains on images with uniform noise.\"\"\"

        epsilon: float = fb.option(8 / 255, "Radius of the noise.")

        def solve(self, context):
            return fb.Solution(context.random_start(self.epsilon))


    robust = fb.RobustClassifier(model, Noise(epsilon=16 / 255))
    ```
    """

    name: ClassVar[str | None] = None
    summary: ClassVar[str] = ""
    paper: ClassVar[Paper | None] = None
    passes: ClassVar[Passes | None] = None
    variants: ClassVar[dict[str, Variant]] = {}
    options: ClassVar[dict[str, Option]] = {}
    differentiates_twice = False
    needs_perturbation_gradient = False
    needs_largest = False
    adds_apart = False
    batch_wide = False
    trains_through_solve = False
    needs_plan = False
    remembers_examples = False
    takes_differences = False
    needs_features = False
    radii = ("epsilon", "step_size")
    whole = None
    reports: ClassVar[Mapping[str, str] | Sequence[str]] = ()
    unused_reports = ()
    replays = 1

    def __init_subclass__(
        cls, package: str | None = None, **kwargs: Any
    ) -> None:
        super().__init_subclass__(**kwargs)
        make_dataclass(cls, Method)
        if package is None:
            package = cls.__module__.partition(".")[0]
            package = "Custom" if package == "__main__" else package
        elif package == "fastbat_tf":
            raise InputError(
                f"{cls.__name__} is expected to have a package other than "
                f"that of the library. Received: package={package}"
            )
        keras.saving.register_keras_serializable(package)(cls)

    def __post_init__(self):
        vars(self).update(options.resolve(self.options, vars(self)))

    def scaled(self, share: Any) -> Self:
        """Returns a copy of this method with a share of its radii.

        Args:
            share: Scalar tensor of at least 0, which scales the options in
                `radii`.
        """
        method = copy.copy(self)
        method.whole = self
        for name in vars(self).keys() & set(self.radii):
            setattr(method, name, share * getattr(self, name))
        return method

    @abc.abstractmethod
    def solve(self, context: StepContext) -> Solution:
        """Solves the lower-level problem.

        Args:
            context: The `StepContext`.

        Returns:
            A `Solution`. The objective takes its perturbation as a constant.
        """

    def objective(
        self, context: StepContext, solution: Solution
    ) -> tuple[Any, Any]:
        """Computes the upper-level loss and the logits it was computed from.

        By default, the loss is the reduced loss at `x + delta*` plus `penalty`.
        Override this method to train on something else, such as clean logits.

        Args:
            context: The `StepContext`.
            solution: What `solve` returned.

        Returns:
            The scalar loss, and logits `(batch, classes)` for the metrics.
        """
        logits = context.logits(context.images + solution.perturbation)
        loss = context.reduce(context.losses(logits))
        return loss + self.penalty(context, solution, logits), logits

    def penalty(
        self, context: StepContext, solution: Solution, logits: Any
    ) -> Any:
        """Returns a scalar that is added to the mean loss; zero by default.

        Args:
            context: The `StepContext`.
            solution: What `solve` returned.
            logits: `(batch, classes)`, at the perturbed images.
        """
        del context, solution
        return tf.zeros([], logits.dtype)

    def largest(
        self, context: StepContext, solution: Solution, gradient: Any
    ) -> dict[str, Any]:
        """Returns scalars whose maximum over all replicas `correct` needs.

        It is called before `correct` if the method has `needs_largest`. What
        `solve` returns in `Solution.memory` must then be tensors, in any
        structure.

        Args:
            context: The `StepContext`.
            solution: What `solve` returned.
            gradient: Gradient of the objective with respect to delta*, or None
                unless `needs_perturbation_gradient`.

        Returns:
            Dict of float scalars, of which `StepContext.largest` has the
            maxima.
        """
        del context, solution, gradient
        return {}

    def correct(
        self,
        context: StepContext,
        solution: Solution,
        gradients: list[Any],
        perturbation_gradient: Any,
    ) -> Any:
        """Corrects the upper-level gradient; by default, changes nothing.

        Args:
            context: The `StepContext`.
            solution: What `solve` returned.
            gradients: Gradients of the objective, one per trainable variable.
            perturbation_gradient: Gradient of the objective with respect to
                delta*, or None unless `needs_perturbation_gradient`.

        Returns:
            A list like `gradients`. If the method has `adds_apart`: a pair of
            such lists, the gradients and what `add` adds to them.
        """
        del context, solution, perturbation_gradient
        return gradients

    def add(
        self, gradients: list[Any], addend: list[Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Adds what `correct` returned, averaged over all replicas.

        It is called if the method has `adds_apart`, so that a length or an
        angle of the two is that of the whole batch. The replicas then send
        each other two lists instead of one.

        Args:
            gradients: List of tensors, one per trainable variable.
            addend: List like `gradients`.

        Returns:
            A list like `gradients`, and a dict of scalars to report.
        """
        added = [a + b for a, b in zip(gradients, addend, strict=True)]
        return added, {}

    def initial_state(self, sizes: Sizes, draws: Draws) -> dict[str, Slot]:
        """Declares the variables that the method keeps; none by default.

        Args:
            sizes: The `fastbat_tf.methods.state.Sizes` of the run.
            draws: `Draws`, for random initial values.

        Returns:
            Dict of `fastbat_tf.methods.state.Slot`s by name.
        """
        del sizes, draws
        return {}

    def update(self, context: StepContext) -> dict[str, Any]:
        """Returns new values of the method's variables; none by default.

        It is called after the weights are updated, on all replicas at once.

        Args:
            context: The `StepContext`, with the `notes` of the earlier hooks.
                Its draws are those of `solve`.

        Returns:
            Dict of new values of `StepContext.state`: the rows of the step's
            examples, or whole variables, which must be equal on all replicas.
        """
        del context
        return {}

    def get_config(self) -> dict[str, Any]:
        """Returns all options, as arguments of the constructor."""
        return {name: getattr(self, name) for name in self.options}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Builds a method from what `get_config` returns."""
        return cls(**config)

    def __repr__(self) -> str:
        listed = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({listed})"
