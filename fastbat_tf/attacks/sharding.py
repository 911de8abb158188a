"""Shares examples among devices and workers.

What an attack does with an example depends on the example, the attack and the
seed alone. So each device attacks examples of its own, in a loop of its own,
and the outcome is that of one device.
"""

import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from fastbat_tf import workers
from fastbat_tf.attacks.records import Record
from fastbat_tf.errors import InputError

SECONDS_BETWEEN_REPORTS = 0.5
SECONDS_BETWEEN_EXCHANGES = 10.0

Result = TypeVar("Result")


def strategy_of(model: Any) -> tf.distribute.Strategy:
    """Returns the distribution strategy of a model.

    Args:
        model: A `keras.Model`, the `network` of a `RobustClassifier`, or
            anything else.

    Returns:
        The `tf.distribute.Strategy` in whose scope the variables of the model
        were created; without such variables, the current one.
    """
    model = getattr(model, "classifier", model)
    for variable in getattr(model, "variables", None) or ():
        value = getattr(variable, "value", variable)
        found = getattr(value, "distribute_strategy", None)
        if isinstance(found, tf.distribute.Strategy):
            return found
    return tf.distribute.get_strategy()


class Sharding:
    """The workers and the devices that share the examples.

    Args:
        strategy: A `tf.distribute.Strategy`. Under `MirroredStrategy` and
            `MultiWorkerMirroredStrategy`, the devices of this process attack
            at the same time, each with its own copy of the variables. Defaults
            to None: one worker and one device.

    Attributes:
        strategy: The strategy, or None.
        workers: The `workers.Workers` of the strategy.
        devices: Tuple of the names of this worker's devices. If there is one,
            it is None: TensorFlow's own choice.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None) -> None:
        self.strategy = strategy
        self.workers = (
            workers.Workers() if strategy is None else workers.of(strategy)
        )
        self.devices = _local_devices(strategy)

    def together(self, work: Callable[[], Result]) -> Result:
        """Calls a function on all workers, all of which fail if one does.

        Args:
            work: Function without arguments that does not wait for the other
                workers.

        Returns:
            What this worker's call returns.

        Raises:
            InputError: If the call of another worker raised an exception.
        """
        if self.workers.count == 1:
            return work()
        error, result = None, None
        try:
            result = work()
        except Exception as raised:
            error = raised
        self._raise_together(error)
        return result  # pyright: ignore[reportReturnType]

    def on_chief(self, work: Callable[[], Result]) -> Result | None:
        """Calls a function on the chief alone; all fail if it does.

        Args:
            work: Function without arguments.

        Returns:
            What it returns, on the chief; None on other workers.

        Raises:
            InputError: On other workers, if the call raised an exception.
        """
        return self.together(lambda: work() if self.workers.is_chief else None)

    def rows(
        self, compute: Callable[[slice], np.ndarray], count: int
    ) -> np.ndarray:
        """Computes a row for each example, each on one worker.

        Args:
            compute: Function of the slice of this worker's examples that
                returns an array `(share, ...)`. It is not called on a worker
                without examples.
            count: Integer of at least 1, the number of examples.

        Returns:
            An array `(count, ...)`, the same on all workers.
        """
        total, index = self.workers.count, self.workers.index
        part = self.together(
            lambda: (
                compute(slice(index, None, total))
                if index < count
                else np.zeros(0, np.float32)
            )
        )
        parts = self.workers.gather(part)
        found = np.empty((count, *parts[0].shape[1:]), parts[0].dtype)
        for index, part in enumerate(parts[:count]):
            found[index::total] = part
        return found

    def attack(
        self,
        attack: Callable[..., None],
        record: Record,
        examples: np.ndarray,
        *,
        listener: Callable[[], None] | None = None,
        one_by_one: bool = False,
    ) -> None:
        """Attacks examples on all devices of all workers.

        Args:
            attack: Function of a device, the indices of its examples, a lock
                that it holds while it writes to the record, and a listener.
            record: The `Record`, which holds all results at the end, on all
                workers.
            examples: Integer array, the indices of the examples to attack, the
                same on all workers.
            listener: Function without arguments, called after every few steps.
                Defaults to None.
            one_by_one: Whether only one device of each worker attacks, because
                the network must not be called by several threads. Defaults to
                False.

        Raises:
            InputError: If another worker failed.
        """
        devices = (None,) if one_by_one else self.devices
        if self.workers.count == len(devices) == 1:
            attack(None, examples, contextlib.nullcontext(), listener)
            return
        own = examples[self.workers.index :: self.workers.count]
        exchange = _Exchange(self, record, own)
        stops = threading.Event()

        def hear():
            if stops.is_set():
                raise _Stopped

        def work(number, device):
            share = own[number :: len(devices)]
            if len(share):
                with self._on(device):
                    attack(device, share, exchange.lock, hear)

        with concurrent.futures.ThreadPoolExecutor(len(devices)) as pool:
            running = [pool.submit(work, *each) for each in enumerate(devices)]
            try:
                _follow(running, exchange, listener)
            finally:
                stops.set()

    @contextlib.contextmanager
    def _on(self, device):
        """A device, and this worker's copies of the variables on it."""
        if device is None or self.strategy is None:
            yield
            return
        with self.strategy.scope(), tf.device(device):
            yield

    def _raise_together(self, error):
        text = None if error is None else _first_line(error)
        said = [each for each in self.workers.gather_objects(text) if each]
        if error is not None:
            raise error
        if said:
            raise InputError(said[0])


