"""Checks of what the constructor and `compile` of a classifier are given."""

import numbers

import keras
import numpy as np
import tensorflow as tf

from fastbat_tf import replicas
from fastbat_tf.attacks.base import Attack
from fastbat_tf.errors import InputError
from fastbat_tf.layers import structure
from fastbat_tf.methods.base import Method
from fastbat_tf.methods.state import Plan
from fastbat_tf.training import options
from fastbat_tf.training.epsilon_schedule import EpsilonSchedule
from fastbat_tf.training.pixels import PixelModel
from fastbat_tf.training.weight_perturbation import (
    AdversarialWeightPerturbation,
)


def check_classifier(classifier):
    """Rejects what is not a built Keras model.

    Args:
        classifier: The argument of `RobustClassifier`.

    Raises:
        InputError: If it is rejected, or was created in the scope of another
            distribution strategy.
    """
    if not isinstance(classifier, keras.Model):
        raise InputError(
            "`classifier` is expected to be a built keras.Model. "
            f"Received: classifier={_shown(classifier)}"
        )
    if isinstance(classifier, PixelModel):
        raise InputError(
            "`classifier` is expected to be a plain keras.Model, such as the "
            "attribute `classifier` of a RobustClassifier. "
            f"Received: classifier={_shown(classifier)}"
        )
    if not classifier.built:
        raise InputError(
            "`classifier` is expected to be built; give it a `keras.Input`, or "
            "call it on a batch of images. "
            f"Received: classifier={classifier.name}, which is not built"
        )
    check_scope(classifier.variables, tf.distribute.get_strategy())


def check_scope(variables, strategy):
    """Rejects a model that was created in the scope of another strategy.

    Args:
        variables: List of Keras variables of the model.
        strategy: The `tf.distribute.Strategy` that they are used with.

    Raises:
        InputError: If it is rejected.
    """
    for variable in variables:
        if not _is_in_scope(variable, strategy):
            raise InputError(
                "The classifier and its RobustClassifier are expected to be "
                "created and trained with one distribution strategy, in its "
                f"scope. Received: variable={variable.path}, of another scope"
            )


def check_optimizer_scope(optimizer, strategy):
    """Rejects an optimizer that was created in the scope of another strategy.

    Its counter would count each step once for each replica.

    Args:
        optimizer: A Keras optimizer.
        strategy: The `tf.distribute.Strategy` of the model.

    Raises:
        InputError: If it is rejected.
    """
    # With accumulated gradients, `iterations` is computed and no variable.
    if not _is_in_scope(optimizer._iterations, strategy):
        raise InputError(
            "The optimizer is expected to be created in the scope of the "
            "distribution strategy of the model, or to be given by its name. "
            f"Received: optimizer={optimizer.name}, of another scope"
        )


def _is_in_scope(variable, strategy):
    return strategy.extended.variable_created_in_scope(variable.value)


def check_averaging(weight_averaging):
    """Rejects a decay of averaged weights that is out of range.

    Args:
        weight_averaging: The argument of `compile`.

    Raises:
        InputError: If it is rejected.
    """
    is_number = isinstance(weight_averaging, numbers.Real)
    if not is_number or not 0 <= weight_averaging < 1:
        raise InputError(
            "`weight_averaging` is expected to be a number in [0, 1). "
            f"Received: weight_averaging={weight_averaging}"
        )


def check_precision(method, layers):
    """Rejects layers in half precision that are too coarse for a method.

    Args:
        method: A `Method`.
        layers: List of the classifier's layers.

    Raises:
        InputError: If there are such layers.
    """
    half = structure.computing_in(layers, "float16", "bfloat16")
    if method.takes_differences and half:
        raise InputError(
            f"{type(method).__name__} with these options compares points that "
            "half precision does not tell apart; expected float32, or "
            'implicit_gradient="exact". Received: '
            f"layer={half[0].name} in {half[0].compute_dtype}"
        )


