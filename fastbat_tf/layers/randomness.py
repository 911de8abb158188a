"""One draw of everything random in a classifier for a whole training step.

A step runs several forward passes: the attack, perhaps a penalty, and the
upper level. Keras draws anew in each of them, so that the perturbation would be
computed for another network (Dropout) or another image (RandomFlip) than the
one that is trained. In a step, therefore:

* All passes see the same draw: in each of them, every `SeedGenerator` begins
  where it was when the step began. After the step, it is where one pass leaves
  it, as after a step of Keras.
* Dropout and noise are on in passes in training mode, and off in passes in
  inference mode.
* Preprocessing layers, such as RandomFlip, act in both modes. Those that move
  pixels, such as RandomRotation, get their right gradients.

Outside of steps, layers do what they do in Keras.
"""

import contextlib
import functools
import threading
import warnings

import keras
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.layers.preprocessing.data_layer import DataLayer
from keras.src.layers.preprocessing.image_preprocessing import (
    base_image_preprocessing_layer,
)
from tensorflow.python.framework.func_graph import FuncGraph

from fastbat_tf.errors import InputError
from fastbat_tf.layers import random_survey, stacked_draws
from fastbat_tf.layers.projective_transform import projective_transform
from fastbat_tf.layers.replacement import Replacement
from fastbat_tf.layers.stacked_draws import Stack

PreprocessingLayer = base_image_preprocessing_layer.BaseImagePreprocessingLayer

# Replicas of a MirroredStrategy are traced in threads of their own.
_local = threading.local()
# The key of the notes of a step.
_STARTS = "states of the random layers"


def one_draw(compute):
    """Decorates a method that computes one step, to see a single draw.

    Args:
        compute: A method of `RobustClassifier` whose first argument is images,
            and which returns a `StepResult`.

    Returns:
        A method. All passes in it, marked by `forward_pass`, see the same draw.
        It adds to the notes of the step what `same_draw` needs.

    Raises:
        InputError: By the method, if a preprocessing layer is not called in
            passes in inference mode.
    """

    @functools.wraps(compute)
    def wrapper(robust, images, *args, **kwargs):
        found = random_survey.survey(robust.classifier, images, _observed)
        if not found.is_random:
            return compute(robust, images, *args, **kwargs)
        step = _Step(found, shard=kwargs.get("shard"))
        with _current(step):
            result = compute(robust, images, *args, **kwargs)
        starts = [step.start_of(generator) for generator in found.generators]
        return result._replace(notes={**result.notes, _STARTS: starts})

    return wrapper


def same_draw(robust, notes, shard=None):
    """Lets passes see the draw of a step again, after its gradients.

    Args:
        robust: A `RobustClassifier`.
        notes: The notes of the `StepResult`.
        shard: The `fastbat_tf.replicas.Shard` of the replica. Defaults to None,
            for the whole batch.

    Returns:
        A context manager.
    """
    if _STARTS not in notes:
        return contextlib.nullcontext()
    found = random_survey.last_survey(robust.classifier)
    return _current(_Step(found, notes[_STARTS], shard))


@contextlib.contextmanager
def forward_pass(training, copies=1, batch=None):
    """Marks a forward pass of the classifier in a step.

    Outside of a step, and in another pass, it does nothing.

    Args:
        training: Boolean, the mode of the pass.
        copies: Integer, the number of versions of the step's images that are
            stacked along the batch axis. Defaults to 1.
        batch: Integer, the size of the stack. Defaults to None, if it is not
            known before the step runs.

    Returns:
        A context manager.

    Raises:
        InputError: If a preprocessing layer that acts in training mode is not
            called in this pass in inference mode, or only in a `tf.function`.
    """
    step = getattr(_local, "step", None)
    if step is None or _observer() is not None:
        yield
        return
    current = _Pass(step, training, (copies, batch))
    with _observed(current):
        yield
    current.check()


class _Step:
    """What the passes of a step share.

    Args:
        found: A `random_survey.Survey`.
        starts: List of the states of its generators at the beginning of the
            step. Defaults to their current ones.
        shard: The `Shard` of the replica. Defaults to None.
    """

    def __init__(self, found, starts=(), shard=None):
        self.found = found
        self.shard = shard
        self.starts = {
            id(generator): (generator, start)
            for generator, start in zip(found.generators, starts, strict=False)
        }
        self.host = random_survey.HostState()
        self._graph = _graph()
        for generator in found.generators:
            if id(generator) not in self.starts:
                self._read(generator)

    def start_of(self, generator):
        """Returns the state of a generator at the beginning of the step."""
        if id(generator) not in self.starts:
            self.found.generators.append(generator)
            self._read(generator)
        return self.starts[id(generator)][1]

    def _read(self, generator):
        # Outside of a loop, whose first pass may be the first to draw.
        with _inside(self._graph):
            start = generator.state.value * 1  # A copy, as in Keras.
        self.starts[id(generator)] = generator, start


