"""A Keras model whose `fit` tells its method how far the training is."""

import functools
import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, Unpack

import keras
import tensorflow as tf

from fastbat_tf.draws import Draws
from fastbat_tf.errors import InputError
from fastbat_tf.layers import structure
from fastbat_tf.layers.keras_arguments import LayerArguments
from fastbat_tf.methods import state as states
from fastbat_tf.training import fit_data, labels
from fastbat_tf.training.keras_signatures import Signatures
from fastbat_tf.training.pixels import PixelModel

_F = TypeVar("_F")
# Layers that shuffle the examples of a batch.
_MIXING = keras.layers.MixUp, keras.layers.CutMix


def _like(signature: _F) -> Callable[[Callable[..., Any]], _F]:
    """Gives an override the signature and the docstring of Keras' method.

    Args:
        signature: A function of `Signatures`, for type checkers.
    """
    method = getattr(keras.Model, signature.__name__)  # type: ignore
    return functools.wraps(method)  # type: ignore[return-value]


class FittedModel(PixelModel):
    """A model whose `fit` tells its method how far the training is.

    The subclass sets `network`, `method`, `method_state`, `features`,
    `plan`, `seed` and `step`.

    Args:
        pixel_range: Pair of floats, the lowest and highest pixel value. See
            `RobustClassifier`.
        **kwargs: Arguments of `keras.Model`.
    """

    def __init__(
        self,
        pixel_range: Sequence[float] = (0, 1),
        **kwargs: Unpack[LayerArguments],
    ) -> None:
        super().__init__(pixel_range, **kwargs)
        self._clock = _Clock()
        self._is_stale = False  # Whether the step must be traced again.
        self._is_evaluating = False

    @_like(Signatures.fit)
    def fit(self, *args, **kwargs):
        signature = inspect.signature(keras.Model.fit)
        given = signature.bind(self, *args, **kwargs)
        given.apply_defaults()
        given = dict(given.arguments)
        del given["self"]
        if not self.compiled:
            return super().fit(**given)
        _check_class_weight(given["class_weight"])
        method, state = self.method, self.method_state
        for name in ("x", "validation_data"):
            given[name] = fit_data.take_apart(given[name])
        data = fit_data.inspect(
            given["x"],
            batch_size=given["batch_size"],
            validation_split=(
                given["validation_split"]
                if given["validation_data"] is None
                else 0
            ),
            needs_index=method.remembers_examples,
            needs_batch_size=self.plan is None and state.has_rows("batch"),
        )
        given["x"] = data.x
        if self.plan is None:
            self._size_state(data)
        for note in self.notes_on_replicas():
            warnings.warn(note, stacklevel=2)
        follower = _Follower(self, data, given["epochs"])
        callbacks = given["callbacks"]
        try:
            if isinstance(callbacks, keras.callbacks.CallbackList):
                follower.set_params(callbacks.params)
                callbacks.callbacks.insert(0, follower)
            else:
                listed = keras.tree.flatten(callbacks) if callbacks else []
                given["callbacks"] = [follower, *listed]
            return super().fit(**given)
        finally:
            self._clock.set(0, 0)
            if isinstance(callbacks, keras.callbacks.CallbackList):
                callbacks.callbacks.remove(follower)

    @_like(Signatures.evaluate)
    def evaluate(self, x=None, *args, **kwargs):
        self._is_evaluating = True
        try:
            return super().evaluate(fit_data.take_apart(x), *args, **kwargs)
        finally:
            self._is_evaluating = False

    @_like(Signatures.predict)
    def predict(self, x, *args, **kwargs):
        return super().predict(fit_data.take_apart(x), *args, **kwargs)

    @_like(Signatures.train_on_batch)
    def train_on_batch(self, *args, **kwargs):
        if self.compiled and self.method.needs_plan and self.plan is None:
            raise InputError(states.NEEDS_PLAN)
        return super().train_on_batch(*args, **kwargs)

    def progress(self, step):
        """Returns the `Progress` that a method sees at a step.

        Args:
            step: Integer or scalar tensor, the number of updates so far.

        Returns:
            A `Progress`, or None if there is neither a plan nor a `fit`.
        """
        return self._clock.progress(step, self.method.replays, self.plan)

    def create_method_state(self):
        """Creates the variables of the method, as far as sizes are known."""
        method, plan = self.method, self.plan
        if plan and method.remembers_examples and not plan.examples:
            raise InputError(
                f"The method {type(method).__name__} remembers every example; "
                "expected their number. "
                f"Received: examples={plan.examples}"
            )
        sizes = states.Sizes(
            self.network.image_shape,
            self.network.outputs.classes,
            self.features and self.features.output_shape[-1],
            examples=plan.examples if plan else 0,
            batch_size=plan.batch_size if plan else 0,
        )
        with self.distribute_strategy.scope():
            return states.create(method, sizes, Draws(self.seed, 0))

    def notes_on_replicas(self):
        """Says how the training differs on several replicas from one device.

        Returns:
            A list of lines, empty if it does not.
        """
        count = self.distribute_strategy.num_replicas_in_sync
        if count == 1:
            return []
        end = "so that the update differs from that of one device."
        notes = [
            f"The layer {layer.name} ({type(layer).__name__}) mixes examples; "
            f"each of the {count} replicas mixes its own, {end}"
            for layer in structure.flatten(self.network.classifier)
            if isinstance(layer, _MIXING)
        ]
        if self.method.batch_wide:
            name = self.method.name or type(self.method).__name__
            notes.append(
                f"The method {name} looks at the batch as a whole; each of the "
                f"{count} replicas computes these terms of its own examples, "
                f"{end}"
            )
        return notes

    def _size_state(self, data):
        """Gives the method a row for each example, or for each of a batch."""
        old = self.method_state
        before = old.count("examples")
        if data.examples is None and old.has_rows("examples"):
            raise InputError(
                "The method remembers every example; expected their number, "
                "compile(plan=fastbat_tf.Plan(...)). "
                "Received: examples=unknown"
            )
        state = old.resized(data.examples, data.batch_size)
        if state is old:
            return
        if before not in (None, data.examples):
            warnings.warn(
                f"`fit` has {data.examples} examples, but the method remembers "
                f"{before}: it forgets them.",
                stacklevel=3,
            )
        self._tracker.untrack(old)
        self.method_state = state
        self._is_stale = True

    def begin_fit(self, epochs):
        """Prepares the step for a training of so many epochs."""
        clock = self._clock
        if self.plan is None and self.method.needs_plan:
            # The number of epochs is a constant of the traced step, so that it
            # computes the same to the last bit as with a plan.
            changed = clock.epochs is None or clock.reads_epochs
            self._is_stale |= changed and clock.epochs != epochs
            clock.epochs = epochs
        if not clock.is_followed:
            self._is_stale |= self.plan is not None
            clock.is_followed = True
        if self._is_stale:
            self._is_stale = False
            self.make_train_function(force=True)

    def begin_epoch(self, epoch):
        """Notes that an epoch begins at this step."""
        self._clock.set(epoch, self.step)

    def check_labels(self, given):
        ignored = getattr(self.loss, "ignore_class", None)
        return labels.check(given, self.network.outputs.units, ignored)

    def check_index(self, index):
        """Rejects indices beyond the examples that the method remembers.

        Args:
            index: Integer tensor `(batch,)` or None.

        Returns:
            A list of operations for `tf.control_dependencies`.
        """
        examples = self.method_state.count("examples")
        if index is None or examples is None:
            return []
        return labels.check_index(index, examples)


