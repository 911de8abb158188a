"""What was measured at each radius, all attacks together."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastbat_tf.attacks.ensembles import LEAST_EXAMPLES, is_ensemble
from fastbat_tf.attacks.registry import DEFAULT_EPSILON
from fastbat_tf.experiment.report.numbers import (
    confidence_interval,
    is_same_radius,
)
from fastbat_tf.experiment.report.record import RunRecord

# With fewer, the interval is more than six points wide at 50 %.
FEW_EXAMPLES = 1000
# Of what tells two radii apart; results round nothing.
DIGITS = 9


class Measurement(NamedTuple):
    """What is left at one radius when all attacks have tried the same examples.

    Attributes:
        norm: String.
        epsilon: Float, the radius.
        examples: Integer, how many.
        attacks: Tuple of names, in the order in which they were run.
        robust_accuracy: Float, the share that no attack breaks.
        interval: Pair of floats, its 95 % interval.
        clean_accuracy: Float, the share of the same examples that is classified
            correctly; None if it is not known.
        clean_interval: Pair of floats, its 95 % interval, or None.
        rows: List of dicts, those entries of `attacks` in the results.
        robust: bool array `(examples,)` in the order of their places in the
            test split; None if the arrays are not there.
    """

    norm: str
    epsilon: float
    examples: int
    attacks: tuple[str, ...]
    robust_accuracy: float
    interval: Sequence[float]
    clean_accuracy: float | None
    clean_interval: Sequence[float] | None
    rows: list
    robust: np.ndarray | None = None

    @property
    def is_ensemble(self) -> bool:
        """Whether it is AutoAttack, or as diverse as that."""
        return is_ensemble(self.attacks)

    @property
    def signature(self) -> tuple:
        """What two measurements have in common that may be averaged."""
        epsilon = round(self.epsilon, DIGITS)
        names = tuple(sorted(self.attacks))
        return self.norm, epsilon, self.examples, names


def at_each_radius(record: RunRecord) -> list[Measurement]:
    """Returns a `Measurement` for each radius and set of examples.

    Results of different examples are never joined.

    Args:
        record: A `RunRecord`.
    """
    groups = {}
    for row in record.results.get("attacks", []):
        examples, robust, correct = _outcome(record, row)
        key = (row["norm"], round(row["epsilon"], DIGITS), examples)
        groups.setdefault(key, []).append((row, robust, correct))
    made = [_join(record, group) for group in groups.values()]
    return sorted(made, key=lambda m: (m.norm, m.epsilon, -m.examples))


def examples_of(record: RunRecord, row: dict[str, Any]) -> tuple:
    """Returns what two rows of a run have in common on the same examples.

    Args:
        record: A `RunRecord`.
        row: Dict, an entry of `attacks` in the results.
    """
    return _outcome(record, row)[0]


def _outcome(record, row):
    """Returns what names the examples, and which are robust, and correct."""
    outcomes = record.outcomes(row)
    robust = outcomes and outcomes.robust_under(row)
    if robust is None:
        return (row["examples"], row["seed"]), None, None
    examples = outcomes.index.tobytes(), outcomes.label.tobytes()
    return examples, robust, outcomes.clean_correct


def _join(record, group):
    rows = [row for row, _, _ in group]
    first = rows[0]
    together = first
    arrays = [robust for _, robust, _ in group if robust is not None]
    clean, clean_interval, robust = None, None, None
    attacks = tuple(dict.fromkeys(row["attack"] for row in rows))
    if arrays:
        robust = np.all(arrays, axis=0)
        clean, clean_interval = _share(group[0][2])
        accuracy, interval = _share(robust)
        if len(rows) == 1:
            interval = first["confidence_interval"]
    else:
        together = _weakest(record, rows)
        attacks = tuple(together.get("attacks", [together["attack"]]))
        accuracy = together["robust_accuracy"]
        interval = together["confidence_interval"]
        if _same_examples(record.results, first):
            clean = record.results["clean_accuracy"]
            clean_interval = record.results["clean_confidence_interval"]
    return Measurement(
        norm=first["norm"],
        epsilon=first["epsilon"],
        examples=first["examples"],
        attacks=attacks,
        robust_accuracy=accuracy,
        interval=interval,
        clean_accuracy=clean,
        clean_interval=clean_interval,
        rows=rows,
        robust=robust,
    )


def _share(outcomes):
    count = int(outcomes.sum())
    interval = confidence_interval(count, len(outcomes))
    return count / len(outcomes), interval


def _same_examples(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one.get(k) == other.get(k) for k in ("examples", "seed"))


def _weakest(record, rows):
    """The lowest result of these examples, if the arrays are not there."""
    radius = rows[0]["norm"], rows[0]["epsilon"]
    joint = [
        row
        for row in record.results["worst_case"]
        if is_same_radius(row["norm"], row["epsilon"], *radius)
        and _same_examples(row, rows[0])
    ]
    return min([*joint, *rows], key=lambda row: row["robust_accuracy"])


def training_radius(record: RunRecord) -> tuple[str, float] | None:
    """Returns norm and radius of the training attack; None without one."""
    options = record.config["method"]["options"] if record.config else {}
    epsilon = options.get("epsilon")
    return (options.get("norm", "linf"), epsilon) if epsilon else None


def only(unit: list[RunRecord]) -> list[RunRecord]:
    """Returns the seeds that have results; all of them if none has.

    Args:
        unit: List of one `RunRecord`, or of those of a group.
    """
    return [record for record in unit if record.results] or unit


def quoted(records: list[RunRecord]) -> list[Measurement]:
    """Returns what to quote of a run, or of the same run with several seeds.

    That is the radius of the training, or the usual one of the norm; there, an
    ensemble on at least 100 examples, or else what has the most examples.

    Args:
        records: List of one `RunRecord`, or of those of a group.

    Returns:
        A `Measurement` for each record, of the same radius, attacks and number
        of examples; `[]` if there is none.
    """
    each = [
        {m.signature: m for m in at_each_radius(record)} for record in records
    ]
    common = [
        m for m in each[0].values() if all(m.signature in ms for ms in each)
    ]
    if not common:
        return []
    wanted = training_radius(records[0])
    best = max(common, key=lambda m: _preference(m, wanted))
    return [ms[best.signature] for ms in each]


def _preference(measured, wanted):
    norm, epsilon = wanted or (measured.norm, DEFAULT_EPSILON[measured.norm])
    distance = abs(measured.epsilon - epsilon)
    is_solid = measured.is_ensemble and measured.examples >= LEAST_EXAMPLES
    return (
        measured.norm == norm,
        -round(distance, DIGITS),
        is_solid,
        measured.examples,
        measured.is_ensemble,
        len(measured.attacks),
    )
