"""Runs one attack of an evaluation, saves its state, reports progress."""

import time
from typing import NamedTuple

import numpy as np

from fastbat_tf.attacks import targets
from fastbat_tf.attacks.records import Prediction
from fastbat_tf.evaluation.table import radius

SECONDS_BETWEEN_LINES = 10.0


class Reached(NamedTuple):
    """What an attack toward a class attains.

    Attributes:
        target: Integer, the class.
        attacked: bool array `(examples,)`, the correctly classified examples of
            other classes.
        success: bool array `(examples,)`, for which of them the model predicts
            the target.
    """

    target: int
    attacked: np.ndarray
    success: np.ndarray


class AttackOutcome(NamedTuple):
    """The outcome of one attack at one radius.

    Attributes:
        name: Name of the attack.
        white_box: Whether it uses gradients of the model.
        robust: bool array `(examples,)`, still classified correctly.
        seconds: Float, the running time.
        stages: For an ensemble, the `AttackOutcome`s of its parts in order.
        perturbation: float32 array like the images, or None.
        prediction: The `Prediction` of the adversarial images, or None.
        reached: What an attack toward a class attains, a `Reached`; None for
            other attacks.
    """

    name: str
    white_box: bool
    robust: np.ndarray
    seconds: float
    stages: tuple = ()
    perturbation: np.ndarray | None = None
    prediction: Prediction | None = None
    reached: Reached | None = None

    @property
    def resists(self):
        """bool array `(examples,)`, where the attack has not its way."""
        return self.robust if self.reached is None else ~self.reached.success


def run_attack(name, attack, clean, epsilon, *, seed, state, shown):
    """Runs the stages of an attack, each on what the previous ones left.

    Args:
        name: Name of the attack.
        attack: The `Attack`.
        clean: A `Clean`.
        epsilon: Float, the radius.
        seed: Integer.
        state: The `EvaluationState`, which saves the record of each stage.
        shown: The `Display`.

    Returns:
        An `AttackOutcome`, with perturbations if the state keeps them.
    """
    robust, stages, reached = clean.correct, [], None
    prediction = clean.prediction
    found = prediction._asdict()
    if state.keeps_perturbations:
        found["perturbation"] = np.zeros_like(clean.images)
    for number, stage in enumerate(attack.stages()):
        start = targets.attacked(stage.attack, clean, robust)
        record, seconds = run_stage(
            f"{name}-{epsilon:.8g}-{number}",
            stage,
            clean,
            epsilon,
            robust=start,
            seed=seed,
            state=state,
            shown=shown,
        )
        record.update(**found)
        robust = targets.left(stage.attack, clean, robust, record)
        if stage.attack.is_targeted:
            success = start & ~record.robust
            reached = Reached(stage.attack.target, start, success)
        stages.append(
            AttackOutcome(
                stage.title or stage.name, stage.white_box, robust, seconds
            )
        )
    return AttackOutcome(
        name,
        white_box=any(stage.white_box for stage in stages),
        robust=robust,
        seconds=sum(stage.seconds for stage in stages),
        stages=tuple(stages) if len(stages) > 1 else (),
        perturbation=found.get("perturbation"),
        prediction=prediction,
        reached=reached,
    )


def run_stage(key, stage, clean, epsilon, *, robust, seed, state, shown):
    """Runs a single attack, or what is left of it.

    Args:
        key: String, the name of its file in the state.
        stage: The `BoundAttack`.
        clean: A `Clean`.
        epsilon: Float, the radius; infinite for an attack that has none.
        robust: bool array `(examples,)`, the examples to attack.
        seed: Integer.
        state: The `EvaluationState`, which saves its record.
        shown: The `Display`.

    Returns:
        The `Record`, and the seconds that it took.
    """
    with shown.task(stage.title, detail="compiling ...") as task:
        progress = _Progress(
            key, stage, epsilon, state=state, shown=shown, task=task
        )
        record = progress.open(clean, robust)
        stage.run(clean, record, epsilon, seed=seed, listener=progress.report)
        return record, progress.close()


class _Progress:
    """Saves the record of a running attack, and reports its progress."""

    def __init__(self, key, stage, epsilon, *, state, shown, task):
        self._key, self._stage, self._epsilon = key, stage, epsilon
        self._state, self._shown, self._task = state, shown, task
        # Of the nearest adversarial image, which has no radius.
        self._is_search = np.isinf(epsilon)

    def open(self, clean, robust):
        """Starts or resumes the record of an attack on what is robust."""
        self._moved = False
        self._start = self._said = time.perf_counter()
        self._record, self._before = self._state.open(self._key, robust, clean)
        self._rounds = self._stage.rounds(clean.logits.shape[-1])
        self._total = int(robust.sum())
        is_targeted = self._stage.attack.is_targeted
        self._left = "not at the target" if is_targeted else "robust"
        return self._record

    def report(self):
        """Called after every few steps of the attack."""
        self._moved = True
        self._state.save(self._key, self._record, self._seconds(), now=False)
        now = time.perf_counter()
        if self._task.is_live:
            self._show()
        elif now - self._said > SECONDS_BETWEEN_LINES:
            self._said = now
            self._shown.log(self._line(self._seconds()), verbosity=1)

    def close(self):
        """Saves the record; returns the seconds that the attack has taken."""
        sharding = self._state.sharding
        seconds = sharding.on_chief(self._save)
        seconds = sharding.workers.object_from_chief(seconds)
        self._shown.log(self._line(seconds))
        return seconds

    def _save(self):
        # Otherwise it had finished before, or there was nothing to attack.
        if not self._moved:
            return self._before
        seconds = self._seconds()
        self._state.save(self._key, self._record, seconds)
        return seconds

    def _seconds(self):
        return self._before + time.perf_counter() - self._start

    def _decided(self):
        """How many examples are decided; half-finished ones count as half."""
        robust = self._record.robust
        done = self._record.rounds[robust].sum() / self._rounds
        return self._total - robust.sum() + done

    def _show(self):
        decided = float(self._decided())
        self._task.update(
            decided,
            self._total,
            count=f"{decided:.0f}/{self._total}",
            detail=self._count_left(),
        )

    def _count_left(self):
        if self._is_search:
            return f"{np.isfinite(self._record.loss).sum()} found"
        return f"{self._record.robust.sum()} {self._left}"

    def _line(self, seconds):
        where = ""
        if not self._is_search:
            norm = self._stage.norm.name
            where = (
                f", epsilon {radius({'epsilon': self._epsilon, 'norm': norm})}"
            )
        return (
            f"{self._stage.title}{where}: "
            f"{self._decided():.0f} of {self._total} decided, "
            f"{self._count_left()}, {seconds:.0f} s"
        )