def check_method(method):
    """Rejects what is not an instance of a `Method`.

    Args:
        method: The argument of `RobustClassifier`.

    Raises:
        InputError: If it is rejected.
    """
    if isinstance(method, Method):
        return
    expected = "an instance of a fastbat_tf.Method, such as FastBAT(8 / 255)"
    if isinstance(method, type) and issubclass(method, Method):
        expected = f"an instance, {method.__name__}(...), not the class"
    elif isinstance(method, str):
        expected += "; fastbat_tf.methods.get makes one of a name"
    elif isinstance(method, Attack):
        expected += "; attacks, such as fastbat_tf.attacks.PGD, measure"
    raise InputError(
        f"`method` is expected to be {expected}. "
        f"Received: method={_shown(method)}"
    )


def as_seed(seed):
    """Returns a seed as a Python integer.

    Args:
        seed: An integer of 32 bits, of Python or NumPy.

    Raises:
        InputError: If it is not such an integer.
    """
    limits = np.iinfo(np.int32)
    is_integer = isinstance(seed, numbers.Integral)
    if (
        not is_integer
        or isinstance(seed, bool)
        or not (limits.min <= seed <= limits.max)
    ):
        raise InputError(
            "`seed` is expected to be an integer of 32 bits. "
            f"Received: seed={_shown(seed)}"
        )
    return int(seed)


def as_plan(plan):
    """Returns the `Plan` that `compile` was given.

    Args:
        plan: A `Plan`, the list of its numbers as in a saved file, or None.

    Raises:
        InputError: If it is anything else.
    """
    if plan is None or isinstance(plan, Plan):
        checked = plan
    elif isinstance(plan, list | tuple) and 3 <= len(plan) <= len(Plan._fields):
        checked = Plan(*plan)
    else:
        raise InputError(
            "`plan` is expected to be a fastbat_tf.Plan. "
            f"Received: plan={_shown(plan)}"
        )
    for name, value in (checked._asdict() if checked else {}).items():
        low = 0 if name == "examples" else 1
        is_integer = isinstance(value, numbers.Integral)
        if not is_integer or isinstance(value, bool) or value < low:
            raise InputError(
                f"`{name}` of a plan is expected to be an integer of at least "
                f"{low}. Received: {name}={_shown(value)}"
            )
    return checked


def check_epsilon_schedule(schedule, method):
    """Rejects what is no `EpsilonSchedule`, or jitters no radius.

    Args:
        schedule: The argument of `compile`, or None.
        method: The `Method`.

    Raises:
        InputError: If it is rejected.
    """
    if schedule is not None and not isinstance(schedule, EpsilonSchedule):
        raise InputError(
            "`epsilon_schedule` is expected to be an object of "
            "fastbat_tf.EpsilonSchedule. "
            f"Received: epsilon_schedule={_shown(schedule)}"
        )
    if schedule is None or not schedule.jitter:
        return
    if not any(hasattr(method, name) for name in method.radii):
        raise InputError(
            "`jitter` is expected with a method that has a radius. Received: "
            f"jitter={schedule.jitter}, method={type(method).__name__}"
        )
    options.check_jitter("jitter", schedule.jitter, vars(method))


def check_weight_perturbation(perturbation, jit_compile):
    """Rejects a perturbation of weights that the step could not make.

    Args:
        perturbation: The argument of `compile`.
        jit_compile: Its argument, which is checked for several replicas.

    Raises:
        InputError: If it is rejected.
    """
    if perturbation is None:
        return
    if not isinstance(perturbation, AdversarialWeightPerturbation):
        raise InputError(
            "`weight_perturbation` is expected to be an object of "
            "fastbat_tf.AdversarialWeightPerturbation. "
            f"Received: weight_perturbation={_shown(perturbation)}"
        )
    if perturbation.gamma and jit_compile is True and replicas.count() > 1:
        raise InputError(
            "Replicas tell each other in which direction the weights are "
            "perturbed, which XLA cannot compile; expected jit_compile=False "
            'or "auto" on several replicas. Received: weight_perturbation='
            f"{perturbation}, jit_compile=True, replicas={replicas.count()}"
        )


def _shown(value):
    """Shows a value in one short line."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    shown = repr(value)
    if len(shown) > 60 or "\n" in shown or " at 0x" in shown:
        name = getattr(value, "__name__", "")
        return f"the {type(value).__name__} {name}".rstrip()
    return shown
