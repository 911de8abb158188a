"""What the data given to `fit` tell about a training."""

import math
import types
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from fastbat_tf.data.indexing import (
    find_batch_size,
    find_examples,
    is_labeled_dict,
    split_index,
)
from fastbat_tf.errors import InputError
from fastbat_tf.methods.batch import INDEX_IS_MISSING


class FitData(NamedTuple):
    """The data of `fit`, and their sizes as far as they are needed.

    Attributes:
        x: The data, perhaps with an index.
        examples: Integer, the number of examples, or None.
        batch_size: Integer, the number of examples in a batch, or None.
        is_exact: Whether `examples` is the number itself, and not a bound.
            Defaults to True.
    """

    x: Any
    examples: int | None = None
    batch_size: int | None = None
    is_exact: bool = True


def inspect(x, *, batch_size, validation_split, needs_index, needs_batch_size):
    """Finds the sizes of training data, and gives arrays their indices.

    Args:
        x: The first argument of `fit`.
        batch_size: Integer or None, the argument of `fit`.
        validation_split: Float, the argument of `fit`.
        needs_index: Whether the method needs the index of each example.
        needs_batch_size: Whether the method needs the size of a batch, so that
            a batch may be read to see it.

    Returns:
        A `FitData`.

    Raises:
        InputError: If the index is needed, and neither given nor known.
    """
    if isinstance(x, tf.data.Dataset):
        return _inspect_dataset(x, needs_index, needs_batch_size)
    if isinstance(x, keras.utils.PyDataset):
        return _inspect_py_dataset(x, needs_index, needs_batch_size)
    if isinstance(x, types.GeneratorType):
        return _inspect_generator(x, needs_batch_size)
    if isinstance(x, tf.distribute.DistributedDataset):
        return FitData(x)
    count = _count(x)
    if count is None:
        return FitData(x)
    kept = count
    if validation_split:
        kept = math.floor(count * (1.0 - validation_split))  # As Keras does.
    batch_size = min(batch_size or 32, kept)
    inputs, index = split_index(x)
    if index is not None:
        # Of a larger data set, perhaps.
        last = int(np.max(np.asarray(index)[:kept], initial=-1))
        examples = max(kept, last + 1)
        return FitData(x, examples, batch_size, is_exact=False)
    if needs_index:
        x = {"images": inputs, "index": np.arange(count)}
    return FitData(x, kept, batch_size)


def take_apart(data):
    """Takes batches that are dicts of TensorFlow Datasets apart, as Keras asks.

    Args:
        data: The first argument of `fit`, `evaluate` or `predict`, or the
            validation data.

    Returns:
        The same, but a `tf.data.Dataset` or generator of dicts with `image`
        and `label` is one of `(images, labels)`.
    """
    if isinstance(data, tf.data.Dataset):
        return (
            data.map(_as_pair) if is_labeled_dict(data.element_spec) else data
        )
    if isinstance(data, types.GeneratorType):
        return (
            _as_pair(batch) if is_labeled_dict(batch) else batch
            for batch in data
        )
    return data


def _as_pair(batch):
    return batch["image"], batch["label"]


def _count(x):
    """The number of examples in arrays, or None if these are no arrays."""
    for leaf in keras.tree.flatten(x):
        shape = getattr(leaf, "shape", None)
        return int(shape[0]) if shape else None
    return None


def _inspect_dataset(dataset, needs_index, needs_batch_size):
    if needs_index and not _has_index(dataset.element_spec):
        raise InputError(INDEX_IS_MISSING)
    batch_size = find_batch_size(dataset)
    examples = find_examples(dataset) if needs_index else None
    if batch_size is None and (
        needs_batch_size or (needs_index and examples is None)
    ):
        batch_size = _count(next(iter(dataset.take(1)), ()))
    if examples is not None or not needs_index:
        return FitData(dataset, examples, batch_size)
    batches = int(dataset.cardinality())
    if batches < 0 or batch_size is None:
        raise InputError(
            "The method remembers every example; expected their number: "
            "with_index(dataset) of a data set that knows its cardinality (see "
            "tf.data.experimental.assert_cardinality), or "
            "compile(plan=fastbat_tf.Plan(...)). Received: examples=unknown"
        )
    return FitData(dataset, batches * batch_size, batch_size, is_exact=False)


def _has_index(element):
    inputs = keras.utils.unpack_x_y_sample_weight(element)[0]
    return isinstance(inputs, dict) and "index" in inputs


def _inspect_py_dataset(dataset, needs_index, needs_batch_size):
    if not needs_index and not needs_batch_size:
        return FitData(dataset)
    first = dataset[0]
    if needs_index and not _has_index(first):
        raise InputError(INDEX_IS_MISSING)
    batch_size, batches = _count(first), dataset.num_batches
    examples = batches * batch_size if batches and batch_size else None
    return FitData(dataset, examples, batch_size, is_exact=False)


def _inspect_generator(generator, needs_batch_size):
    if not needs_batch_size:
        return FitData(generator)
    first = next(generator, ())

    def restored():
        if first:
            yield first
        yield from generator

    return FitData(restored(), None, _count(first))
