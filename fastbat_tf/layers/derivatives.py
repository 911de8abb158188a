"""Names the layers that TensorFlow cannot differentiate, once or twice.

TensorFlow itself fails while a step is traced, and names only an operation.
"""

import functools
import re

import keras
import tensorflow as tf

from fastbat_tf.errors import InputError
from fastbat_tf.layers import probe
from fastbat_tf.layers.structure import flatten, input_specs
from fastbat_tf.layers.tracing import apart, call_in_training

_MISSING = re.compile(r"gradient registry has no entry for: (\w+)")
# The error of layers under `keras.RematScope`.
_RECOMPUTED = "recompute_grad tried to transpose"
# First derivatives that TensorFlow treats as constants: without an error, it
# omits their part of the second derivatives.
_SILENT = {
    "ResizeBilinearGrad",
    "FakeQuantWithMinMaxArgsGradient",
    "FakeQuantWithMinMaxVarsGradient",
    "FakeQuantWithMinMaxVarsPerChannelGradient",
    "SparseAddGrad",
}


class NoGradientError(InputError):
    """The logits have no gradient to the images."""


def connected(gradient):
    """Returns a gradient of the logits to the images.

    Args:
        gradient: A tensor, or None.

    Returns:
        `gradient`.

    Raises:
        NoGradientError: If it is None, so that there is no direction in which
            to perturb the images.
    """
    if gradient is None:
        raise NoGradientError(
            "The logits are expected to depend on the images by operations "
            "that have a gradient, which rounding, argmax and casts to "
            "integers do not have. Received: gradient=None"
        )
    return gradient


def missing_operation(error):
    """The operation for which an error says that it has no gradient.

    Args:
        error: An exception of TensorFlow.

    Returns:
        The name of the operation; None if it is another error.
    """
    if type(error) is NotImplementedError and _RECOMPUTED in str(error):
        return "recompute_grad"
    found = _MISSING.search(str(error))
    return found[1] if found and type(error) is LookupError else None


def refuse_silent_gaps(robust):
    """Rejects layers whose second derivatives TensorFlow treats as zero.

    It traces the gradient to the images once, which takes 0.3 s for
    PreActResNet-18; tracing a step of Fast-BAT takes 6 s.

    Args:
        robust: A `RobustClassifier`.

    Raises:
        InputError: If the method differentiates twice, and there is such a
            layer.
    """
    if not robust.method.differentiates_twice:
        return
    classifier = robust.classifier
    try:
        silent = apart(_silent_operations, classifier, input_specs(classifier))
    except Exception:  # The step will report it, see `named`.
        return
    for operation in sorted(silent):
        raise InputError(apart(_explain, robust, operation))


def refuse_wrong_layers(robust, images):
    """Rejects layers whose second derivatives are wrong, see `probe`.

    Args:
        robust: A `RobustClassifier`.
        images: The images of a step. Nothing is done if `robust` has been
            checked for images of this shape.

    Raises:
        InputError: If there is such a layer.
    """
    key = images.dtype, tuple(images.shape)
    if key in robust.probed:
        return
    wrong = probe.wrong_layers(robust.classifier, images)
    if wrong:
        layers = ", ".join(f"{x.name} ({type(x).__name__})" for x in wrong)
        raise InputError(
            "A layer of the classifier has wrong second derivatives on "
            "TensorFlow, as with a `tf.function` that was traced outside of "
            f"the training step; {_remedy(robust)}. Received: layer={layers}"
        )
    robust.probed.add(key)


def named(compute):
    """Decorates a method to name the layers that cannot be differentiated.

    Args:
        compute: A method of `RobustClassifier` whose first argument is images.

    Returns:
        A method that raises an `InputError` with the names of the layers.
    """

    @functools.wraps(compute)
    def wrapper(robust, images, *args, **kwargs):
        try:
            return compute(robust, images, *args, **kwargs)
        except NoGradientError as error:
            names = ", ".join(apart(_culprits, robust.classifier, 1))
            where = f" (it ends at {names})" if names else ""
            raise InputError(f"{error}{where}") from None
        except (LookupError, NotImplementedError) as error:
            operation = missing_operation(error)
            if operation is None:
                raise
            text = apart(_explain, robust, operation)
            raise InputError(text) from error
        except RuntimeError as error:
            if "`merge_call` called while defining" not in str(error):
                raise
            raise InputError(
                "Layers cannot exchange statistics between replicas inside of "
                "XLA, or of the loop of an attack; expected synchronized=False "
                "in BatchNormalization, or jit_compile=False and a method "
                f"without such a loop, such as FastBAT. Received: method="
                f"{type(robust.method).__name__}, "
                f"jit_compile={robust.compiles_step}"
            ) from error

    return wrapper


