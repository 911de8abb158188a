"""What all attacks share: the contract, and the loop over a data set.

An attack is a start and a step on a batch, and a number of rounds (restarts or
target classes) for each example. The loop gives each example a slot in the
batch. Every few steps, one that has fallen, or has had its rounds, leaves its
slot to the next, so that the network hardly works for what is decided.
"""

import abc
import collections
import functools
import zlib
from typing import Any

import numpy as np
import tensorflow as tf

from fastbat_tf.attacks import losses, norms
from fastbat_tf.attacks.classifier import Classifier, refuse_too_large
from fastbat_tf.attacks.inputs import as_count, check_radius
from fastbat_tf.attacks.records import AttackResult, Record

# What rounding may add to a perturbation, in pixels and relative to epsilon.
ROUNDING = 1e-6
RELATIVE_ROUNDING = 1e-4


class Attack(abc.ABC):
    """What can be called on a data set: one attack, or several in order.

    Args:
        network: Any callable from float32 images `(batch, height, width,
            channels)` in [0, 1] to logits `(batch, classes)`.
        norm: `"linf"` or `"l2"`.
        batch_size: Integer, images per call of the network.
        jit_compile: Whether XLA compiles the loop. It then has one shape, and
            the last examples are padded; else the batch shrinks with them.

    Attributes:
        title: As it is written on the command line, if it was.
        classify: The `Classifier` of the network.
    """

    title = None

    def __init__(self, network, norm="linf", batch_size=250, jit_compile=False):
        self.network = network
        self.norm = norms.get(norm)
        self.batch_size = as_count("batch_size", batch_size)
        self.jit_compile = jit_compile
        self.classify = Classifier(network, batch_size)

    @abc.abstractmethod
    def stages(self) -> list[Any]:
        """The `SteppedAttack`s that it is made of, in order."""

    def __call__(self, images, labels, epsilon, seed=0, listener=None):
        """Attacks a whole data set.

        Args:
            images: uint8 array, or float array in [0, 1], of shape
                `(examples, height, width, channels)`.
            labels: Integer array `(examples,)`.
            epsilon: Float, the radius: in [0, 1] for L-infinity.
            seed: Integer.
            listener: Function of two integers, called after every few steps:
                how many examples are decided, and how many there are.

        Returns:
            An `AttackResult`.

        Raises:
            InputError: If the images are not pixels, the labels are not
                classes, epsilon is out of range, or the network does not
                answer with logits.
        """
        check_radius(epsilon, self.norm)
        clean = self.classify(images, labels)
        robust, found = clean.correct, np.zeros_like(clean.images)
        for stage in self.stages():
            record = Record.start(robust, clean.images)
            hear = listener and functools.partial(
                _count, listener, record, stage.rounds(clean.logits.shape[-1])
            )
            stage.run(clean, record, epsilon, seed, hear)
            record.update(found)
            robust = record.robust
        return AttackResult(clean.correct, robust, found)


