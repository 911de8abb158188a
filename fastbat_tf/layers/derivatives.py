"""Says which layer TensorFlow cannot differentiate, once or twice.

TensorFlow finds out while a step is traced, and names an operation alone.
"""

import concurrent.futures
import functools
import re

import keras
import tensorflow as tf

from fastbat_tf.errors import InputError

_MISSING = re.compile(r"gradient registry has no entry for: (\w+)")
# Of layers under `keras.RematScope`.
_RECOMPUTED = "recompute_grad tried to transpose"
# First derivatives that TensorFlow takes for constants: it raises no error, and
# leaves their share of the second derivatives out.
_SILENT = {
    "ResizeBilinearGrad",
    "FakeQuantWithMinMaxArgsGradient",
    "FakeQuantWithMinMaxVarsGradient",
    "FakeQuantWithMinMaxVarsPerChannelGradient",
    "SparseAddGrad",
}


class NoGradientError(InputError):
    """The logits do not depend on the images, as far as gradients tell."""


def connected(gradient):
    """A gradient of the logits to the images, unless it is None.

    Raises:
        NoGradientError: If it is. There is nothing to perturb along.
    """
    if gradient is None:
        raise NoGradientError(
            "The logits are expected to depend on the images by operations "
            "that have a gradient, which rounding, argmax and casts to "
            "integers do not have. Received: gradient=None"
        )
    return gradient


def missing_operation(error):
    """The operation of which TensorFlow has no gradient, or None.

    Args:
        error: An exception.
    """
    if type(error) is NotImplementedError and _RECOMPUTED in str(error):
        return "recompute_grad"
    found = _MISSING.search(str(error))
    return found[1] if found and type(error) is LookupError else None


def refuse_silent_gaps(robust):
    """Refuses layers whose second derivatives TensorFlow takes for zero.

    It traces the gradient to the images once: 0.3 s for PreActResNet-18, where
    the trace of a step of Fast-BAT takes 6.

    Args:
        robust: A `RobustClassifier`.

    Raises:
        InputError: If the method differentiates twice, and there is one.
    """
    if not robust.method.differentiates_twice:
        return
    classifier = robust.classifier
    try:
        silent = _apart(_silent_operations, classifier, _images(classifier))
    except Exception:  # The step will say it, with `named`.
        return
    for operation in sorted(silent):
        raise InputError(_apart(_explain, robust, operation))


def named(compute):
    """A decorator: a layer that cannot be differentiated is refused by name.

    Args:
        compute: A method of `RobustClassifier`, of images and more.
    """

    @functools.wraps(compute)
    def wrapper(robust, images, *args, **kwargs):
        try:
            return compute(robust, images, *args, **kwargs)
        except NoGradientError as error:
            names = ", ".join(_apart(_culprits, robust.classifier, 1))
            where = f" (it ends at {names})" if names else ""
            raise InputError(f"{error}{where}") from None
        except (LookupError, NotImplementedError) as error:
            operation = missing_operation(error)
            if operation is None:
                raise
            text = _apart(_explain, robust, operation)
            raise InputError(text) from error

    return wrapper


def _apart(function, *args):
    # In a thread of its own there is no graph, tape or strategy around it.
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        return executor.submit(function, *args).result()


def _explain(robust, operation):
    classifier, method = robust.classifier, robust.method
    order = 1 if _lacks(classifier, _images(classifier), 1) else 2
    names = _culprits(classifier, order)
    layers = ", ".join(names) or "not found"
    times = "at all" if order == 1 else "twice"
    remedy = "expected another layer there"
    if order == 2 and "implicit_gradient" in method.get_config():
        remedy = (
            f"expected {type(method).__name__}(implicit_gradient="
            '"finite_difference"), which takes no second derivative, or '
            "another layer there"
        )
        if robust.compiles_step:
            remedy += " (and jit_compile=False if XLA does not know the layer)"
    elif order == 2:
        remedy += (
            f", or another method: {type(method).__name__} differentiates "
            'twice, FastBAT(implicit_gradient="finite_difference") does not'
        )
    return (
        f"A layer of the classifier cannot be differentiated {times} on "
        f"TensorFlow, which has no gradient of {operation}; {remedy}. "
        f"Received: layer={layers}"
    )


def _culprits(classifier, order):
    """Names of the innermost layers that have no derivatives of an order."""
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
    # A functional model knows operations that are no layers.
    if isinstance(model, keras.Model) and hasattr(model, "operations"):
        for operation in model.operations:
            yield operation
            yield from _operations(operation)
    else:
        yield from _layers_of(model)


def _layers_of(operation):
    if not isinstance(operation, keras.Layer):
        return []
    return list(operation._flatten_layers(include_self=False, recursive=True))


def _images(classifier):
    batch, *shape = classifier.input_shape
    return tf.TensorSpec((batch or 2, *shape), tf.float32)


def _input_of(operation, classifier):
    """What goes into it; if nothing tells, as in an activation, images."""
    try:
        given = operation.input
    except (AttributeError, ValueError):  # It is not of a functional model.
        config = getattr(operation, "get_build_config", dict)() or {}
        shape = config.get("input_shape")
        if not shape:
            return _images(classifier)
        return tf.TensorSpec((2, *shape[1:]), tf.float32)
    return tf.nest.map_structure(
        lambda x: tf.TensorSpec((2, *x.shape[1:]), x.dtype), given
    )


def _lacks(operation, given, order):
    """Whether TensorFlow has no derivatives of an operation."""
    try:
        _, connects = _trace(operation, given, order)
        if order == 1:
            return not connects
        return bool(_silent_operations(operation, given))
    except Exception as error:  # It is called with a guess.
        return missing_operation(error) is not None


def _silent_operations(operation, given):
    """Those of `_SILENT` in the gradient of an operation to what goes in."""
    # The gradient to a weight, too, would be a gap in no second derivative.
    graph, _ = _trace(operation, given, 1, of_weights=False)
    definition = graph.as_graph_def()
    parts = [definition.node]
    parts += [part.node_def for part in definition.library.function]
    return _SILENT.intersection(node.op for part in parts for node in part)


def _trace(operation, given, order, of_weights=True):
    """The graph of an operation's derivatives, and whether there are any.

    Args:
        operation: A layer, or another operation of Keras.
        given: What goes into it, as `tf.TensorSpec`s.
        order: 1 or 2.
        of_weights: Whether the derivatives of its weights are traced too.
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
                        for y in tf.nest.flatten(_call(operation, x))
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


def _call(operation, x):
    try:
        return operation(x, training=True)
    except (TypeError, ValueError):  # It knows no modes.
        return operation(x)
