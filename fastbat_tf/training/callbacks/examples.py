"""The examples that callbacks attack a model in training on."""

import contextlib
import sys
from typing import Any

import keras
import tensorflow as tf

from fastbat_tf.attacks.base import Attack
from fastbat_tf.attacks.inputs import check_classes
from fastbat_tf.attacks.models import as_network
from fastbat_tf.attacks.sharding import Sharding, strategy_of
from fastbat_tf.data.classes import as_classes, check_count
from fastbat_tf.data.examples import describe, read_examples
from fastbat_tf.data.sources import Examples
from fastbat_tf.errors import InputError
from fastbat_tf.training import variables


class ExamplesCallback(keras.callbacks.Callback):
    """A callback that attacks the model in training on some examples.

    Measuring changes nothing of the training: the model is in inference mode,
    and the states of its random layers are restored. The devices and workers
    of the model's distribution strategy share the examples.

    Args:
        data: Images and labels, in any form that `fit` takes. They are read
            into memory. All workers have the same.
        attack: An `Attack`.
        pixel_range: Pair of floats, the range of the pixels, if the model is
            no `RobustClassifier`. Defaults to None, [0, 1].

    Attributes:
        examples: `Examples`, images as attacks take them, and class numbers;
            from `set_model` on.

    Raises:
        InputError: If an argument is not as described.
    """

    def __init__(
        self, data: Any, attack: Attack, *, pixel_range: Any = None
    ) -> None:
        super().__init__()
        if not isinstance(attack, Attack):
            raise InputError(
                "`attack` is expected to be an attack, such as "
                "fastbat_tf.attacks.PGD(steps=10); methods, such as "
                "fastbat_tf.PGD, train. "
                f"Received: attack={describe(attack)}"
            )
        self.attack = attack
        images, labels, _ = read_examples(data)
        labels, self._classes = as_classes(labels, len(images))
        self.examples = Examples(images, labels)
        self._images = images
        self._pixel_range = pixel_range
        self._bound = None
        self._bound_to = None
        self._traced = []

    def set_model(self, model):
        super().set_model(model)
        # Its layers may be others in a second `fit`.
        variables_of_model = [id(variable) for variable in model.variables]
        if model is self._bound_to and variables_of_model == self._traced:
            return
        network, pixels = as_network(model, self._pixel_range)
        images = pixels.to_unit_array(self._images)
        self.examples = self.examples._replace(images=images)
        sharding = Sharding(strategy_of(model))
        self._bound = self.attack.on(network, pixels).over(sharding)
        self._bound_to = model
        self._traced = variables_of_model

    def on_train_begin(self, logs=None):
        # What cannot be attacked is refused before an epoch is spent on it.
        with self._nothing_changed():
            images, labels = self.examples
            clean = self._bound.classify(images[:1], labels[:1])
            check_count(self._classes, clean.logits.shape[-1])
            check_classes(labels, clean.logits.shape[-1])
            self._bound.check_gradient(clean)

    def attack_examples(self, listener=None):
        """Attacks the examples.

        Args:
            listener: Function of the number of decided examples and of all.
                Defaults to None.

        Returns:
            An `AttackResult`.
        """
        with self._nothing_changed():
            return self._bound(
                *self.examples,
                self.attack.epsilon,
                seed=self.attack.seed,
                listener=listener,
            )

    def probabilities(self, images):
        """Asks the model about some images, on this worker alone.

        Args:
            images: Array of images, like `examples.images`.

        Returns:
            float32 array `(images, classes)`.
        """
        with self._nothing_changed():
            logits = self._bound.classify.logits_alone(images)
        return tf.nn.softmax(logits).numpy()

    @contextlib.contextmanager
    def _nothing_changed(self):
        states = [
            variable
            for variable in self._bound_to.variables
            if variable.name == "seed_generator_state"
        ]
        before = [variables.values(state) for state in states]
        try:
            yield
        finally:
            for state, value in zip(states, before, strict=True):
                variables.assign(state, value)


def listed_before(callback):
    """Finds the callbacks that are listed before another one.

    Keras does not tell a callback about the others, so their list is looked
    for where it calls this one.

    Args:
        callback: A callback, of which a method is being called.

    Returns:
        A list of callbacks, empty if Keras' list is not found.
    """
    frame = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.callbacks.CallbackList):
            listed = caller.callbacks
            places = [i for i, each in enumerate(listed) if each is callback]
            return listed[: places[0]] if places else []
        frame = frame.f_back
    return []