class _Pass:
    """A forward pass in a step.

    Args:
        step: The `_Step`.
        training: Boolean, the mode of the pass.
        stack: The number of versions of the images in the batch, and the size
            of the batch or None.
    """

    def __init__(self, step, training, stack):
        copies, batch = stack
        self._stack = Stack(copies, batch, step.shard)
        self._step = step
        self._training = bool(training)
        self._graph = _graph()
        self._rewound = set()
        self._called = set()
        self._compiled = []
        if step.found.draws_on_host:
            step.host.restore()
        if training:
            # Not only those that are seen to draw: of a layer whose `call` is a
            # `tf.function`, only the first pass is traced.
            for generator, _ in list(step.starts.values()):
                self.before_draw(generator)

    @property
    def stack(self):
        """What the batch is made of, where a layer draws."""
        if self._stack.shard is None or not _is_inside_function(self._graph):
            return self._stack
        # All replicas share the trace of such a function, and with it any row
        # that it began at.
        warnings.warn(
            "A random layer is called in a `tf.function` of the classifier, so "
            "that all replicas draw the same numbers, and the update differs "
            "from that of one device; expected no `tf.function` there.",
            stacklevel=2,
        )
        return self._stack._replace(shard=None)

    def before_draw(self, generator):
        """Sets a generator back to its start, once in a pass."""
        if id(generator) in self._rewound:
            return
        self._rewound.add(id(generator))
        start = self._step.start_of(generator)
        # Not inside a loop of the layer, whose iterations draw anew.
        with _inside(self._graph):
            generator.state.assign(start)

    def before_preprocessing(self, layer, training):
        """Returns whether a preprocessing layer is in training mode."""
        self._called.add(id(layer))
        if training or self._training or layer in self._step.found.inactive:
            return training
        if _is_inside_function(self._graph):
            self._compiled.append(layer)
        return True

    def check(self):
        """Rejects layers that a pass in inference mode cannot let act."""
        if self._training:
            return
        for layer in self._compiled:
            raise InputError(
                "A preprocessing layer that is called in a `tf.function` of "
                "the classifier cannot act in passes in inference mode, "
                "because the function would keep it for `predict`; expected no "
                '`tf.function` there, or a method with attack_mode="training". '
                f"Received: layer={layer.name} ({type(layer).__name__})"
            )
        for layer in self._step.found.active:
            if id(layer) not in self._called:
                raise InputError(
                    "A preprocessing layer that is called only in training "
                    "mode is not seen by this method's passes in inference "
                    "mode; expected a call in both modes, such as "
                    "layer(images, training=training), or a method with "
                    'attack_mode="training". '
                    f"Received: layer={layer.name} ({type(layer).__name__})"
                )


@contextlib.contextmanager
def _current(step):
    outer, _local.step = getattr(_local, "step", None), step
    try:
        yield
    finally:
        _local.step = outer


@contextlib.contextmanager
def _observed(observer):
    """Tells a pass or a survey of the draws in this thread, and lets it act."""
    outer, _local.observer = _observer(), observer
    try:
        with _replacement:
            yield
    finally:
        _local.observer = outer


def _observer():
    return getattr(_local, "observer", None)


def _next(generator, ordered=True):
    if _observer() is not None:
        _observer().before_draw(generator)
    original = _replacement.originals[keras.random.SeedGenerator, "next"]
    return original(generator, ordered)


def _call(layer, inputs, **kwargs):
    if _observer() is not None and isinstance(layer, PreprocessingLayer):
        training = kwargs.get("training")
        if training is None:  # The layer would ask the layer around it.
            context = global_state.get_global_attribute("current_call_ctx")
            training = context and context.get_value("training")
        training = True if training is None else training  # As by default.
        training = _observer().before_preprocessing(layer, training)
        if layer._call_has_training_arg:
            kwargs["training"] = training
    original = _replacement.originals[DataLayer, "__call__"]
    return original(layer, inputs, **kwargs)


def _find_stack():
    return Stack() if _observer() is None else _observer().stack


_replacement = Replacement(
    {
        (keras.random.SeedGenerator, "next"): _next,
        (DataLayer, "__call__"): _call,
        (tf.raw_ops, "ImageProjectiveTransformV3"): projective_transform,
        **stacked_draws.replacements(_find_stack),
    }
)


def _graph():
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


def _is_inside_function(outer):
    """Whether a `tf.function` is traced inside of a graph."""
    graph = _graph()
    while graph is not outer and isinstance(graph, FuncGraph):
        # Branches and loops have graphs of their own types.
        if type(graph) is FuncGraph:
            return True
        graph = graph.outer_graph
    return False


def _inside(graph):
    return contextlib.nullcontext() if graph is None else graph.as_default()
