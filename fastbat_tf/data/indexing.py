"""Gives the examples of a `tf.data.Dataset` their indices."""

import keras
import tensorflow as tf

from fastbat_tf.errors import InputError


def with_index(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Gives each example of a data set its index.

    Methods that remember something about each example, such as
    `fastbat_tf.FGSMPGI`, need to know which examples a batch holds. `fit` adds
    the indices of arrays in memory by itself; for a `tf.data.Dataset` call this
    function, before anything that shuffles, augments or repeats the examples.

    Args:
        dataset: A `tf.data.Dataset` of `(images, labels)` or `(images, labels,
            sample_weight)`, or of dicts with `image` and `label`, as TensorFlow
            Datasets makes them. Its elements are examples, with images
            `(height, width, channels)`, or batches. Each pass over it gives
            the same examples in the same order.

    Returns:
        A `tf.data.Dataset` of `({"images": images, "index": index}, labels)`,
        and the weights if there are any. `index` is an int64 tensor: a scalar,
        or `(batch,)` for batches.

    Raises:
        InputError: If `dataset` is no such data set; or if it is endless, has
            indices already, or was shuffled so that each pass has another
            order.

    Example:

    ```python
    examples = tf.data.Dataset.from_tensor_slices((images, labels))
    batches = fb.with_index(examples).shuffle(10_000).batch(128)
    robust.fit(batches, epochs=20)
    ```

    A function that augments them, `with_index(examples).map(...)`, gets
    `({"images": images, "index": index}, labels)`.
    """
    if not isinstance(dataset, tf.data.Dataset):
        raise InputError(
            "`with_index` expects a tf.data.Dataset. "
            f"Received: dataset={type(dataset).__name__}"
        )
    if _changes_order(dataset):
        raise InputError(
            "`with_index` is expected before `shuffle`: each pass over a "
            "shuffled data set has another order, so that an index would mean "
            "another example. Received: dataset after shuffle("
            "reshuffle_each_iteration=True)"
        )
    count = int(dataset.cardinality())
    if count == tf.data.INFINITE_CARDINALITY:
        raise InputError(
            "`with_index` is expected before `repeat`. "
            "Received: an endless dataset"
        )
    rank = _rank(dataset.element_spec)
    if rank == 3:
        indexed = dataset.enumerate().map(_join_example)
    else:
        start = tf.constant(0, tf.int64)
        indexed = dataset.scan(start, _join_batch)
        count = tf.data.UNKNOWN_CARDINALITY
    indexed.indexed_examples = count if count >= 0 else None
    return indexed


def find_examples(dataset):
    """Finds the number of examples that `with_index` has counted.

    Args:
        dataset: A `tf.data.Dataset`, made from what `with_index` returned.

    Returns:
        Integer, or None if it is not known.

    Raises:
        InputError: If several data sets with indices were joined.
    """
    found = {
        id(origin): origin.indexed_examples
        for origin in _origins(dataset)
        if hasattr(origin, "indexed_examples")
    }
    if len(found) > 1:
        raise InputError(
            "`with_index` is expected once, after data sets are joined: the "
            f"same index would mean {len(found)} examples. "
            f"Received: {len(found)} data sets with an index"
        )
    return next(iter(found.values()), None)


def find_batch_size(dataset):
    """Finds the number of examples in the batches of a data set.

    Args:
        dataset: A `tf.data.Dataset` of batches.

    Returns:
        Integer, or None if it cannot be seen.
    """
    for spec in keras.tree.flatten(dataset.element_spec):
        shape = getattr(spec, "shape", tf.TensorShape(None))
        if shape.rank and shape[0] is not None:
            return shape[0]
    while dataset is not None:
        size = getattr(dataset, "_batch_size", None)
        if size is not None:
            return int(size)
        inputs = dataset._inputs() if hasattr(dataset, "_inputs") else []
        dataset = inputs[0] if len(inputs) == 1 else None
    return None


def is_labeled_dict(data):
    """Whether data are a dict of TensorFlow Datasets, with `image`, `label`."""
    return isinstance(data, dict) and {"image", "label"} <= data.keys()


def split_index(inputs):
    """Splits the input of a training step into images and their indices.

    Args:
        inputs: What the classifier takes, or a dict that holds it as `images`,
            with or without the `index` of each example in the data set.

    Returns:
        What the classifier takes, and the indices or None. A dict with other
        keys is left alone: it holds the inputs of the classifier.
    """
    is_ours = isinstance(inputs, dict) and (
        inputs.keys() in ({"images"}, {"images", "index"})
    )
    if not is_ours:
        return inputs, None
    return inputs["images"], inputs.get("index")


def _origins(dataset, stop=lambda dataset: False):
    """Yields a data set and all that it was made from, as far as is seen."""
    yield dataset
    if not stop(dataset) and hasattr(dataset, "_inputs"):
        for origin in dataset._inputs():
            yield from _origins(origin, stop)


def _changes_order(dataset):
    # A cache keeps the order of its first pass.
    def is_cache(origin):
        return type(origin).__name__ in ("CacheDataset", "_CacheDataset")

    return any(
        getattr(origin, "_reshuffle_each_iteration", False)
        for origin in _origins(dataset, is_cache)
    )


def _split(element):
    """Splits an element into images, labels and weights."""
    if is_labeled_dict(element):
        return element["image"], element["label"], None
    return keras.utils.unpack_x_y_sample_weight(element)


def _rank(element_spec):
    """The rank of the images: 3 for examples, 4 for batches."""
    images, labels, _ = _split(element_spec)
    if isinstance(images, dict) and "index" in images:
        raise InputError(
            "`with_index` expects a data set without indices. "
            "Received: dataset with an index"
        )
    ranks = [spec.shape.rank or 0 for spec in keras.tree.flatten(images)]
    if labels is None or max(ranks, default=0) not in (3, 4):
        raise InputError(
            "`with_index` expects (images, labels) with images (height, width, "
            "channels) or (batch, height, width, channels). Received: "
            f"element_spec={element_spec}"
        )
    return max(ranks)


def _join(element, index):
    images, labels, weights = _split(element)
    images = {"images": images, "index": index}
    return (images, labels) if weights is None else (images, labels, weights)


def _join_example(index, element):
    return _join(element, index)


def _join_batch(start, element):
    images = keras.tree.flatten(_split(element)[0])[0]
    count = tf.shape(images, tf.int64)[0]
    index = tf.range(start, start + count)
    return start + count, _join(element, index)
