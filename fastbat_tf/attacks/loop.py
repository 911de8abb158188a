"""Runs an attack over a data set.

The loop gives each example a slot in the batch. Every few steps, the examples
that are misclassified or have had all their rounds free their slots for the
next ones, so that the network is rarely evaluated on examples that are decided.
"""

import collections
import functools
import threading
import zlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fastbat_tf.attacks import targets
from fastbat_tf.attacks.classifier import (
    is_numpy,
    raises_own_errors,
    refuse_too_large,
)
from fastbat_tf.attacks.records import predict

# The excess of a perturbation that rounding explains, in pixels and relative
# to epsilon.
ROUNDING = 1e-6
RELATIVE_ROUNDING = 1e-4

# Keras traces a model in one thread at a time.
_tracing = threading.Lock()


class Round(NamedTuple):
    """A round of an attack on one example.

    Attributes:
        example: Integer, the index of the example.
        number: Integer, counted from 0.
    """

    example: int
    number: int

    def next(self):
        """The next round on the example."""
        return self._replace(number=self.number + 1)


class AttackLoop:
    """Runs the rounds of an attack on the examples of a data set.

    Args:
        attack: A `SteppedAttack`.
        strides: Its `Strides`, on one network.
        clean: A `Clean`.
        epsilon: Float, the radius.
        seed: Integer.
        size: Integer, the largest batch.
        lock: Context that is entered to write to the record.
    """

    def __init__(self, attack, strides, clean, epsilon, *, seed, size, lock):
        self._attack, self._strides, self._clean = attack, strides, clean
        self._epsilon, self._seed = epsilon, seed
        self._size, self._lock = size, lock
        self._rounds = attack.rounds(clean.logits.shape[-1])
        self._targets = targets.by_round(attack, clean)

    def run(self, record, examples, listener=None):
        """Attacks some examples of a record, and updates the record.

        Args:
            record: A `Record`, new or from an interrupted run.
            examples: Integer array, the indices of robust examples that have
                rounds left.
            listener: Function without arguments, called after every few steps,
                when the record is up to date. Defaults to None.
        """
        attack, size = self._attack, self._size
        waiting = collections.deque(
            Round(example, record.rounds[example]) for example in examples
        )
        slots, tensors = [], None
        while waiting or slots:
            free = min(size - len(slots), len(waiting))
            fresh = [waiting.popleft() for _ in range(free)]
            if fresh:
                started = self._start(fresh)
                tensors = _join(tensors, started) if slots else started
                slots += fresh
            with refuse_too_large(attack.batch_size):
                state = self._strides.run(tensors, size, self._epsilon)
                fooled = state["fooled"].numpy()
            tensors = (tensors[0], state)
            ended = fooled | (state["iteration"].numpy() > attack.steps)
            if ended.any():
                with self._lock:
                    self._record(record, slots, state, np.flatnonzero(ended))
                again = [
                    slots[slot].next()
                    for slot in np.flatnonzero(ended & ~fooled)
                    if slots[slot].number + 1 < self._rounds
                ]
                waiting.extendleft(reversed(again))
                kept = np.flatnonzero(~ended)
                slots = [slots[slot] for slot in kept]
                tensors = _take(tensors, kept)
            if listener:
                listener()

    def _start(self, rounds):
        """The problem and the state of some rounds."""
        examples, numbers = np.array(rounds).T
        name = zlib.crc32(self._attack.name.encode())
        generators = [
            np.random.default_rng([self._seed, name, example, number])
            for example, number in rounds
        ]
        problem, state = self._attack.begin(
            self._clean.images[examples],
            self._clean.labels[examples],
            self._targets[examples, numbers % self._targets.shape[1]],
            self._epsilon,
            generators,
        )
        confidence = predict(self._clean.logits[examples]).confidence
        return problem, {**state, "confidence": tf.constant(confidence)}

    def _record(self, record, slots, state, ended):
        """Records the states of the slots whose rounds have ended."""
        examples = np.array([slots[slot].example for slot in ended])
        found, loss, fooled, predicted, confidence = (
            tf.gather(state[name], ended).numpy()
            for name in ("found", "loss", "fooled", "predicted", "confidence")
        )
        delta = found - self._clean.images[examples]
        self._check(found, delta)
        worse = targets.is_worse(
            self._attack,
            record,
            examples,
            self._clean.labels[examples],
            fooled=fooled,
            loss=loss,
            predicted=predicted,
        )
        if record.perturbation is not None:
            record.perturbation[examples[worse]] = delta[worse]
        record.predicted[examples[worse]] = predicted[worse]
        record.confidence[examples[worse]] = confidence[worse]
        record.loss[examples] = np.maximum(loss, record.loss[examples])
        record.robust[examples] = ~fooled
        record.rounds[examples] += 1

    def _check(self, found, delta):
        attack, epsilon = self._attack, self._epsilon
        largest = attack.norm.size(delta).numpy().max()
        if not (
            largest <= epsilon * (1 + RELATIVE_ROUNDING) + ROUNDING
            and found.min() >= 0
            and found.max() <= 1
        ):
            # Not an InputError: this is a bug of the attack.
            raise AssertionError(
                f"The attack {attack.name} left the ball or the pixel range; "
                f"expected a perturbation of at most {epsilon} and pixels in "
                f"[0, 1]. Received: {attack.norm.name}={largest}, "
                f"pixels=[{found.min()}, {found.max()}]"
            )


class Strides:
    """Compiles the method `advance` of an attack, once per batch size.

    Args:
        attack: A `SteppedAttack`.
        network: Callable from images to logits.
    """

    def __init__(self, attack, network):
        self._attack, self._network = attack, network
        # XLA cannot compile a call of NumPy.
        self._compiles = attack.jit_compile and not is_numpy(network)
        self._compiled = {}  # By batch size; None for any.

    def run(self, tensors, size, epsilon):
        """Advances a batch by a few steps.

        Args:
            tensors: The problem and the state, two dicts of tensors.
            size: Integer, the batch size of XLA, to which others are padded.
            epsilon: Float, the radius.

        Returns:
            The new state.
        """
        count = tensors[1]["fooled"].shape[0]
        compiles = self._compiles
        padded = compiles and count < size
        if padded:  # With copies that count as decided.
            tensors = _take(tensors, np.resize(np.arange(count), size))
            tensors[1]["fooled"] |= tf.range(size) >= count
        key = size if compiles else None
        if key not in self._compiled:
            with _tracing:
                self._compiled[key] = self._compile(tensors)
        with raises_own_errors(self._network):
            state = self._compiled[key](
                *tensors, tf.constant(epsilon, tf.float32)
            )
        if padded:
            state = {name: value[:count] for name, value in state.items()}
        return state

    def _compile(self, tensors):
        compiles = self._compiles

        def spec(tensor):
            batch = tensor.shape[0] if compiles else None
            return tf.TensorSpec([batch, *tensor.shape[1:]], tensor.dtype)

        signature = (*tf.nest.map_structure(spec, tensors),)
        advance = tf.function(
            functools.partial(self._attack.advance, self._network),
            (*signature, tf.TensorSpec([], tf.float32)),
            autograph=False,
            jit_compile=compiles,
        )
        if not tf.config.functions_run_eagerly():
            advance.get_concrete_function()
        return advance


def _join(first, second):
    return tf.nest.map_structure(
        lambda *parts: tf.concat(parts, axis=0), first, second
    )


def _take(tensors, slots):
    return tf.nest.map_structure(
        lambda tensor: tf.gather(tensor, slots), tensors
    )
