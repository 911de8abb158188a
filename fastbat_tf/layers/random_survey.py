"""Finds what is random in a classifier, by a trace in training mode."""

import random
import warnings
import weakref

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR

from fastbat_tf.layers.stacked_draws import Stack
from fastbat_tf.layers.structure import specs_in_step
from fastbat_tf.layers.tracing import apart

# Their numbers depend on a state that is not a weight.
STATEFUL_OPERATIONS = frozenset(
    {
        "Multinomial",
        "ParameterizedTruncatedNormal",
        "RandomCrop",
        "RandomGamma",
        "RandomPoisson",
        "RandomPoissonV2",
        "RandomShuffle",
        "RandomStandardNormal",
        "RandomUniform",
        "RandomUniformInt",
        "RngReadAndSkip",
        "RngSkip",
        "SampleDistortedBoundingBox",
        "SampleDistortedBoundingBoxV2",
        "StatefulRandomBinomial",
        "StatefulStandardNormal",
        "StatefulStandardNormalV2",
        "StatefulTruncatedNormal",
        "StatefulUniform",
        "StatefulUniformFullInt",
        "StatefulUniformInt",
        "TruncatedNormal",
    }
)

# The last survey of each classifier; in eager mode, it is the only one.
_surveys = weakref.WeakKeyDictionary()


class HostState:
    """The state of the global generators of Python and NumPy."""

    def __init__(self):
        self._python = random.getstate()
        self._numpy = np.random.get_state(legacy=False)

    def equals(self, other):
        return self._python == other._python and all(
            np.array_equal(self._numpy["state"][name], value)
            for name, value in other._numpy["state"].items()
        )

    def restore(self):
        random.setstate(self._python)
        np.random.set_state(self._numpy)


class Survey:
    """What is random in a classifier.

    Attributes:
        generators: List of `keras.random.SeedGenerator`s.
        active: List of the preprocessing layers that act in training mode.
        inactive: List of those that never act, because their own argument
            `training` is always False.
        draws_on_host: Whether a layer, such as AugMix, draws from Python's or
            NumPy's global generator while it is traced.
        is_random: Whether Keras' own passes would differ in their draws, or
            have wrong gradients of a projective transform.
    """

    stack = Stack()

    def __init__(self, generators):
        self.generators = generators
        self.active = []
        self.inactive = []
        self.draws_on_host = False
        self.is_random = bool(generators)

    def before_draw(self, generator):
        if all(generator is not known for known in self.generators):
            self.generators.append(generator)

    def before_preprocessing(self, layer, training):
        found = self.active if training else self.inactive
        if all(layer is not known for known in found):
            found.append(layer)
        return training


def survey(classifier, images, observed):
    """Finds what is random in a classifier.

    It is traced once in training mode, unless all of its layers are layers of
    Keras or of this library without randomness.

    Args:
        classifier: A built `keras.Model`.
        images: The images of the step, a tensor.
        observed: Function from a `Survey` to a context manager, in which the
            survey is told of draws and preprocessing.

    Returns:
        A `Survey`.
    """
    if tf.executing_eagerly() and classifier in _surveys:
        return _surveys[classifier]
    layers = list(classifier._flatten_layers())
    found = Survey([g for layer in layers for g in layer._seed_generators])
    if found.is_random or not all(map(_is_predictable, layers)):
        nodes = _trace_apart(classifier, images, found, observed)
        operations = {node.op for node in nodes or ()}
        found.is_random = bool(
            nodes is None
            or found.is_random
            or found.draws_on_host
            or found.generators
            or found.active
            or "ImageProjectiveTransformV3" in operations
        )
        if operations & STATEFUL_OPERATIONS:
            _warn([n for n in nodes if n.op in STATEFUL_OPERATIONS])
    _surveys[classifier] = found
    return found


def last_survey(classifier):
    """Returns what `survey` has found last."""
    return _surveys[classifier]


def _is_predictable(layer):
    """Whether a layer is known to draw only from its generators."""
    if isinstance(layer, (keras.layers.Lambda, keras.layers.TFSMLayer)):
        return False
    module = type(layer).__module__
    if not module.startswith(("keras.src.", "fastbat_tf.")):
        return False
    return "image_preprocessing" not in module


def _trace_apart(classifier, images, found, observed):
    """Returns all nodes of the classifier; None if it cannot be traced."""
    known = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)

    def run():
        global_state.set_global_attribute(GLOBAL_SEED_GENERATOR, known)
        nodes = _trace(classifier, images, found, observed)
        return nodes, global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)

    before = HostState()
    nodes, used = apart(run)
    found.draws_on_host = not before.equals(HostState())
    # The training draws as if there had been no survey.
    before.restore()
    if used is not known:  # The step will make one of its own.
        found.generators = [g for g in found.generators if g is not used]
        found.is_random = True
    return nodes


def _trace(classifier, images, found, observed):

    @tf.autograph.experimental.do_not_convert
    def run(given):
        with observed(found):
            classifier(given, training=True)

    try:
        function = tf.function(run, autograph=False)
        graph = function.get_concrete_function(
            specs_in_step(classifier, images)
        ).graph
    except Exception:  # The step will report it.
        return None
    nodes = list(graph.as_graph_def().node)
    for function in graph.as_graph_def().library.function:
        nodes += function.node_def
    return nodes


def _warn(operations):
    names = ", ".join(dict.fromkeys(f"{n.name} ({n.op})" for n in operations))
    warnings.warn(
        "The classifier draws random numbers that cannot be repeated: each "
        "forward pass of a training step sees another draw; expected "
        "keras.random with a keras.random.SeedGenerator. "
        f"Received: operation={names}",
        stacklevel=2,
    )
