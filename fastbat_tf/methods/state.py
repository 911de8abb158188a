"""The variables of a method, and the sizes and progress of a training."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from fastbat_tf.errors import InputError


class Plan(NamedTuple):
    """The length of a training, for methods that count epochs or examples.

    `RobustClassifier.fit` plans by itself. State a plan only for your own loop
    of `train_on_batch`, or if the number of examples cannot be seen, as with a
    generator. `fit` then checks that it does what the plan says.

    Attributes:
        epochs: Integer, the number of passes over the data.
        steps_per_epoch: Integer, the number of batches in a pass.
        batch_size: Integer, the number of images in a batch, over all
            replicas.
        examples: Integer, the number of images in the data set. Defaults to 0,
            for images without indices.

    Example:

    >>> plan = fb.Plan(epochs=20, steps_per_epoch=390, batch_size=128)
    >>> plan.epochs * plan.steps_per_epoch
    7800
    """

    epochs: int
    steps_per_epoch: int
    batch_size: int
    examples: int = 0

    def progress(self, step: Any, replays: int = 1) -> "Progress":
        """Computes the `Progress` of a step from its number.

        Args:
            step: Integer or scalar tensor, the number of updates so far.
            replays: Integer, the number of updates on each batch. Defaults to
                1.
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
    """How far the training is at a step. All numbers count from 0.

    Attributes:
        epoch: Integer tensor, the number of the epoch.
        batch: Integer tensor, the number of the batch in the epoch.
        replay: Integer tensor, the number of the update on the batch.
        epochs: Integer, the number of epochs in all.
    """

    epoch: Any
    batch: Any
    replay: Any
    epochs: int


class Sizes(NamedTuple):
    """The sizes that the shapes of a method's state depend on.

    Attributes:
        image_shape: Tuple `(height, width, channels)`.
        classes: Integer, the number of classes.
        features: Integer, the number of inputs of the classifier's last layer,
            if `Method.needs_features`. Defaults to None.
        examples: Integer, the number of images in the data set. Defaults to 0,
            for an unknown number.
        batch_size: Integer, the number of images in a batch, over all
            replicas. Defaults to 0, for an unknown number.
    """

    image_shape: tuple
    classes: int
    features: int | None = None
    examples: int = 0
    batch_size: int = 0


class Slot(NamedTuple):
    """One variable of a method's state.

    Attributes:
        shape: Tuple, the shape of the variable, or of one of its rows.
        initial: The initial value, a number or tensor. Defaults to 0.
        rows: `"examples"` for a row per image of the data set, or `"batch"`
            for a row per image of a batch. A step reads and writes the rows of
            its own images. Defaults to None, for no rows.
        dtype: String, the type. Defaults to Keras' float type.
    """

    shape: tuple
    initial: Any = 0
    rows: str | None = None
    dtype: str | None = None


NEEDS_PLAN = (
    "The method counts epochs, or remembers examples or batches; `fit` tells "
    "it how many there are. Outside of `fit`, expected compile("
    "plan=fastbat_tf.Plan(...)). Received: plan=None"
)


