"""The settings of devices, compilation and checkpoints.

This module does not import TensorFlow, so a wrong setting is rejected at once.
"""

import dataclasses
import math

from fastbat_tf.errors import InputError, at_least, one_of

STRATEGIES = ("auto", "none", "mirrored", "multiworker", "tpu")
JIT_COMPILE = ("auto", "true", "false")
RESUME = ("auto", "never", "must")


def parse_interval(text):
    """Parses `"500"` or `"15min"` as a number of steps and of seconds.

    Args:
        text: String, steps or minutes.

    Returns:
        The numbers of steps and seconds. The one not given is infinite.

    Raises:
        InputError: If `text` is neither, or not above zero.
    """
    number, minutes, rest = text.partition("min")
    try:
        count = float(number) if minutes else int(number)
    except ValueError:
        count = 0
    if rest or not 0 < count < math.inf:
        raise InputError(
            "`save_every` is expected to be a number of steps such as 500, or "
            f"of minutes such as 15min. Received: save_every={text}"
        )
    return (math.inf, 60 * count) if minutes else (count, math.inf)


def parse_timeout(text):
    """Parses `"300"`, seconds, or `"5min"` as a number of seconds.

    Args:
        text: String.

    Returns:
        A float.

    Raises:
        InputError: If `text` is neither, or not in [1 second, 1 day].
    """
    number, minutes, rest = text.partition("min")
    try:
        seconds = float(number) * (60 if minutes else 1)
    except ValueError:
        seconds = 0.0
    if rest or not 1 <= seconds <= 86400:
        raise InputError(
            "`collective_timeout` is expected to be a number of seconds such "
            "as 300, or of minutes such as 5min, in [1 second, 1 day]. "
            f"Received: collective_timeout={text}"
        )
    return seconds


def parse_profile(text):
    """Parses `"11,20"` as the first and the last step of a profile.

    Args:
        text: String.

    Returns:
        Two integers.

    Raises:
        InputError: If `text` is not two integers, or not 1 <= START <= END.
    """
    try:
        first, last = map(int, text.split(","))
    except ValueError:
        first, last = 0, 0
    if not 1 <= first <= last:
        raise InputError(
            "`profile` is expected to be START,END, two steps with 1 <= START "
            f"<= END, such as 11,20. Received: profile={text}"
        )
    return first, last


@dataclasses.dataclass(frozen=True)
class RuntimeConfig:
    """The settings of devices, compilation and checkpoints.

    Attributes:
        strategy: `"auto"`, `"none"`, `"mirrored"`, `"multiworker"` or `"tpu"`.
            Defaults to `"auto"`.
        jit_compile: `"auto"`, `"true"` or `"false"`. Defaults to `"auto"`.
        deterministic: Boolean, whether the same command gives the same bits.
            Defaults to `False`.
        save_every: Interval of checkpoints within an epoch: steps such as
            `"500"`, or minutes such as `"15min"`. A run may resume with
            another value. Defaults to `"15min"`.
        collective_timeout: Time after which a worker that does not answer is
            lost: seconds such as `"300"`, or minutes such as `"5min"`. A run
            may resume with another value. Defaults to `"5min"`.
        steps_per_execution: Integer, the most steps in a call of TensorFlow. A
            run may resume with another value: the steps are the same. Defaults
            to `1`.
        profile: The steps of which a profile is recorded, the first and the
            last, such as `"11,20"`, counted from 1. A run may resume with
            another value. Defaults to `None`.
    """

    strategy: str = "auto"
    jit_compile: str = "auto"
    deterministic: bool = False
    save_every: str = dataclasses.field(default="15min", compare=False)
    collective_timeout: str = dataclasses.field(default="5min", compare=False)
    steps_per_execution: int = dataclasses.field(default=1, compare=False)
    profile: str | None = dataclasses.field(default=None, compare=False)

    def __post_init__(self):
        one_of(self, "strategy", STRATEGIES)
        one_of(self, "jit_compile", JIT_COMPILE)
        parse_interval(self.save_every)
        parse_timeout(self.collective_timeout)
        at_least(self, "steps_per_execution", 1)
        if self.profile is not None:
            parse_profile(self.profile)

    @property
    def compiles(self):
        """`jit_compile` as Keras takes it: True, False or `"auto"`."""
        return {"true": True, "false": False}.get(self.jit_compile, "auto")
