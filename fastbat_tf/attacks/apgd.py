"""APGD: PGD with an adaptive step size."""

from typing import Unpack

import numpy as np
import tensorflow as tf

from fastbat_tf.attacks.base import Settings
from fastbat_tf.attacks.inputs import check_positive
from fastbat_tf.attacks.norms import per_image
from fastbat_tf.attacks.targetable import TargetableAttack
from fastbat_tf.errors import InputError

MOMENTUM = 0.75
RISES = 0.75  # The share of steps that must raise the loss.


class APGD(TargetableAttack):
    """Projected gradient ascent with momentum and an adaptive step size.

    ```
    y_{k+1} = P_C(x_k + eta_k * direction(d L(x_k)))
    x_{k+1} = P_C(x_k + a (y_{k+1} - x_k) + (1 - a) (x_k - x_{k-1}))
    ```

    where a = 0.75 (1 in the first step) and eta_0 = 2 epsilon. At checkpoints,
    which become more frequent, eta is halved and the search restarts from the
    best point so far, if at most three quarters of the steps since the last
    checkpoint raised the loss, or if neither eta nor the best loss has changed
    since then. ("At most" follows the authors' program; the paper says
    "fewer".)

    Reference: Croce & Hein, ICML 2020 (arXiv 2003.01690), algorithm 1.

    Args:
        epsilon: Float, the radius. Defaults to None, 8/255 for L-infinity and
            128/255 for L2.
        steps: Integer of at least 1. Defaults to 100.
        restarts: Integer of at least 1. Defaults to 1.
        loss: `"ce"`, `"margin"` or `"dlr"`. Defaults to `"ce"`.
        samples: Integer of at least 1, the number of evaluations of a random
            network that are averaged for each gradient. Defaults to 1.
        target: Integer, the class that the model shall predict; see
            `TargetableAttack`. Defaults to None, any wrong class.
        **settings: `norm`, `batch_size`, `seed` and `jit_compile` of `Attack`.

    Example:

    >>> attack = fb.attacks.APGD(8 / 255, steps=20)
    >>> attack(model, images, labels).images.shape == images.shape
    True
    """

    name = "apgd"

    def __init__(
        self,
        epsilon: float | None = None,
        steps: int = 100,
        restarts: int = 1,
        *,
        loss: str = "ce",
        samples: int = 1,
        target: int | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__(epsilon, **settings)
        check_positive(steps=steps, restarts=restarts, samples=samples)
        self.name = f"apgd-{loss}"
        self.choose(loss, target)
        self.steps = steps
        self.restarts = restarts
        self.samples = samples
        self._windows = checkpoint_windows(steps)

    def rounds(self, classes):
        """The number of restarts."""
        return self.restarts

    def start(self, images, labels, targets, epsilon, generators):
        """Starts from a random point on the sphere of radius epsilon."""
        shape = images.shape[1:]
        delta = np.stack([self.norm.on_sphere(g, shape) for g in generators])
        point = self.project(epsilon * delta, images, epsilon)
        count = len(images)
        return {}, {
            "point": point,
            "previous": point,
            "best_gradient": np.zeros_like(images),
            "last_loss": np.zeros(count, np.float32),
            "rises": np.zeros(count, np.int32),
            "step_size": np.full(count, 2 * epsilon, np.float32),
            "checked_loss": np.zeros(count, np.float32),
            "halved": np.ones(count, bool),
        }

    def step(self, network, problem, state, epsilon):
        """Evaluates the point, keeps the best, adapts eta, and moves."""
        images, point = problem["images"], state["point"]
        answer = self.ask(
            network, self.loss, problem, point, samples=self.samples
        )
        fooled = ~answer.correct
        first = state["iteration"] == 0

        better = fooled | first | (answer.loss > state["loss"])
        best = tf.where(per_image(better), point, state["found"])
        best_gradient = tf.where(
            per_image(better), answer.gradient, state["best_gradient"]
        )
        best_loss = tf.where(better, answer.loss, state["loss"])
        prediction = {
            name: tf.where(better, new, state[name])
            for name, new in answer.prediction.items()
        }

        rose = ~first & (answer.loss > state["last_loss"])
        rises = state["rises"] + tf.cast(rose, tf.int32)
        checked_loss = tf.where(first, best_loss, state["checked_loss"])
        window = tf.gather(self._windows, state["iteration"])
        checks = window > 0
        window = tf.cast(window, tf.float32)
        oscillates = tf.cast(rises, tf.float32) <= RISES * window
        stalls = ~state["halved"] & (checked_loss >= best_loss)
        halves = checks & (oscillates | stalls)

        step_size = tf.where(halves, 0.5, 1.0) * state["step_size"]
        point = tf.where(per_image(halves), best, point)
        gradient = tf.where(per_image(halves), best_gradient, answer.gradient)
        ascent = per_image(step_size) * self.norm.direction(gradient)
        stepped = self.project(point + ascent - images, images, epsilon)
        share = per_image(tf.where(first, 1.0, MOMENTUM))
        moved = point + share * (stepped - point)
        moved += (1 - share) * (point - state["previous"])
        return {
            "fooled": fooled,
            "found": best,
            "loss": best_loss,
            **prediction,
            "point": self.project(moved - images, images, epsilon),
            "previous": point,
            "best_gradient": best_gradient,
            "last_loss": answer.loss,
            "rises": tf.where(checks, 0, rises),
            "step_size": step_size,
            "checked_loss": tf.where(checks, best_loss, checked_loss),
            "halved": tf.where(checks, halves, state["halved"]),
        }


class APGDTargeted(APGD):
    """APGD on the targeted DLR loss, for one target class after another.

    Each round raises the logit of one wrong class, from the likeliest down.
    With a target, there is one round, toward that class.

    Reference: Croce & Hein, ICML 2020 (arXiv 2003.01690), section 4.

    Args:
        epsilon: Float, the radius. Defaults to None, 8/255 for L-infinity and
            128/255 for L2.
        steps: Integer of at least 1. Defaults to 100.
        target_classes: Integer of at least 1, the number of target classes;
            at most all wrong classes are tried. Defaults to None: 9, or the
            target alone.
        target: Integer, the class that the model shall predict; see
            `TargetableAttack`. Defaults to None, any wrong class.
        **settings: `norm`, `batch_size`, `seed` and `jit_compile` of `Attack`.

    Raises:
        InputError: If an argument is invalid, or if both a number of target
            classes and a target are given.

    Example:

    >>> attack = fb.attacks.APGDTargeted(norm="l2", target_classes=3)
    >>> round(attack.epsilon * 255, 3)
    128.0
    """

    def __init__(
        self,
        epsilon: float | None = None,
        steps: int = 100,
        target_classes: int | None = None,
        *,
        target: int | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__(
            epsilon, steps, loss="targeted_dlr", target=target, **settings
        )
        self.name = "apgd-t"
        self._is_limited = target_classes is not None
        self.target_classes = 9 if target_classes is None else target_classes
        check_positive(target_classes=self.target_classes)
        if target is not None:
            self._refuse_limit()

    def toward_each(self):
        """Returns this attack for calls that give the targets."""
        self._refuse_limit()
        return super().toward_each()

    def rounds(self, classes):
        """The number of target classes, at most all wrong ones."""
        return 1 if self.is_targeted else min(self.target_classes, classes - 1)

    def _refuse_limit(self):
        if self._is_limited:
            raise InputError(
                "`target_classes` is expected for an attack without a target. "
                f"Received: target_classes={self.target_classes}"
            )


def checkpoint_windows(steps):
    """The steps at which eta is adapted.

    The first checkpoint is after 22 % of the steps. Each following interval is
    shorter by 3 % of the steps, down to 6 %, as published.

    Args:
        steps: Integer.

    Returns:
        int32 array `(steps + 1,)`: at a checkpoint the number of steps since
        the previous one, and 0 elsewhere.

    Example:

    >>> np.flatnonzero(checkpoint_windows(100))
    array([22, 41, 57, 70, 80, 87, 93, 99])
    """
    window = max(int(0.22 * steps), 1)
    shrink, smallest = max(int(0.03 * steps), 1), max(int(0.06 * steps), 1)
    windows = np.zeros(steps + 1, np.int32)
    number = window
    while number <= steps:
        windows[number] = window
        window = max(window - shrink, smallest)
        number += window
    return windows
