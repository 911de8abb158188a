"""What a method remembers from step to step, and what it knows of the run."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from fastbat_tf.errors import InputError


class Plan(NamedTuple):
    """How long a training is, for methods that count.

    Attributes:
        epochs: Integer, passes over the data.
        steps_per_epoch: Integer, batches of a pass.
        batch_size: Integer, images of a batch, over all replicas.
        examples: Integer, images of the data set; 0 if they have no places.

    Example:

    >>> Plan(epochs=20, steps_per_epoch=390, batch_size=128, examples=50_000)
    """

    epochs: int
    steps_per_epoch: int
    batch_size: int
    examples: int = 0

    def progress(self, step, replays=1):
        """The `Progress` of a step, a pure function of its number.

        Args:
            step: Integer or scalar tensor, the updates so far.
            replays: Integer, the updates on each batch.
        """
        step = tf.cast(step, tf.int64)
        batches = step // replays
        return Progress(
            batches // self.steps_per_epoch,
            batches % self.steps_per_epoch,
            step % replays,
            self.epochs,
        )


class Progress(NamedTuple):
    """Where in the training a step is; all count from 0.

    Attributes:
        epoch: Integer tensor, the epoch.
        batch: Integer tensor, the batch in the epoch.
        replay: Integer tensor, the update on the batch.
        epochs: Integer, the number of epochs.
    """

    epoch: Any
    batch: Any
    replay: Any
    epochs: int


class Sizes(NamedTuple):
    """What the shapes of a method's state are made of.

    Attributes:
        image_shape: `(height, width, channels)`.
        classes: Integer.
        features: Integer, what the last layer of the classifier sees; None
            unless the method asks for it.
        examples: Integer, images of the data set; 0 if not known.
        batch_size: Integer, over all replicas; 0 if not known.
    """

    image_shape: tuple
    classes: int
    features: int | None = None
    examples: int = 0
    batch_size: int = 0


class Slot(NamedTuple):
    """One variable of a method's state.

    Attributes:
        shape: Its shape, or that of a row.
        initial: Its first value, a number or tensor.
        rows: None, or what the rows in front of `shape` stand for:
            `"examples"`, the images of the data set, or `"batch"`, the places
            in a batch. A step sees and writes those of its own images.
        dtype: Its type; by default that of the layers' variables.
    """

    shape: tuple
    initial: Any = 0
    rows: str | None = None
    dtype: str | None = None


class MethodState(keras.layers.Layer):
    """The variables of a method: saved with the model, the same everywhere.

    Args:
        slots: Dict of `Slot`s by name.
        sizes: The `Sizes`.
    """

    def __init__(self, slots, sizes, **kwargs):
        super().__init__(trainable=False, **kwargs)
        counts = {"examples": sizes.examples, "batch": sizes.batch_size}
        self._slots = slots
        self.entries = {}
        for name, slot in slots.items():
            rows = (counts[slot.rows],) if slot.rows else ()
            self.entries[name] = self.add_weight(
                name=name,
                shape=(*rows, *slot.shape),
                dtype=slot.dtype or keras.config.floatx(),
                initializer=_initializer(slot.initial),
                aggregation="only_first_replica",
            )
        self.built = True

    def read(self, index, replica, count):
        """What one replica's step sees of it.

        Args:
            index: Integer tensor `(count,)`, the places of its images in the
                data set, or None.
            replica: Integer or scalar tensor, its number.
            count: Integer or scalar tensor, the images of its batch.

        Returns:
            Dict of tensors: whole variables, and the rows of its images.
        """
        read = {}
        for name, slot in self._slots.items():
            value = self.entries[name].value
            rows = _rows(slot, index, replica, count)
            read[name] = (
                tf.convert_to_tensor(value)
                if rows is None
                else tf.gather(value, rows)
            )
        return read

    def write(self, updates, index, replica, count):
        """Writes what a step has found, on all replicas.

        Rows are collected from all replicas. What is no row must be equal on
        all of them.

        Args:
            updates: Dict of tensors by name.
            index: As for `read`.
            replica: As for `read`.
            count: As for `read`.
        """
        context = tf.distribute.get_replica_context()
        for name, update in updates.items():
            variable = self.entries[name]
            rows = _rows(self._slots[name], index, replica, count)
            update = tf.cast(update, variable.dtype)
            if rows is None:
                variable.assign(update)
                continue
            if context.num_replicas_in_sync > 1:
                rows = context.all_gather(rows, axis=0)
                update = context.all_gather(update, axis=0)
            variable.value.scatter_update(tf.IndexedSlices(update, rows))


def _rows(slot, index, replica, count):
    if slot.rows == "examples":
        return tf.cast(index, tf.int32)
    if slot.rows == "batch":
        first = tf.cast(replica, tf.int32) * tf.cast(count, tf.int32)
        return first + tf.range(count)
    return None


def _initializer(initial):
    def initialize(shape, dtype):
        return tf.broadcast_to(tf.cast(initial, dtype), shape)

    return initialize


def create(method, classifier, features, plan, draws):
    """Makes the state of a method.

    Args:
        method: A `Method`.
        classifier: The built classifier.
        features: The part of it in front of its last layer, or None.
        plan: A `Plan` or None.
        draws: `Draws`, for random first values.

    Returns:
        A `MethodState`.

    Raises:
        InputError: If the method needs a plan, or places of the examples, and
            there are none.
    """
    name = type(method).__name__
    if method.needs_plan and plan is None:
        raise InputError(
            f"The method {name} counts epochs or examples; expected "
            "compile(plan=fastbat_tf.Plan(...)). Received: plan=None"
        )
    if method.remembers_examples and not plan.examples:
        raise InputError(
            f"The method {name} remembers every example; expected their "
            f"number. Received: examples={plan.examples}"
        )
    sizes = Sizes(
        tuple(classifier.input_shape[1:]),
        classifier.output_shape[-1],
        features and features.output_shape[-1],
        plan.examples if plan else 0,
        plan.batch_size if plan else 0,
    )
    slots = method.initial_state(sizes, draws)
    return MethodState(slots, sizes, name="method_state")
