"""The processes of a training on several hosts, and what they tell each other.

Under `tf.distribute.MultiWorkerMirroredStrategy`, each host runs the same
program, a worker. All of them must call the functions of `Workers` in the same
order, because each call waits for all workers.

```python
import numpy as np
import tensorflow as tf

from fastbat_tf import workers

everyone = workers.of(tf.distribute.get_strategy())
everyone.agree("batch_size", 128)
correct = np.array([True, False])
rows = everyone.gather(correct)  # An array of each worker.
if everyone.is_chief:
    print(np.concatenate(rows).mean())
```
"""

import contextlib
import functools
import json
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from fastbat_tf.errors import InputError

# Collectives have few dtypes, and floats may lose bits; integers keep them, and
# of these, GPUs exchange 64-bit ones.
_WORD = np.dtype(np.int64)
_PART = 1 << 20  # Words that are sent at a time: 8 MB.


class Workers:
    """The only worker: a strategy of one process.

    Attributes:
        index: Integer, the number of this worker, from 0.
        count: Integer, the number of workers.
    """

    index = 0
    count = 1

    @property
    def is_chief(self) -> bool:
        """Whether this worker writes files and prints results."""
        return self.index == 0

    def gather(self, array: Any) -> list[np.ndarray]:
        """Returns the arrays of all workers, on all workers.

        Args:
            array: NumPy array, or what becomes one. Shapes may differ between
                workers; dtypes may not.

        Returns:
            List of arrays, one of each worker, with the bits that they had.
        """
        return [np.asarray(array)]

    def from_chief(self, array: Any) -> np.ndarray:
        """Returns the array of the chief, on all workers.

        Args:
            array: NumPy array, or what becomes one. Workers other than the
                chief may pass None.

        Returns:
            An array with the bits, shape and dtype of the chief's.
        """
        return np.asarray(array)

    def object_from_chief(self, value: Any) -> Any:
        """Returns the value of the chief, of JSON's types, on all workers."""
        text = json.dumps(value).encode() if self.is_chief else b""
        found = self.from_chief(np.frombuffer(text, np.uint8))
        return json.loads(found.tobytes())

    def gather_objects(self, value: Any) -> list[Any]:
        """Returns the values of all workers, of JSON's types."""
        text = np.frombuffer(json.dumps(value).encode(), np.uint8)
        return [json.loads(each.tobytes()) for each in self.gather(text)]

    def on_chief(self, function: Callable[[], Any]) -> Any:
        """Calls a function on the chief alone.

        Args:
            function: Function without arguments that returns a value of JSON's
                types.

        Returns:
            Its value, on all workers.

        Raises:
            InputError: On all workers, if the chief's function raises it.
        """
        if self.count == 1:
            return function()
        outcome = None
        if self.is_chief:
            try:
                outcome = [function(), None]
            except (InputError, OSError) as error:
                self.object_from_chief([None, str(error)])
                raise
        value, error = self.object_from_chief(outcome)
        if error is not None:
            raise InputError(error)
        return value

    def part(self) -> None:
        """Waits until all workers are here, before their processes end.

        A worker that ends as soon as it has heard the last word of the others
        may break the exchange in which they still hear it.
        """

    def highest(self, number: int) -> int:
        """Returns the highest of all workers' numbers, integers."""
        return max(int(each) for each in self.gather(number))

    def agree(self, name: str, value: Any) -> None:
        """Refuses, on all workers, a value that is not the same on all.

        Args:
            name: String, what the value is.
            value: Any value of JSON's types. Of a dict, the error names the
                keys whose values differ.

        Raises:
            InputError: If the value of any worker differs from the chief's.
        """
        chief, *others = self.gather_objects(value)
        for index, other in enumerate(others, 1):
            if other != chief:
                theirs, ours = _differences(name, other, chief)
                raise InputError(
                    f"All workers are expected to have the same {name}; worker "
                    f"{index} has {theirs}, and the chief {ours}. "
                    f"Received: {theirs}"
                )