class _Clock:
    """The epoch that `fit` is in, and the step at which it began.

    No object that Keras or TensorFlow would save with the weights.

    Attributes:
        epochs: Integer, the number of epochs of `fit`, or None before the first
            one.
        reads_epochs: Whether the method has read that number.
        is_followed: Whether there has been a `fit`. Before, a plan counts from
            the first step.
    """

    def __init__(self):
        self.epochs = None
        self.is_followed = False
        self.reads_epochs = False
        self._epoch, self._first_step = (
            tf.Variable(
                0,
                dtype=tf.int64,
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
            for _ in range(2)
        )

    def set(self, epoch, first_step):
        self._epoch.assign(tf.cast(epoch, tf.int64))
        self._first_step.assign(tf.cast(first_step, tf.int64))

    def progress(self, step, replays, plan):
        """Returns the `Progress` of a step; see `FittedModel.progress`."""
        if plan is None and self.epochs is None:
            return None
        if plan is not None and not self.is_followed:
            return plan.progress(step, replays)
        step = tf.cast(step, tf.int64) - self._first_step
        if plan is not None:
            progress = plan.progress(step, replays)
            return progress._replace(epoch=self._epoch + progress.epoch)
        batch, replay = step // replays, step % replays
        epoch = tf.convert_to_tensor(self._epoch)
        return _WatchedProgress(epoch, batch, replay, self)


class _WatchedProgress(states.Progress):
    """A `Progress` that notes in the clock whether `epochs` is read."""

    @property
    def epochs(self):
        clock: Any = self[3]
        clock.reads_epochs = True
        return clock.epochs


class _Follower(keras.callbacks.Callback):
    """Tells the model where `fit` is; the first of the callbacks.

    Args:
        model: A `FittedModel`.
        data: The `FitData`.
        epochs: Integer, the argument of `fit`.
    """

    async_safe = True

    def __init__(self, model, data, epochs):
        super().__init__()
        self.set_model(model)
        self._data = data
        self._epochs = epochs

    def on_train_begin(self, logs=None):
        params = self.params or {}
        # Keras may limit them: `keras.config.max_epochs`.
        epochs = params.get("epochs", self._epochs)
        if self.model.plan is not None:
            _compare(self.model.plan, epochs, params.get("steps"), self._data)
        self.model.begin_fit(epochs)

    def on_epoch_begin(self, epoch, logs=None):
        self.model.begin_epoch(epoch)


def _compare(plan, epochs, steps, data):
    """Refuses a `fit` that does something else than its plan says."""
    found = {
        "epochs": epochs,
        "steps_per_epoch": steps,
        "batch_size": data.batch_size,
    }
    if plan.examples and data.is_exact:
        found["examples"] = data.examples
    for name, value in found.items():
        expected = getattr(plan, name)
        if value not in (None, expected):
            raise InputError(
                "`fit` is expected to do what compile(plan=...) says, "
                f"{name}={expected}; without `plan`, `fit` plans by itself. "
                f"Received: {name}={value}"
            )


def _check_class_weight(class_weight):
    if class_weight is not None and not isinstance(class_weight, dict):
        raise InputError(
            "`class_weight` is expected to be a dict of floats by class. "
            f"Received: class_weight={class_weight}"
        )
