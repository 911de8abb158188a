"""Batches without examples, which some replicas get at the end of the data.

Not every layer takes one: on CPUs, the convolutions of oneDNN return a wrong
shape, or refuse it. And the mean of no losses is no number. So a replica
without examples computes with one of zeros, of which nothing remains.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from fastbat_tf import distribution
from fastbat_tf.layers.assertions import require
from fastbat_tf.runtime import onednn


def test(model: Any, step: Callable[[Any], Any], data: Any) -> Any:
    """Evaluates a batch, which leaves the metrics as they are if it is empty.

    Args:
        model: A `keras.Model`.
        step: Its `test_step`, without this.
        data: The batch, tensors with one row for each example.

    Returns:
        What `step` returns.
    """
    if not _may_be_empty(data):
        return step(data)
    count = _count(data)
    variables = [each.value for each in model.metrics_variables]
    before = [tf.identity(variable) for variable in variables]
    results = step(_padded(data, count))
    for variable, value in zip(variables, before, strict=True):
        now = tf.identity(variable)
        variable.assign(tf.where(count > 0, now, value))
    return results


def predict(step: Callable[[Any], Any], data: Any) -> Any:
    """Predicts a batch, which may be empty.

    Args:
        step: The `predict_step` of a model, without this.
        data: The batch, tensors with one row for each example.

    Returns:
        What `step` returns, with a row for each example.
    """
    if not _may_be_empty(data):
        return step(data)
    count = _count(data)
    outputs = step(_padded(data, count))
    return tf.nest.map_structure(lambda output: output[:count], outputs)


def pad(data: Any) -> Any:
    """Adds an example of zeros to a batch that is empty.

    Args:
        data: The parts of the batch, tensors with one row for each example, or
            None.

    Returns:
        The same parts. They are `data` itself if it is known not to be empty.
    """
    return _padded(data, _count(data)) if _may_be_empty(data) else data


def refuse(images: Any) -> list[Any]:
    """Rejects an empty batch where nothing can stand for its images.

    Args:
        images: The images of this replica.

    Returns:
        A list of operations for `tf.control_dependencies`.

    Raises:
        InputError: When executed eagerly, if the batch is empty and oneDNN
            computes with it.
    """
    on_cpu = onednn.is_on() and not distribution.has_accelerator()
    # oneDNN leaves float64 to TensorFlow's own kernels.
    if images.dtype == tf.float64 or not (on_cpu and _may_be_empty(images)):
        return []
    count = _count(images)
    return require(
        count > 0,
        "Images are expected on each replica, since layers with "
        "synchronized=True use those of all; such as data.batch(size, "
        "drop_remainder=True). Received: images={}",
        lambda: [count],
    )


def drop(tensor: Any, images: Any) -> Any:
    """Drops the row of the example that `pad` has added.

    Args:
        tensor: Tensor with one row for each example of the padded batch.
        images: The images of the batch as it was.

    Returns:
        A tensor with one row for each of the images.
    """
    return tensor[: _count(images)] if _may_be_empty(images) else tensor


def _may_be_empty(data):
    strategy = tf.distribute.get_strategy()
    first = _tensors(data)[0]
    return strategy.num_replicas_in_sync > 1 and not first.shape[0]


def _tensors(data):
    return [part for part in tf.nest.flatten(data) if part is not None]


def _count(data):
    return tf.shape(_tensors(data)[0])[0]


def _padded(data, count):
    """Adds an example of zeros to an empty batch."""

    def pad(part):
        if part is None:
            return None
        rows = tf.cast(count == 0, tf.int32)
        shape = tf.concat([[rows], tf.shape(part)[1:]], 0)
        padded = tf.concat([part, tf.zeros(shape, part.dtype)], 0)
        return tf.ensure_shape(padded, [None, *part.shape[1:]])

    return tf.nest.map_structure(pad, data)