class MethodState(keras.layers.Layer):
    """The variables of a method: saved with the model, equal on all replicas.

    If the method has rows for examples or for a batch and their number is not
    known yet, there are no variables: `resized` makes a state that has them,
    and so does loading weights.

    Args:
        slots: Dict of `Slot`s by name.
        sizes: The `Sizes` of the run.

    Attributes:
        entries: Dict of the variables by name.
        is_sized: Whether there are variables.
    """

    def __init__(self, slots, sizes, **kwargs):
        super().__init__(trainable=False, **kwargs)
        self._slots = slots
        self._strategy = tf.distribute.get_strategy()
        self.entries = {}
        counts = {"examples": sizes.examples, "batch": sizes.batch_size}
        rows = {n: counts[s.rows] for n, s in slots.items() if s.rows}
        self.is_sized = all(rows.values())
        if self.is_sized:
            self._create(rows)
        self.built = True

    def _create(self, rows):
        with self._strategy.scope():
            for name, slot in self._slots.items():
                count = (rows[name],) if slot.rows else ()
                self.entries[name] = self.add_weight(
                    name=name,
                    shape=(*count, *slot.shape),
                    dtype=slot.dtype or keras.config.floatx(),
                    initializer=_initializer(slot.initial),
                    aggregation="only_first_replica",
                )
        self.is_sized = True

    def count(self, kind):
        """The number of rows of a kind.

        Args:
            kind: `"examples"` or `"batch"`.

        Returns:
            Integer, or None if the state has no such rows.
        """
        for name, slot in self._slots.items():
            if slot.rows == kind and name in self.entries:
                return self.entries[name].shape[0]
        return None

    def has_rows(self, kind):
        """Whether the method declares rows of a kind, created or not."""
        return any(slot.rows == kind for slot in self._slots.values())

    def resized(self, examples, batch_size):
        """Returns this state with other numbers of rows.

        Args:
            examples: Integer, the number of images in the data set, or None if
                the method has no row for each of them.
            batch_size: Integer, the number of images in a batch, or None
                likewise.

        Returns:
            This state if it has so many rows. Otherwise a new one: rows of a
            kind whose number has changed begin anew, the rest is kept.
        """
        wanted = {"examples": examples, "batch": batch_size}
        if self.is_sized and all(
            self.count(kind) == count
            for kind, count in wanted.items()
            if self.has_rows(kind)
        ):
            return self
        sizes = Sizes((), 0, None, examples or 0, batch_size or 0)
        with self._strategy.scope():
            other = MethodState(self._slots, sizes, name=self.name)
        for name, variable in other.entries.items():
            old = self.entries.get(name)
            if old is not None and old.shape == variable.shape:
                variable.assign(old)
        return other

    def load_own_variables(self, store):
        if not len(store.keys()):
            # Saved before the first `fit`.
            for name, variable in self.entries.items():
                initialize = _initializer(self._slots[name].initial)
                variable.assign(initialize(variable.shape, variable.dtype))
            return
        if not self.is_sized:
            numbered = enumerate(self._slots.items())
            self._create(
                {
                    name: store[str(number)].shape[0]
                    for number, (name, slot) in numbered
                    if slot.rows
                }
            )
        super().load_own_variables(store)

    def read(self, index, first, count):
        """Reads the values that one replica's step sees.

        Args:
            index: Integer tensor `(count,)`, the indices of its images in the
                data set, or None.
            first: Integer or scalar tensor, the row of its first image in the
                batch of all replicas.
            count: Integer or scalar tensor, the number of images in its batch.

        Returns:
            Dict of tensors by name: whole variables, or the rows of its images.

        Raises:
            InputError: If there are no variables yet.
        """
        if not self.is_sized:
            raise InputError(NEEDS_PLAN)
        read = {}
        for name, slot in self._slots.items():
            value = self.entries[name].value
            rows = _rows(slot, index, first, count)
            read[name] = (
                tf.convert_to_tensor(value)
                if rows is None
                else tf.gather(value, rows)
            )
        return read

    def write(self, updates, index, first, count):
        """Writes the values that a step has returned, on all replicas.

        All replicas have all rows, so that an example may be on another one in
        the next epoch. The rows of a step are gathered from all replicas: each
        sends and receives as many bytes as the step's rows have, for images of
        `32 x 32 x 3` in float32 12 KB for an example and variable. Whole
        variables must be equal on all replicas.

        Args:
            updates: Dict of tensors by name.
            index: Integer tensor `(count,)`, the indices of the replica's
                images in the data set, or None.
            first: Integer or scalar tensor, the row of its first image in the
                batch of all replicas.
            count: Integer or scalar tensor, the number of images in its batch.
        """
        context = tf.distribute.get_replica_context()
        for name, update in updates.items():
            variable = self.entries[name]
            rows = _rows(self._slots[name], index, first, count)
            update = tf.cast(update, variable.dtype)
            if rows is None:
                variable.assign(update)
                continue
            if context.num_replicas_in_sync > 1:
                # Workers gather only what lies on a device; arguments do not.
                # A replica without images has computed a row that is no image.
                rows, update = tf.identity(rows), tf.identity(update[:count])
                rows = context.all_gather(rows, axis=0)
                update = context.all_gather(update, axis=0)
            variable.value.scatter_update(tf.IndexedSlices(update, rows))


def _rows(slot, index, first, count):
    if slot.rows == "examples":
        return tf.cast(index, tf.int32)
    if slot.rows == "batch":
        return tf.cast(first, tf.int32) + tf.range(count)
    return None


def _initializer(initial):
    def initialize(shape, dtype):
        return tf.broadcast_to(tf.cast(initial, dtype), shape)

    return initialize


def create(method, sizes, draws):
    """Creates the state of a method.

    Args:
        method: A `Method`.
        sizes: The `Sizes` of the run, as far as they are known.
        draws: `Draws`, for random initial values.

    Returns:
        A `MethodState`.

    Raises:
        InputError: If it has the size of the images, which is not known.
    """
    if None in sizes.image_shape:
        _refuse_images_of_any_size(method, sizes, draws)
    slots = method.initial_state(sizes, draws)
    return MethodState(slots, sizes, name="method_state")


def _refuse_images_of_any_size(method, sizes, draws):
    channels = sizes.image_shape[-1]
    one, two = (
        method.initial_state(
            sizes._replace(image_shape=(size, size, channels)), draws
        )
        for size in (1, 2)
    )
    if any(one[name].shape != two[name].shape for name in one):
        raise InputError(
            f"The method {type(method).__name__} remembers perturbations of "
            "the size of the images; expected a classifier of images of one "
            "size, such as keras.Input((32, 32, 3)). "
            f"Received: image_shape={sizes.image_shape}"
        )
