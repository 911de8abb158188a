"""The interface of all attacks.

An attack is a start and a step on a batch of images, and a number of rounds
(restarts or target classes) per example. `fastbat_tf.attacks.loop` runs it over
a data set.
"""

import abc
import functools
from typing import Any

import numpy as np
import tensorflow as tf

from fastbat_tf.attacks import losses, norms
from fastbat_tf.attacks.classifier import Classifier
from fastbat_tf.attacks.inputs import as_count, check_radius
from fastbat_tf.attacks.loop import AttackLoop, Strides
from fastbat_tf.attacks.records import AttackResult, Record


class Attack(abc.ABC):
    """An attack on a data set: a single one, or an ensemble in order.

    Args:
        network: Any callable from float32 images `(batch, height, width,
            channels)` in [0, 1] to logits `(batch, classes)`.
        norm: `"linf"` or `"l2"`. Defaults to `"linf"`.
        batch_size: Integer, images per call of the network. Defaults to 250.
        jit_compile: Whether XLA compiles the loop. If so, all batches have one
            shape, and the last ones are padded; if not, the batch shrinks
            with the number of examples that are left. Defaults to False.

    Attributes:
        title: The name by which `fastbat_tf.attacks.get` built it, or None.
        classify: The `Classifier` of the network.

    Raises:
        InputError: If an argument is invalid, or the network is a
            `RobustClassifier` with a pixel range other than [0, 1].
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
        """The `SteppedAttack`s that make up the attack, in order."""

    def __call__(self, images, labels, epsilon, seed=0, listener=None):
        """Attacks a whole data set.

        Args:
            images: uint8 array, or float array in [0, 1], of shape
                `(examples, height, width, channels)`.
            labels: Integer array `(examples,)`.
            epsilon: Float, the radius, in [0, 1] for L-infinity.
            seed: Integer. Defaults to 0.
            listener: Function of two integers, called after every few steps
                with the number of decided examples and the number of all
                examples. Defaults to None.

        Returns:
            An `AttackResult`.

        Raises:
            InputError: If the images are not pixels, the labels are not
                classes, epsilon is out of range, or the network does not
                return logits.
        """
        check_radius(epsilon, self.norm)
        clean = self.classify(images, labels)
        robust, found = clean.correct, np.zeros_like(clean.images)
        for stage in self.stages():
            record = Record.start(robust, clean.images)
            hear = listener and functools.partial(
                _count, listener, record, stage.rounds(clean.logits.shape[-1])
            )
            stage.run(clean, record, epsilon, seed=seed, listener=hear)
            record.update(found)
            robust = record.robust
        return AttackResult(clean.correct, robust, found)


class SteppedAttack(Attack):
    """A single attack, which runs rounds of steps from a start.

    A subclass implements `start` and `step`, and may override `rounds`. These
    work on two dicts of tensors whose first axis is the batch: the problem,
    which is constant in a round (`images`, `labels`, `targets` and what `start`
    adds), and the state, which holds at least

    * `iteration`: int32, counts the steps of the round from 0; the loop adds
      1 unless `step` returns it,
    * `fooled`: bool, whether `found` is misclassified,
    * `found`: float32, the adversarial image to report,
    * `loss`: float32, the loss of `found`.

    Random numbers depend only on seed, attack, example and round: neither the
    batch size nor an interruption changes them.

    Args:
        network: Any callable from float32 images `(batch, height, width,
            channels)` in [0, 1] to logits `(batch, classes)`.
        **kwargs: `norm`, `batch_size` and `jit_compile` of `Attack`.

    Attributes:
        strides: The `Strides` that compile `advance`.
        name: The kind of attack, which is part of the key of its random
            numbers.
        steps: Integer, the steps of a round.
        stride: Integer, the steps after which the loop looks for decided
            examples.
        white_box: Whether the attack uses gradients of the attacked network.
        stops: Whether a round ends as soon as the example is misclassified.
    """

    name = "attack"
    steps: int
    stride = 10
    white_box = True
    stops = True

    def __init__(self, network, **kwargs):
        super().__init__(network, **kwargs)
        self.strides = Strides(self)

    def stages(self):
        """The attack itself."""
        return [self]

    def project(self, delta, images, epsilon):
        """Projects a perturbation; returns the perturbed images.

        Args:
            delta: float32 tensor, like `images`.
            images: float32 tensor `(batch, height, width, channels)`.
            epsilon: Float or scalar tensor, the radius.

        Returns:
            `images + P_C(delta)`, within the ball and the pixel range.
        """
        delta = self.norm.project(delta, images, epsilon)
        # Rounding may take the sum beyond a bound.
        return tf.clip_by_value(images + delta, 0.0, 1.0)

    def rounds(self, classes):
        """The largest number of rounds per example, given the classes."""
        del classes
        return 1

    @abc.abstractmethod
    def start(
        self, images, labels, targets, epsilon, generators
    ) -> tuple[dict, dict]:
        """Starts a round for a batch.

        Args:
            images: float32 array `(batch, height, width, channels)`.
            labels: int32 array `(batch,)`.
            targets: int32 array `(batch,)`: the likeliest wrong class in the
                first round, the second likeliest in the second, and so on.
            epsilon: Float, the radius.
            generators: One `np.random.Generator` per image.

        Returns:
            Two dicts: what the attack adds to the problem and to the state.
        """

    @abc.abstractmethod
    def step(self, problem, state, epsilon) -> dict:
        """Takes one step with a batch.

        Args:
            problem: Dict of tensors, constant in the round.
            state: Dict of tensors.
            epsilon: float32 scalar tensor, the radius.

        Returns:
            The new state, a dict with the keys of `state`; `iteration` may be
            missing.
        """

    def ask(self, loss, problem, point, samples=1):
        """Evaluates the network at a batch of points.

        Args:
            loss: A function of `fastbat_tf.attacks.losses`.
            problem: Dict of tensors with `labels` and `targets`.
            point: float32 tensor `(batch, height, width, channels)`.
            samples: Integer, the evaluations to average. Defaults to 1.

        Returns:
            A `losses.Answer`.
        """
        answer = losses.ask(
            self.network,
            loss,
            images=point,
            labels=problem["labels"],
            targets=problem["targets"],
            samples=samples,
        )
        if not self.stops:
            answer = answer._replace(correct=tf.ones_like(answer.correct))
        return answer

    def run(self, clean, record, epsilon, *, seed=0, listener=None):
        """Attacks the robust examples of a record, and updates the record.

        Args:
            clean: A `Clean`.
            record: A `Record`, new or from an interrupted run.
            epsilon: Float, the radius.
            seed: Integer. Defaults to 0.
            listener: Function without arguments, called after every few steps,
                when the record is up to date. Defaults to None.
        """
        AttackLoop(self, clean, epsilon, seed).run(record, listener)

    def begin(self, images, labels, targets, epsilon, generators):
        """The whole problem and state of a batch; takes `start`'s arguments."""
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

    def advance(self, problem, state, epsilon):
        """Takes `stride` steps with every example that is not decided.

        It is a pure function of its arguments and the weights of the network.

        Args:
            problem: Dict of tensors, constant in the round.
            state: Dict of tensors.
            epsilon: float32 scalar tensor, the radius.

        Returns:
            The new state, a dict with the keys of `state`.
        """

        def is_open(state):
            return ~state["fooled"] & (state["iteration"] <= self.steps)

        def body(number, state):
            moves = is_open(state)
            # For decided examples, any step number within range will do.
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


def _count(listener, record, rounds):
    decided = ~record.robust | (record.rounds >= rounds)
    listener(int(decided.sum()), len(decided))
