"""Commands that measure what a report lacks."""

import shlex
from collections.abc import Sequence

from fastbat_tf.experiment.differences import fraction
from fastbat_tf.experiment.report.measured import (
    FEW_EXAMPLES,
    Measurement,
    training_radius,
)
from fastbat_tf.experiment.report.record import RunRecord

# By norm: the smallest radius of a sweep, in which each is twice the last.
SMALLEST = {"linf": 1 / 255, "l2": 0.125}


def evaluate(
    record: RunRecord,
    attacks: Sequence[str],
    *,
    epsilons: Sequence[float] = (),
    norm: str | None = None,
    max_examples: int = 0,
) -> str:
    """Returns the command that measures a run, or a model file, once more.

    Args:
        record: A `RunRecord`.
        attacks: Names of attacks.
        epsilons: Radii. Defaults to `()`: that of the training.
        norm: String. Defaults to None: that of the training.
        max_examples: Integer. Defaults to `0`: all.
    """
    program, flags = _program(record), []
    if record.config is not None:
        flags += [f"--run_dir={record.path}"]
    elif record.run is not None:
        flags += [f"--run_dir={record.run}"]
    else:
        data = record.data or {"dataset": "NAME"}
        flags += [f"--model_path={record.results.get('model') or 'MODEL'}"]
        flags += [f"--{name}={text}" for name, text in data.items()]
    flags += [f"--attacks={','.join(attacks)}"]
    trained = training_radius(record)
    if norm is not None and norm != (trained[0] if trained else "linf"):
        flags += [f"--norm={norm}"]
    if epsilons:
        flags += [f"--epsilons={','.join(map(fraction, epsilons))}"]
    if max_examples:
        flags += [f"--max_examples={max_examples}"]
    return shlex.join([*program, "--mode=evaluate", *flags])


def measure_better(
    unit: list[RunRecord], found: list[Measurement]
) -> str | None:
    """Returns the commands that give what papers report; None if it is there.

    Args:
        unit: List of one `RunRecord`, or of those of several seeds.
        found: The `Measurement`s to quote, one for each, or `[]`.
    """
    if not all(record.results for record in unit):
        return None
    if found and found[0].is_ensemble:
        is_all = unit[0].results.get("subset") is None
        if is_all or found[0].examples >= FEW_EXAMPLES:
            return None
    return "\n".join(evaluate(record, ["autoattack"]) for record in unit)


def sweep(
    record: RunRecord, attacks: Sequence[str], norm: str, largest: float
) -> str:
    """Returns the command that measures many radii, out to large ones.

    Args:
        record: A `RunRecord`.
        attacks: Names of attacks.
        norm: String.
        largest: Float, the radius that has to be reached.
    """
    epsilons = [SMALLEST[norm]]
    while epsilons[-1] < largest * (1 - 1e-6):
        epsilons.append(2 * epsilons[-1])
    return evaluate(record, attacks, epsilons=epsilons, norm=norm)


def _program(record):
    """How the user calls the program."""
    words = shlex.split((record.config or {}).get("command") or "")
    before = [w for w in words[:2] if not w.startswith("-")]
    return before or ["python", "main.py"]