def _explain(robust, operation):
    classifier = robust.classifier
    order = 1 if _lacks(classifier, input_specs(classifier), 1) else 2
    names = _culprits(classifier, order)
    layers = ", ".join(names) or "not found"
    times = "at all" if order == 1 else "twice"
    remedy = "expected another layer there"
    if order == 2:
        remedy = _remedy(robust)
    return (
        f"A layer of the classifier cannot be differentiated {times} on "
        f"TensorFlow, which has no gradient of {operation}; {remedy}. "
        f"Received: layer={layers}"
    )


def _remedy(robust):
    """What to do about a layer that cannot be differentiated twice."""
    method = robust.method
    if "implicit_gradient" not in method.get_config():
        return (
            f"expected another layer there, or another method: "
            f"{type(method).__name__} differentiates twice, "
            'FastBAT(implicit_gradient="finite_difference") does not'
        )
    remedy = (
        f'expected {type(method).__name__}(implicit_gradient="finite_difference'
        '"), which takes no second derivative, or another layer there'
    )
    if robust.compiles_step:
        remedy += " (and jit_compile=False if XLA does not know the layer)"
    return remedy


def _culprits(classifier, order):
    """Names of the innermost layers that lack derivatives of an order."""
    candidates = list(_operations(classifier))
    inner = [o for o in candidates if not _layers_of(o)]
    outer = [o for o in candidates if _layers_of(o)]
    for group in (inner, reversed(outer)):
        found = [
            f"{operation.name} ({type(operation).__name__})"
            for operation in group
            if _lacks(operation, _input_of(operation, classifier), order)
        ]
        if found:
            return list(dict.fromkeys(found))
    return []


def _operations(model):
    # A functional model may have operations that are not layers.
    if isinstance(model, keras.Model) and hasattr(model, "operations"):
        for operation in model.operations:
            yield operation
            yield from _operations(operation)
    else:
        yield from _layers_of(model)


def _layers_of(operation):
    if not isinstance(operation, keras.Layer):
        return []
    return flatten(operation)


def _input_of(operation, classifier):
    """The input of an operation; the images if nothing specifies it."""
    try:
        return input_specs(operation)
    except InputError:
        return input_specs(classifier)


def _lacks(operation, given, order):
    """Whether TensorFlow lacks derivatives of an operation."""
    try:
        _, connects = _trace(operation, given, order)
        if order == 1:
            return not connects
        return bool(_silent_operations(operation, given))
    except Exception as error:  # The input is only a guess.
        return missing_operation(error) is not None


def _silent_operations(operation, given):
    """Operations of `_SILENT` in the gradient of an operation to its input."""
    # In the gradient to a weight, such an operation does no harm.
    graph, _ = _trace(operation, given, 1, of_weights=False)
    definition = graph.as_graph_def()
    parts = [definition.node]
    parts += [part.node_def for part in definition.library.function]
    return _SILENT.intersection(node.op for part in parts for node in part)


def _trace(operation, given, order, of_weights=True):
    """Traces the derivatives of an operation.

    Args:
        operation: A layer, or another operation of Keras.
        given: Its input, as `tf.TensorSpec`s.
        order: 1 or 2.
        of_weights: Whether derivatives to its weights are traced, too.
            Defaults to True.

    Returns:
        The graph, and whether there are any derivatives.
    """

    def differentiate(x):
        points = tf.nest.flatten(x)
        with tf.GradientTape(False, of_weights) as outer:
            outer.watch(points)
            with tf.GradientTape(False, of_weights) as inner:
                inner.watch(points)
                value = tf.add_n(
                    [
                        tf.reduce_sum(tf.sin(tf.cast(y, tf.float32)))
                        for y in tf.nest.flatten(call_in_training(operation, x))
                    ]
                )
            first = inner.gradient(value, points)
            found = [g for g in first if g is not None]
            total = [
                tf.reduce_sum(tf.sin(tf.cast(g, tf.float32))) for g in found
            ]
        if order == 2 and total:
            outer.gradient(total, points)
        connects.append(bool(found))

    connects = []
    traced = tf.function(differentiate, autograph=False)
    graph = traced.get_concrete_function(given).graph
    return graph, connects[-1]
