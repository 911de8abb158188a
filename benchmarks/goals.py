"""What a Fast-BAT step takes, beside the published program and the goals."""

import statistics
from typing import NamedTuple

MILLISECONDS = {"float32": 17, "mixed_bfloat16": 9}
STEPS_OF_A_RUN = 20 * 351  # 20 epochs of 45,000 images, 128 in a step.


class Seconds(NamedTuple):
    """Wall and CPU seconds."""

    wall: float
    cpu: float


class Measured(NamedTuple):
    """The first call, `Seconds` of each later step, and the peak in GB."""

    first: float
    steps: list[Seconds]
    memory: float | None

    def median(self, clock="wall"):
        """The median of the steps, in seconds."""
        return statistics.median(getattr(step, clock) for step in self.steps)


def compare(ours, theirs):
    """Describes the ratios of two `Measured` that took turns."""
    wall, cpu = (
        statistics.median(
            getattr(a, clock) / getattr(b, clock)
            for a, b in zip(ours.steps, theirs.steps, strict=True)
        )
        for clock in Seconds._fields
    )
    memory = ""
    if ours.memory and theirs.memory:
        memory = f", {ours.memory / theirs.memory:.2f} of the memory"
    return (
        "fastbat, beside the published program's passes in PyTorch: "
        f"{wall:.2f} of the wall time, {cpu:.2f} of the CPU time{memory}"
    )


def beside(measured, precision):
    """Describes what was measured on a GPU beside the goals for an H100."""
    milliseconds = MILLISECONDS.get(precision)
    goal = f"at most {milliseconds} ms" if milliseconds else "no goal"
    return (
        f"Goals on an H100, {precision}, width 64, batch 128: fastbat takes "
        f"{goal} (measured: {1000 * measured.median():.1f}), 20 epochs of "
        "CIFAR-10 in less than 60 s of steps (in such steps: "
        f"{STEPS_OF_A_RUN * measured.median():.0f}), the first call in at most "
        f"30 s (measured: {measured.first:.1f})"
    )