class SteppedAttack(Attack):
    """One attack: rounds of steps from a start.

    A subclass has `start` and `step`, and perhaps `rounds`; they work on a
    batch, as two dicts of tensors with the batch as first axis: the problem,
    which a round leaves as it is (`images`, `labels`, `targets` and what
    `start` adds), and the state, which holds at least

    * `iteration`: int32, counts the steps of the round from 0; unless `step`
      returns it, the loop adds one,
    * `fooled`: bool, whether `found` is misclassified,
    * `found`: float32, the adversarial image to be reported,
    * `loss`: float32, of `found`.

    Random numbers depend on seed, attack, example and round alone: neither the
    batch size nor an interruption changes them.

    Attributes:
        name: Of the kind of attack; a key of its random numbers.
        steps: Steps of a round.
        stride: Steps between two looks at who has fallen.
        white_box: Whether it uses the gradients of the attacked network.
        stops: Whether a round ends as soon as the example falls.
    """

    name = "attack"
    steps: int
    stride = 10
    white_box = True
    stops = True

    def __init__(self, network, **kwargs):
        super().__init__(network, **kwargs)
        self._advance = {}  # By the size of the batch, if that is fixed.

    def stages(self):
        """The attack itself."""
        return [self]

    def place(self, delta, images, epsilon):
        """The images moved by the point of C that is nearest to `delta`."""
        delta = self.norm.project(delta, images, epsilon)
        # The sum may round beyond a bound.
        return tf.clip_by_value(images + delta, 0.0, 1.0)

    def rounds(self, classes):
        """How many rounds an example has, at most."""
        del classes
        return 1

    @abc.abstractmethod
    def start(
        self, images, labels, targets, epsilon, generators
    ) -> tuple[dict, dict]:
        """The beginning of a round for a batch.

        Args:
            images: float32 array `(batch, height, width, channels)`.
            labels: int32 array `(batch,)`.
            targets: int32 array `(batch,)`, the likeliest wrong class in the
                first round, the next in the second.
            epsilon: Float.
            generators: One `np.random.Generator` per image.

        Returns:
            Two dicts, what the attack adds to the problem and to the state.
        """

    @abc.abstractmethod
    def step(self, problem, state, epsilon) -> dict:
        """One step: takes and returns the state; `epsilon` is a scalar."""

    def ask(self, loss, problem, point, samples=1):
        """The `losses.Answer` of the network to a batch of points."""
        answer = losses.ask(
            self.network,
            loss,
            point,
            problem["labels"],
            problem["targets"],
            samples,
        )
        if not self.stops:
            answer = answer._replace(correct=tf.ones_like(answer.correct))
        return answer

    def run(self, clean, record, epsilon, seed=0, listener=None):
        """Attacks what stands in `record`, and keeps it up to date.

        Args:
            clean: A `Clean`.
            record: A `Record`; one that was cut short is continued.
            epsilon: Float.
            seed: Integer.
            listener: Called without arguments after every few steps, when the
                record is up to date.
        """
        rounds = self.rounds(clean.logits.shape[-1])
        waiting = collections.deque(
            (example, record.rounds[example])
            for example in np.flatnonzero(
                record.robust & (record.rounds < rounds)
            )
        )
        size = min(self.batch_size, len(clean.images))
        order = _wrong_classes(clean)
        slots, tensors = [], None
        while waiting or slots:
            fresh = [
                waiting.popleft()
                for _ in range(min(size - len(slots), len(waiting)))
            ]
            if fresh:
                started = self._start(clean, order, fresh, epsilon, seed)
                tensors = _join(tensors, started) if slots else started
                slots += fresh
            with refuse_too_large(self.batch_size):
                state = self._run_stride(tensors, len(slots), size, epsilon)
                fooled = state["fooled"].numpy()
            tensors = (tensors[0], state)
            ended = fooled | (state["iteration"].numpy() > self.steps)
            if ended.any():
                self._write_down(
                    record, clean, slots, state, ended, fooled, epsilon
                )
                again = [
                    (slots[slot][0], slots[slot][1] + 1)
                    for slot in np.flatnonzero(ended & ~fooled)
                    if slots[slot][1] + 1 < rounds
                ]
                waiting.extendleft(reversed(again))
                kept = np.flatnonzero(~ended)
                slots = [slots[slot] for slot in kept]
                tensors = _take(tensors, kept)
            if listener:
                listener()

    def _start(self, clean, order, fresh, epsilon, seed):
        examples, rounds = np.array(fresh).T
        images, labels = clean.images[examples], clean.labels[examples]
        targets = order[examples, rounds % order.shape[1]]
        name = zlib.crc32(self.name.encode())
        generators = [
            np.random.default_rng([seed, name, example, number])
            for example, number in fresh
        ]
        return self.begin(images, labels, targets, epsilon, generators)

    def begin(self, images, labels, targets, epsilon, generators):
        """The problem and the state of a batch, whole; arguments of `start`."""
        problem, state = self.start(
            images, labels, targets, np.float32(epsilon), generators
        )
        problem = {
            "images": images,
            "labels": labels,
            "targets": targets,
            **problem,
        }
        state = {
            "iteration": np.zeros(len(images), np.int32),
            "fooled": np.zeros(len(images), bool),
            "found": images,
            "loss": np.full(len(images), -np.inf, np.float32),
            **state,
        }
        return tf.nest.map_structure(tf.convert_to_tensor, (problem, state))

    def _run_stride(self, tensors, count, size, epsilon):
        padded = self.jit_compile and count < size
        if padded:  # With an example that counts as decided.
            tensors = _take(tensors, np.resize(np.arange(count), size))
            decided = tf.range(size) >= count
            tensors[1]["fooled"] |= decided
        key = size if self.jit_compile else None
        if key not in self._advance:
            self._advance[key] = self._compile(tensors)
        state = self._advance[key](*tensors, tf.constant(epsilon, tf.float32))
        if padded:
            state = {name: value[:count] for name, value in state.items()}
        return state

    def _compile(self, tensors):
        def spec(tensor):
            batch = tensor.shape[0] if self.jit_compile else None
            return tf.TensorSpec([batch, *tensor.shape[1:]], tensor.dtype)

        signature = (*tf.nest.map_structure(spec, tensors),)
        return tf.function(
            functools.partial(self.advance),
            (*signature, tf.TensorSpec([], tf.float32)),
            autograph=False,
            jit_compile=self.jit_compile,
        )

    def advance(self, problem, state, epsilon):
        """Takes `stride` steps with every example that is not decided.

        A pure function of its arguments and the weights of the network.
        """

        def is_open(state):
            return ~state["fooled"] & (state["iteration"] <= self.steps)

        def body(number, state):
            moves = is_open(state)
            # Of an example that is decided, anything within range.
            iteration = tf.minimum(state["iteration"], self.steps)
            moved = self.step(
                problem, {**state, "iteration": iteration}, epsilon
            )
            moved.setdefault("iteration", iteration + 1)

            def choose(new, old):
                shape = [-1] + [1] * (len(new.shape) - 1)
                return tf.where(tf.reshape(moves, shape), new, old)

            return number + 1, {
                name: choose(moved[name], state[name]) for name in state
            }

        _, state = tf.while_loop(
            lambda number, state: (
                (number < self.stride) & tf.reduce_any(is_open(state))
            ),
            body,
            (tf.constant(0), state),
        )
        return state

    def _write_down(self, record, clean, slots, state, ended, fooled, epsilon):
        ended = np.flatnonzero(ended)
        examples = np.array([slots[slot][0] for slot in ended])
        found = tf.gather(state["found"], ended).numpy()
        loss = tf.gather(state["loss"], ended).numpy()
        delta = found - clean.images[examples]
        self._check(found, delta, epsilon)
        fooled = fooled[ended]
        worse = fooled | (loss > record.loss[examples])
        if record.perturbation is not None:
            record.perturbation[examples[worse]] = delta[worse]
        record.loss[examples] = np.maximum(loss, record.loss[examples])
        record.robust[examples] = ~fooled
        record.rounds[examples] += 1

    def _check(self, found, delta, epsilon):
        largest = self.norm.size(delta).numpy().max()
        if not (
            largest <= epsilon * (1 + RELATIVE_ROUNDING) + ROUNDING
            and found.min() >= 0
            and found.max() <= 1
        ):
            # Not an InputError: the attack is wrong, not its user.
            raise AssertionError(
                f"The attack {self.name} left its ball or the pixels; expected "
                f"a perturbation of at most {epsilon} and pixels in [0, 1]. "
                f"Received: {self.norm.name}={largest}, "
                f"pixels=[{found.min()}, {found.max()}]"
            )


def _count(listener, record, rounds):
    decided = ~record.robust | (record.rounds >= rounds)
    listener(int(decided.sum()), len(decided))


def _wrong_classes(clean):
    """Per example the classes but the label, from the likeliest down."""
    order = np.argsort(-np.nan_to_num(clean.logits), axis=-1, kind="stable")
    rest = order != clean.labels[:, np.newaxis]
    return order[rest].reshape(len(order), -1).astype(np.int32)


def _join(first, second):
    return tf.nest.map_structure(
        lambda *parts: tf.concat(parts, axis=0), first, second
    )


def _take(tensors, slots):
    return tf.nest.map_structure(
        lambda tensor: tf.gather(tensor, slots), tensors
    )
