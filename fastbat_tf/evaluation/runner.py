"""Runs one attack of an evaluation, keeps its state, says how far it is."""

import time
from typing import NamedTuple

import numpy as np

from fastbat_tf.evaluation.table import radius

SECONDS_BETWEEN_LINES = 10.0


class AttackOutcome(NamedTuple):
    """What one attack left at one radius.

    Attributes:
        name: Of the attack.
        white_box: Whether it uses gradients of the model.
        robust: bool array `(examples,)`.
        seconds: Float.
        stages: For an ensemble the `AttackOutcome`s of its parts, in order.
        perturbation: float32 array like the images; None once it is saved.
    """

    name: str
    white_box: bool
    robust: np.ndarray
    seconds: float
    stages: tuple = ()
    perturbation: np.ndarray | None = None


def run_attack(name, attack, clean, epsilon, seed, state, shown):
    """Runs the stages of one attack, each on what the others left.

    Args:
        name: Of the attack.
        attack: The `Attack`.
        clean: A `Clean`.
        epsilon: Float.
        seed: Integer.
        state: The `EvaluationState`, which keeps what each stage has found.
        shown: The `Display`.

    Returns:
        An `AttackOutcome`; with perturbations if the state keeps them.
    """
    standing, stages = clean.correct, []
    found = np.zeros_like(clean.images) if state.keeps_perturbations else None
    for number, stage in enumerate(attack.stages()):
        with shown.task(stage.title, detail="compiling ...") as task:
            progress = _Progress(
                f"{name}-{epsilon:.8g}-{number}",
                stage,
                clean,
                epsilon,
                state,
                shown,
                task,
            )
            record = progress.open(standing)
            stage.run(clean, record, epsilon, seed, progress.report)
            seconds = progress.close()
        if found is not None:
            record.update(found)
        standing = record.robust
        stages.append(
            AttackOutcome(
                stage.title or stage.name, stage.white_box, standing, seconds
            )
        )
    return AttackOutcome(
        name,
        any(stage.white_box for stage in stages),
        standing,
        sum(stage.seconds for stage in stages),
        tuple(stages) if len(stages) > 1 else (),
        found,
    )


class _Progress:
    """Keeps the record of a running attack on disk, and says how far it is."""

    def __init__(self, key, stage, clean, epsilon, state, shown, task):
        self._key, self._stage, self._clean = key, stage, clean
        self._epsilon, self._state = epsilon, state
        self._shown, self._task = shown, task

    def open(self, standing):
        self._moved = False
        self._start = self._said = time.perf_counter()
        self._record, self._before = self._state.open(
            self._key, standing, self._clean.images
        )
        self._total = int(standing.sum())
        return self._record

    def _seconds(self):
        return self._before + time.perf_counter() - self._start

    def report(self):
        self._moved = True
        self._state.save(self._key, self._record, self._seconds(), now=False)
        now = time.perf_counter()
        if self._task.is_live:
            self._show()
        elif now - self._said > SECONDS_BETWEEN_LINES:
            self._said = now
            self._shown.say(self._line(self._seconds()), verbosity=1)

    def _decided(self):
        """How many examples are decided; those half done count as half."""
        classes = self._clean.logits.shape[-1]
        rounds = self._stage.rounds(classes)
        standing = self._record.robust
        done = self._record.rounds[standing].sum() / rounds
        return self._total - standing.sum() + done

    def _show(self):
        decided = float(self._decided())
        self._task.update(
            decided,
            self._total,
            count=f"{decided:.0f}/{self._total}",
            detail=f"{self._record.robust.sum()} standing",
        )

    def _line(self, seconds):
        norm = self._stage.norm.name
        epsilon = radius({"epsilon": self._epsilon, "norm": norm})
        return (
            f"{self._stage.title}, epsilon {epsilon}: "
            f"{self._decided():.0f} of {self._total} decided, "
            f"{self._record.robust.sum()} standing, {seconds:.0f} s"
        )

    def close(self):
        seconds = self._before
        if self._moved:  # Else it had ended before, or nothing was standing.
            seconds = self._seconds()
            self._state.save(self._key, self._record, seconds)
        self._shown.say(self._line(seconds))
        return seconds
