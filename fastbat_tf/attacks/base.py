"""The interface of all attacks.

An attack is a start and a step on a batch of images, and a number of rounds
(restarts or target classes) per example. `fastbat_tf.attacks.bound` puts it
together with a network, and `fastbat_tf.attacks.loop` runs it over a data set.
"""

import abc
import weakref
from typing import Any, TypedDict

import keras
import numpy as np
import tensorflow as tf

from fastbat_tf.attacks import losses, norms
from fastbat_tf.attacks.bound import BoundAttack
from fastbat_tf.attacks.inputs import as_count, as_images, check_radius
from fastbat_tf.attacks.models import as_network
from fastbat_tf.attacks.records import AdversarialExamples
from fastbat_tf.attacks.registry import DEFAULT_EPSILON
from fastbat_tf.attacks.shown import Shown
from fastbat_tf.data.examples import describe
from fastbat_tf.distribution import resolve_jit_compile
from fastbat_tf.errors import InputError
from fastbat_tf.layers.pixel_range import PixelRange


class Settings(TypedDict, total=False):
    """The settings of every attack; `Attack` describes them."""

    norm: str | float
    batch_size: int
    seed: int
    jit_compile: bool | str


class Attack(Shown, abc.ABC):
    """An attack, a function of a model, images and labels.

    It is a single attack, or an ensemble of several in order.

    Args:
        epsilon: Float, the radius. For L-infinity it is a fraction of the pixel
            range, in [0, 1]; for L2 it is that of images in [0, 1]. Defaults to
            None, 8/255 for L-infinity and 128/255 for L2.
        norm: `"linf"` or `"l2"`, in any usual spelling. Defaults to `"linf"`.
        batch_size: Integer, images per call of the model. Defaults to 250.
        seed: Integer of at least 0, the seed of the random draws. Defaults
            to 0.
        jit_compile: Whether XLA compiles the loop. If so, all batches have one
            shape, and the last ones are padded; if not, the batch shrinks
            with the number of examples that are left. A function of NumPy
            arrays is never compiled. Defaults to `"auto"`, which compiles on
            GPUs.

    Attributes:
        title: The name by which `fastbat_tf.attacks.get` built it, or None.
        white_box: Whether it uses gradients of the attacked model.

    Raises:
        InputError: If an argument is invalid.

    Example:

    ```python
    attack = fb.attacks.PGD(epsilon=8 / 255, steps=20)
    adversarial = attack(model, images, labels)
    robust_accuracy = adversarial.robust.mean()
    ```
    """

    title: str | None = None
    white_box = True

    def __init__(
        self,
        epsilon: float | None = None,
        *,
        norm: str | float = "linf",
        batch_size: int = 250,
        seed: int = 0,
        jit_compile: bool | str = "auto",
    ) -> None:
        self.norm = norms.get(norm)
        if epsilon is None:
            epsilon = DEFAULT_EPSILON[self.norm.name]
        if isinstance(epsilon, keras.Model) or np.ndim(epsilon):
            name = type(self).__name__
            raise InputError(
                f"An attack is configured first, and then called: {name}"
                "(epsilon)(model, images, labels). "
                f"Received: epsilon={describe(epsilon)}"
            )
        check_radius(epsilon, self.norm)
        self.epsilon = float(epsilon)
        self.batch_size = as_count("batch_size", batch_size)
        self.seed = as_count("seed", seed, lowest=0)
        self.jit_compile = resolve_jit_compile(jit_compile)
        self._bound = weakref.WeakKeyDictionary()

    @abc.abstractmethod
    def stages(self) -> list["SteppedAttack"]:
        """The single attacks that make up the attack, in order."""

    def __call__(
        self,
        model: Any,
        images: Any,
        labels: Any,
        *,
        pixel_range: Any = None,
    ) -> AdversarialExamples:
        """Makes adversarial images.

        A Keras model is traced in the first call, and again only if its
        weights are others or the attack is; any other callable in each call.

        Args:
            model: A `keras.Model` that returns logits, probabilities or one
                value for two classes, such as a `RobustClassifier`; or a
                callable from float32 images to logits `(batch, classes)`. To
                `Square`, it may be a function of NumPy arrays.
            images: Array or tensor `(examples, height, width, channels)` in
                `pixel_range`: floats, or uint8 gray levels, which are divided
                by 255 if the range is no wider than 2.
            labels: Integers `(examples,)` or `(examples, 1)`, or one-hot
                labels `(examples, classes)`.
            pixel_range: Pair of floats, the range of the pixels that the model
                takes, such as `(0, 255)`. Defaults to None, the range of a
                `RobustClassifier`, and `(0, 1)` for any other model.

        Returns:
            `AdversarialExamples`: `images`, `predictions` and `robust`.

        Raises:
            InputError: If an argument is not as described, or if the attack
                needs gradients that the model does not have.
        """
        shape = tuple(getattr(images, "shape", ()))[1:]
        bound, pixels = self._bind(model, pixel_range, shape)
        unit = pixels.to_unit_array(as_images(images))
        clean = bound.classify(unit, labels)
        bound.check_gradient(clean)
        result = bound.attack_clean(clean, self.epsilon, seed=self.seed)
        found = np.clip(clean.images + result.perturbation, 0.0, 1.0)
        logits = bound.classify(found, clean.labels).logits
        return AdversarialExamples(
            np.asarray(pixels.from_unit(found), np.float32),
            logits.argmax(axis=-1).astype(np.int32),
            result.robust,
        )

    def on(
        self, network: Any, pixel_range: PixelRange | None = None
    ) -> BoundAttack:
        """Binds the attack to a network, for several runs.

        Args:
            network: Any callable from float32 images `(batch, height, width,
                channels)` in [0, 1] to logits `(batch, classes)`.
            pixel_range: The `PixelRange` of the model behind the network, which
                a surrogate has, too. Defaults to None, [0, 1].

        Returns:
            A `BoundAttack`, which traces the network once.

        Raises:
            InputError: If the network is a `RobustClassifier` with a pixel
                range other than [0, 1].
        """
        del pixel_range
        return BoundAttack(self, network)

    def _bind(self, model, pixel_range, shape):
        """Returns a `BoundAttack` and the `PixelRange`, old ones if possible.

        Only Keras models are remembered: other callables may be functions of
        something else that has changed since.
        """
        if not isinstance(model, keras.Model):
            network, pixels = as_network(model, pixel_range)
            return self.on(network, pixels), pixels
        if pixel_range is not None:
            pixel_range = PixelRange.parse(pixel_range)
        key = pixel_range, shape, [id(v) for v in model.variables]
        known, *bound = self._bound.get(model, (None,))
        if known != key:
            _, pixels = as_network(model, pixel_range)
            # What is remembered must not keep the model in memory.
            weak = weakref.ref(model)
            bound = (
                self.on(
                    lambda images: as_network(weak(), pixels)[0](images), pixels
                ),
                pixels,
            )
            self._bound[model] = key, *bound
        return bound


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
    * `loss`: float32, the loss of `found`,
    * `predicted` and `confidence`: what `losses.predict` returns for `found`.
      If `step` does not renew them, the loop asks the network.

    Random numbers depend only on seed, attack, example and round: neither the
    batch size nor an interruption changes them.

    Args:
        epsilon: Float, the radius; None for the default of the norm.
        **settings: `norm`, `batch_size`, `seed` and `jit_compile` of `Attack`.

    Attributes:
        name: The kind of attack, which is part of the key of its random
            numbers.
        steps: Integer, the steps of a round.
        stride: Integer, the steps after which the loop looks for decided
            examples.
        stops: Whether a round ends as soon as the example is misclassified.
        loss_name: The loss, a key of `losses.LOSSES`, or None.

    Example:

    >>> attack: fb.attacks.SteppedAttack = fb.attacks.PGD(restarts=5)
    >>> attack.steps, attack.rounds(classes=10)
    (10, 5)
    """

    name = "attack"
    steps: int
    stride = 10
    stops = True
    loss_name: str | None = None

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

    def differentiates(self, network):
        """The network whose gradients the attack uses, or None.

        Args:
            network: Callable from images to logits, the attacked network.
        """
        return network if self.white_box else None

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
    def step(self, network, problem, state, epsilon) -> dict:
        """Takes one step with a batch.

        Args:
            network: Callable from images to logits.
            problem: Dict of tensors, constant in the round.
            state: Dict of tensors.
            epsilon: float32 scalar tensor, the radius.

        Returns:
            The new state, a dict with the keys of `state`; `iteration`, and
            `predicted` with `confidence`, may be missing.
        """

    def ask(self, network, loss, problem, point, *, samples=1):
        """Evaluates the network at a batch of points.

        Args:
            network: Callable from images to logits.
            loss: A function of `fastbat_tf.attacks.losses`.
            problem: Dict of tensors with `labels` and `targets`.
            point: float32 tensor `(batch, height, width, channels)`.
            samples: Integer, the evaluations to average. Defaults to 1.

        Returns:
            A `losses.Answer`.
        """
        answer = losses.ask(
            network,
            loss,
            images=point,
            labels=problem["labels"],
            targets=problem["targets"],
            samples=samples,
        )
        if not self.stops:
            answer = answer._replace(correct=tf.ones_like(answer.correct))
        return answer

    def begin(self, images, labels, targets, epsilon, generators):
        """The whole problem and state of a batch; takes `start`'s arguments."""
        problem, state = self.start(
            images, labels, targets, np.float32(epsilon), generators
        )
        given = {"images": images, "labels": labels, "targets": targets}
        problem = {**given, **problem}
        state = {
            "iteration": np.zeros(len(images), np.int32),
            "fooled": np.zeros(len(images), bool),
            "found": images,
            "loss": np.full(len(images), -np.inf, np.float32),
            "predicted": labels,
            "confidence": np.zeros(len(images), np.float32),
            **state,
        }
        return tf.nest.map_structure(tf.convert_to_tensor, (problem, state))

    def advance(self, network, problem, state, epsilon):
        """Takes `stride` steps with every example that is not decided.

        It is a pure function of its arguments and the weights of the network.

        Args:
            network: Callable from images to logits.
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
            current = {**state, "iteration": iteration}
            moved = self.step(network, problem, current, epsilon)
            moved.setdefault("iteration", iteration + 1)
            known = state["predicted"]
            if moved.get("predicted", known) is known:
                logits = tf.cast(network(moved["found"]), tf.float32)
                moved |= losses.predict(logits)

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
