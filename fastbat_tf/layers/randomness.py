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
* Preprocessing layers, such as RandomFlip, act in both modes.

Outside of steps, layers do what they do in Keras.
"""

import contextlib
import functools
import threading

import keras
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.layers.preprocessing.data_layer import DataLayer
from keras.src.layers.preprocessing.image_preprocessing import (
    base_image_preprocessing_layer,
)

from fastbat_tf.errors import InputError
from fastbat_tf.layers import random_survey

PreprocessingLayer = base_image_preprocessing_layer.BaseImagePreprocessingLayer

_lock = threading.Lock()
_depth = 0
_originals = None
# Replicas of a MirroredStrategy are traced in threads of their own.
_local = threading.local()


def one_draw(compute):
    """Decorates a method that computes one step, to see a single draw.

    Args:
        compute: A method of `RobustClassifier` whose first argument is images.

    Returns:
        A method. All passes in it that `forward_pass` announces see the same
        draw.

    Raises:
        InputError: By the method, if a preprocessing layer is not called in
            passes in inference mode.
    """

    @functools.wraps(compute)
    def wrapper(robust, images, *args, **kwargs):
        found = random_survey.survey(robust.classifier, images, _observed)
        if not found.is_random:
            return compute(robust, images, *args, **kwargs)
        step = _Step(found)
        with _observed(step):
            result = compute(robust, images, *args, **kwargs)
        step.check_pass()
        return result

    return wrapper


def forward_pass(training):
    """Announces a forward pass of the classifier. Outside of a step: nothing.

    Args:
        training: Boolean, the mode of the pass.
    """
    step = _current()
    if step is not None:
        step.begin_pass(training)


class _Step:
    """What the passes of a step share.

    Args:
        found: A `random_survey.Survey`.
    """

    def __init__(self, found):
        self._found = found
        self._graph = self._pass_graph = _graph()
        self._starts = {}
        self._rewound = set()
        self._called = set()
        self._training = None
        for generator in found.generators:
            self._read(generator)

    def begin_pass(self, training):
        self.check_pass()
        self._pass_graph = _graph()
        self._rewound, self._called = set(), set()
        self._training = bool(training)
        if training:
            # Not only those that are seen to draw: of a layer whose `call` is a
            # `tf.function`, only the first pass is traced.
            for generator, _ in list(self._starts.values()):
                self.before_draw(generator)

    def before_draw(self, generator):
        """Sets a generator back to its start, once in a pass."""
        if self._training is None or id(generator) in self._rewound:
            return
        self._rewound.add(id(generator))
        start = self._read(generator)
        # Not inside a loop of the layer, whose iterations draw anew.
        with _inside(self._pass_graph):
            generator.state.assign(start)

    def before_preprocessing(self, layer, training):
        """Returns whether a preprocessing layer is in training mode."""
        self._called.add(id(layer))
        if self._training is False and layer not in self._found.inactive:
            return True
        return training

    def check_pass(self):
        """Rejects layers that a pass in inference mode did not call."""
        if self._training is not False:
            return
        for layer in self._found.active:
            if id(layer) not in self._called:
                raise InputError(
                    "A preprocessing layer that is called only in training "
                    "mode is not seen by this method's attack in inference "
                    "mode; expected a call in both modes, such as "
                    "layer(images, training=training), or a method with "
                    'attack_mode="training". '
                    f"Received: layer={layer.name} ({type(layer).__name__})"
                )

    def _read(self, generator):
        """Returns the state of a generator at the beginning of the step."""
        if id(generator) not in self._starts:
            # Outside of a loop, whose first pass may be the first to draw.
            with _inside(self._graph):
                start = generator.state.value * 1  # A copy, as in Keras.
            self._starts[id(generator)] = generator, start
        return self._starts[id(generator)][1]


@contextlib.contextmanager
def _observed(observer):
    """Tells an observer of draws and preprocessing in this thread.

    Args:
        observer: An object like `_Step`.
    """
    global _depth, _originals
    with _lock:
        if not _depth:
            _originals = keras.random.SeedGenerator.next, DataLayer.__call__
            keras.random.SeedGenerator.next = _next
            DataLayer.__call__ = _call
        _depth += 1
    outer, _local.observer = _current(), observer
    try:
        yield
    finally:
        _local.observer = outer
        with _lock:
            _depth -= 1
            if not _depth:
                keras.random.SeedGenerator.next = _originals[0]
                DataLayer.__call__ = _originals[1]


def _current():
    return getattr(_local, "observer", None)


def _next(generator, ordered=True):
    if _current() is not None:
        _current().before_draw(generator)
    return _originals[0](generator, ordered)


def _call(layer, inputs, **kwargs):
    observer = _current()
    if observer is not None and isinstance(layer, PreprocessingLayer):
        training = kwargs.get("training")
        if training is None:  # The layer would ask the layer around it.
            context = global_state.get_global_attribute("current_call_ctx")
            training = context and context.get_value("training")
        training = True if training is None else training  # As by default.
        training = observer.before_preprocessing(layer, training)
        if layer._call_has_training_arg:
            kwargs["training"] = training
    return _originals[1](layer, inputs, **kwargs)


def _graph():
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


def _inside(graph):
    return contextlib.nullcontext() if graph is None else graph.as_default()