class _ManyWorkers(Workers):
    """The workers of a `MultiWorkerMirroredStrategy`."""

    def __init__(self, strategy: tf.distribute.Strategy, count: int) -> None:
        self._strategy = strategy
        self.count = count
        self.index = _index(strategy)
        # A graph for each size. They are few: powers of 2.
        self._graphs: dict[tuple[Callable, int], Callable] = {}

    def gather(self, array):
        words = _to_words(np.asarray(array))
        sizes = self._exchange(np.array([words.size], _WORD))
        parts = self._exchange(_padded(words, _rounded(int(sizes.max()))))
        return [
            _from_words(part[: int(size)])
            for part, size in zip(parts, sizes[:, 0], strict=True)
        ]

    def from_chief(self, array):
        words = _to_words(np.asarray(array if self.is_chief else 0))
        size = int(self._exchange(np.array([words.size], _WORD))[0, 0])
        words = _padded(words, size) if self.is_chief else np.zeros(size, _WORD)
        # In parts, because a host need not have the memory for much more.
        parts = [
            self._call(self._sum_words, _padded(part, _rounded(part.size)))
            for part in np.split(words, range(_PART, size, _PART))
        ]
        received = np.concatenate([part[:_PART] for part in parts])
        return _from_words(received[:size])

    def part(self):
        with contextlib.suppress(tf.errors.OpError):  # The first may be gone.
            self.highest(0)

    def highest(self, number):
        return int(self._exchange(np.array([number], _WORD)).max())

    def _exchange(self, words):
        """Returns `(workers, size)`: the words of all, as many each."""
        gathered = self._call(self._gather_words, words)
        rows = gathered.reshape(self.count, -1, words.size)
        return rows[:, 0]  # All replicas of a worker have the same.

    def _call(self, function, words):
        key = function, words.size
        if key not in self._graphs:
            # Not many traces of one function, against which TensorFlow warns.
            spec = tf.TensorSpec(words.shape, tf.int64)
            graph = tf.function(function, autograph=False)
            self._graphs[key] = graph.get_concrete_function(spec)
        return self._graphs[key](tf.constant(words)).numpy()

    def _gather_words(self, words):
        def gather():
            replica = tf.distribute.get_replica_context()
            return replica.all_gather(words[None], axis=0)

        return self._first(self._strategy.run(gather))

    def _sum_words(self, words):
        def total():
            replica = tf.distribute.get_replica_context()
            # Only one has anything to say: a sum that changes no bit.
            is_first = replica.replica_id_in_sync_group == 0
            said = tf.where(is_first, words, tf.zeros_like(words))
            return replica.all_reduce(tf.distribute.ReduceOp.SUM, said)

        return self._first(self._strategy.run(total))

    def _first(self, result):
        return self._strategy.experimental_local_results(result)[0]


_ONE = Workers()


def of(strategy: tf.distribute.Strategy) -> Workers:
    """Returns the `Workers` of a strategy.

    Args:
        strategy: A `tf.distribute.Strategy`.

    Returns:
        A `Workers`; with one worker if the strategy has one process.
    """
    count = getattr(strategy.extended, "_num_workers", 1)
    return _many(strategy, count) if count > 1 else _ONE


def _once_for_each(
    function: Callable[..., Workers],
) -> Callable[..., Workers]:
    made: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

    @functools.wraps(function)
    def get(strategy, *args):
        if strategy not in made:
            made[strategy] = function(strategy, *args)
        return made[strategy]

    return get


@_once_for_each
def _many(strategy, count):
    return _ManyWorkers(strategy, count)


def _index(strategy):
    """The number of this worker; a job `chief` comes before the others."""
    return strategy.extended._id_in_cluster


def _to_words(array):
    """Returns dtype, shape and bytes of an array as int64 words."""
    if array.dtype.hasobject:
        raise TypeError(f"Expected numbers. Received: {array.dtype}")
    head = json.dumps([array.dtype.str, array.shape]).encode()
    content = np.ascontiguousarray(array).tobytes()
    counts = np.array([len(head), len(content)], _WORD).tobytes()
    data = counts + head + content
    return np.frombuffer(data + bytes(-len(data) % 8), _WORD)


def _from_words(words):
    data = words.tobytes()
    head, content = np.frombuffer(data[:16], _WORD)
    dtype, shape = json.loads(data[16 : 16 + head])
    array = np.frombuffer(data[16 + head : 16 + head + content], dtype)
    return array.reshape(shape).copy()


def _padded(words, size):
    return np.pad(words, (0, size - words.size))


def _rounded(size):
    """The next power of 2, so that few shapes are traced."""
    return 1 << max(size - 1, 1).bit_length()


def _differences(name, theirs, ours):
    """Describes two different values: of dicts, the first different entry."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(theirs.keys() | ours.keys()):
            if theirs.get(key) != ours.get(key):
                return _differences(key, theirs.get(key), ours.get(key))
    return f"{name}={theirs}", f"{name}={ours}"
