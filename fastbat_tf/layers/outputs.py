"""The form of a classifier's outputs, and their logits.

Methods and attacks see logits of two or more classes. A Keras classifier may
also return probabilities, or one value for two classes.
"""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from fastbat_tf.errors import InputError
from fastbat_tf.layers import structure, tracing
from fastbat_tf.layers.moments import exact_moments

SOFTMAX = "softmax"
SIGMOID = "sigmoid"
_ACTIVATIONS = {
    keras.activations.linear: None,
    keras.activations.softmax: SOFTMAX,
    keras.activations.sigmoid: SIGMOID,
}
# Operations behind the last layer that change no value.
_PASSING = ("Cast", "Identity", "Reshape", "Squeeze", "StopGradient")


@dataclasses.dataclass(frozen=True)
class Outputs:
    """The form of what a classifier returns.

    Attributes:
        activation: `"softmax"` or `"sigmoid"` for probabilities, None for
            logits.
        units: Integer, the size of the last axis. 1 is a classifier of two
            classes that returns the logit or the probability of class 1.
    """

    activation: str | None
    units: int

    @property
    def classes(self):
        """The number of classes."""
        return max(self.units, 2)

    @property
    def is_binary(self):
        """Whether one value stands for two classes."""
        return self.units == 1

    @property
    def from_logits(self):
        """Whether they are logits, not probabilities."""
        return self.activation is None

    def of_logits(self):
        """Returns the same outputs as logits."""
        return Outputs(None, self.units)

    def of_probabilities(self):
        """Returns the same outputs as probabilities."""
        return Outputs(SIGMOID if self.is_binary else SOFTMAX, self.units)

    def to_logits(self, outputs):
        """Converts what the classifier returns to logits.

        Args:
            outputs: Float tensor `(batch, units)`.

        Returns:
            A float tensor `(batch, classes)`. Probabilities become the values
            that the activation was given if Keras or TensorFlow know them, or
            else logarithms. A single logit z becomes `[0, z]`, which have the
            same probabilities.
        """
        if self.activation:
            outputs = _undo(outputs, self.activation)
        elif not self.is_binary:
            return outputs
        if not self.is_binary:
            return outputs
        return tf.concat([tf.zeros_like(outputs), outputs], -1)

    def to_outputs(self, logits):
        """Converts logits to the form in which the classifier returns them.

        Args:
            logits: Float tensor `(batch, classes)`.

        Returns:
            A float tensor `(batch, units)`. Losses find the logits of
            probabilities in it, as in the outputs of a Keras layer.
        """
        if self.is_binary:
            logits = logits[:, 1:] - logits[:, :1]
        if self.activation == SOFTMAX:
            return keras.activations.softmax(logits)
        if self.activation == SIGMOID:
            return keras.activations.sigmoid(logits)
        return logits


def logits_of(answer):
    """Converts what any classifier has returned to logits.

    Args:
        answer: Float tensor `(batch, units)`.

    Returns:
        A float tensor `(batch, classes)`.
    """
    return Outputs(_find_activation(answer), answer.shape[-1]).to_logits(answer)


def find(classifier, pick, from_logits=None, *, guess=False):
    """Finds the form of a classifier's outputs.

    As in Keras' losses, the last layer tells whether they are logits: a
    softmax or sigmoid as the last operation makes them probabilities.

    Args:
        classifier: A built `keras.Model`.
        pick: Function that returns the classified one of several outputs.
        from_logits: Boolean, whether the outputs are logits. Defaults to None:
            the last layer tells.
        guess: Boolean, whether outputs that are positive and add up to 1 are
            taken for probabilities, rather than refused. Logarithms do not
            change what is predicted. Defaults to False.

    Returns:
        An `Outputs`.

    Raises:
        InputError: If they are not of the shape `(batch, units)`, or are
            probabilities of labels that do not exclude each other.
    """
    shape, activation, add_up = _look(classifier, pick)
    if shape.rank != 2 or not shape[-1]:
        raise InputError(
            "The classifier is expected to return one vector per image, of "
            "shape (batch, classes). "
            f"Received: outputs.shape={tuple(shape)}"
        )
    units = shape[-1]
    is_unclear = from_logits is None and activation is None and add_up
    if is_unclear and guess:
        from_logits = False
    elif is_unclear:
        raise InputError(
            "The outputs of the classifier are positive and add up to 1, but "
            "no softmax is its last operation; expected from_logits=False if "
            "they are probabilities, else from_logits=True. "
            f"Received: from_logits=None, classifier={classifier.name}"
        )
    if from_logits is not None:
        expected = SIGMOID if units == 1 else SOFTMAX
        activation = None if from_logits else activation or expected
    if activation == SIGMOID and units > 1:
        raise InputError(
            "The classifier is expected to choose one of its classes, by a "
            "softmax or logits; a sigmoid for several labels of an image is "
            f"not supported. Received: classifier={classifier.name}, "
            f"units={units}, activation=sigmoid"
        )
    if activation == SOFTMAX and units == 1:
        raise InputError(
            "A softmax of one value is always 1; expected a sigmoid, or two "
            f"classes. Received: classifier={classifier.name}, units=1, "
            "activation=softmax"
        )
    return Outputs(activation, units)