class _Stopped(Exception):
    """Ends the attack on a device because another one has failed."""


class _Exchange:
    """Brings the results of all workers to all workers.

    Args:
        sharding: The `Sharding`.
        record: The `Record`.
        own: Integer array, the indices of this worker's examples.

    Attributes:
        lock: Lock of the record.
        is_due: Whether it is time for the next exchange.
    """

    def __init__(self, sharding, record, own):
        self.lock = threading.Lock()
        self._workers = sharding.workers
        self._raise_together = sharding._raise_together
        self._record, self._own = record, own
        self._sent = record.rounds[own].copy()
        self._last = time.perf_counter()

    @property
    def is_due(self):
        elapsed = time.perf_counter() - self._last
        return self._workers.count > 1 and elapsed > SECONDS_BETWEEN_EXCHANGES

    def __call__(self, is_done, error):
        """Exchanges what is new.

        Args:
            is_done: Whether this worker has attacked all of its examples.
            error: Exception that ended this worker's attacks, or None.

        Returns:
            Whether all workers are done.

        Raises:
            InputError: If another worker failed.
        """
        if self._workers.count == 1:
            if error is not None:
                raise error
            return is_done
        self._raise_together(error)
        record = self._record
        kept = [each for each in vars(record).values() if each is not None]
        with self.lock:
            rounds = record.rounds[self._own]
            new = self._own[rounds != self._sent]
            self._sent = rounds
            rows = [values[new] for values in kept]
        examples = self._workers.gather(new)
        for values, mine in zip(kept, rows, strict=True):
            parts = self._workers.gather(mine)
            for index, (example, part) in enumerate(
                zip(examples, parts, strict=True)
            ):
                if index != self._workers.index:
                    values[example] = part
        self._last = time.perf_counter()
        return all(self._workers.gather_objects(is_done))


def _follow(running, exchange, listener):
    """Waits for the devices of all workers; reports, and exchanges results."""
    is_done = False
    while not is_done:
        ended, still = concurrent.futures.wait(
            running,
            SECONDS_BETWEEN_REPORTS,
            concurrent.futures.FIRST_EXCEPTION,
        )
        error = next(filter(None, (each.exception() for each in ended)), None)
        if listener is not None and error is None:
            error = _report(listener, exchange.lock)
        if not still or error is not None or exchange.is_due:
            is_done = exchange(not still, error)


def _report(listener, lock):
    """Calls a listener; returns the exception that it raised, or None."""
    try:
        with lock:
            listener()
    except Exception as error:
        return error
    return None


def _local_devices(strategy):
    mirrored = (
        tf.distribute.MirroredStrategy,
        tf.distribute.MultiWorkerMirroredStrategy,
    )
    if not isinstance(strategy, mirrored):
        return (None,)
    devices = tuple(strategy.extended.worker_devices)
    return devices if len(devices) > 1 else (None,)


def _first_line(error):
    text = str(error) or type(error).__name__
    return text.splitlines()[0]