def _look(classifier, pick):
    """Looks at the outputs.

    Returns:
        Their shape, their activation or None, and whether they add up to 1 as
        far as is known.
    """
    outputs = getattr(classifier, "outputs", None)
    # A class of the user may do anything in its own `call`.
    if outputs and type(classifier).call.__module__.startswith("keras."):
        symbolic = pick(getattr(classifier, "_outputs_struct", outputs))
        layer = symbolic._keras_history.operation
        known = getattr(layer, "activation", None)
        # A linear activation without weights, such as one that only casts,
        # passes on what the layer before it returns.
        passes_on = known is keras.activations.linear and not layer.weights
        is_keras = type(layer).__module__.startswith("keras.")
        if is_keras and not passes_on and known in _ACTIVATIONS:
            return tf.TensorShape(symbolic.shape), _ACTIVATIONS[known], False
    return tracing.apart(_trace, classifier, pick)


def _trace(classifier, pick):
    found = []

    def call(given):
        outputs = pick(classifier(given, training=False))
        found[:] = outputs.shape, _find_activation(outputs)
        return outputs

    specs = structure.input_specs(classifier, batch=None)
    # Functions of the user that this traces may be used in a step.
    with exact_moments():
        traced = tf.function(call, autograph=False)
        traced = traced.get_concrete_function(specs)
    shape, activation = found
    known = activation or shape.rank != 2 or shape[-1] == 1
    return shape, activation, not known and _add_up(traced, specs)


def _add_up(classify, specs):
    """Whether outputs for random inputs look like probabilities."""
    random = np.random.default_rng(0)
    sizes = tf.nest.map_structure(lambda x: x.shape[1:], specs)
    if not all(s.is_fully_defined() for s in tf.nest.flatten(sizes)):
        return False
    given = tf.nest.map_structure(
        lambda x: tf.cast(random.uniform(size=(2, *x.shape[1:])), x.dtype),
        specs,
    )
    outputs = tf.cast(classify(given), tf.float32).numpy()
    # As much as half precision rounds ten classes.
    return bool((outputs >= 0).all() and abs(outputs.sum(1) - 1).max() < 0.02)


def _find_activation(outputs):
    operation = _undone(outputs)
    return operation.type.lower() if operation is not None else None


def _undone(outputs):
    """Returns the softmax or sigmoid that outputs come from, or None."""
    if not tf.is_symbolic_tensor(outputs):
        return None
    operation = outputs.op
    while operation.type in _PASSING:
        operation = operation.inputs[0].op
    if operation.type not in ("Softmax", "Sigmoid"):
        return None
    # A reshape may leave a softmax of groups of the classes.
    is_of_classes = operation.outputs[0].shape[-1] == outputs.shape[-1]
    return operation if is_of_classes else None


def _undo(outputs, activation):
    known = getattr(outputs, "_keras_logits", None)
    if known is not None and known.shape.rank == outputs.shape.rank:
        return known
    operation = _undone(outputs)
    if operation is not None:
        return tf.reshape(operation.inputs[0], tf.shape(outputs))
    dtype = keras.backend.result_type(outputs.dtype, "float32")
    outputs = tf.cast(outputs, dtype)
    if activation == SOFTMAX:
        return _log(outputs)
    return _log(outputs) - _log(1.0 - outputs)


def _log(probabilities):
    smallest = np.finfo(probabilities.dtype.as_numpy_dtype).tiny
    return tf.math.log(tf.maximum(probabilities, smallest))
