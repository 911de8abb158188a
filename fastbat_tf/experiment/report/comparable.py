"""Finds what can be compared: the same attacks on the same examples."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fastbat_tf.attacks.ensembles import is_ensemble
from fastbat_tf.experiment.report.measured import FEW_EXAMPLES
from fastbat_tf.experiment.report.numbers import is_same_radius
from fastbat_tf.experiment.report.record import RunRecord, grouped


class Measured(NamedTuple):
    """One run under one attack at one radius.

    Attributes:
        record: The `RunRecord`.
        row: Dict, the row of its results.
        examples: int array `(2, examples)`: their places in the test split, in
            this order, and their labels.
        clean: bool array `(examples,)`, which are classified correctly.
        robust: bool array `(examples,)`, which resist the attack.
    """

    record: RunRecord
    row: dict
    examples: np.ndarray
    clean: np.ndarray
    robust: np.ndarray


class Comparison:
    """Runs that were measured on the same examples at one radius.

    Args:
        measured: List of `Measured`s, at one radius and on the same examples.

    Attributes:
        norm: The norm.
        epsilon: The radius.
        examples: Integer, how many.
        records: List of the `RunRecord`s, in the order of the report.
        attacks: List of the names of all attacks.
        shared: List of the names of the attacks that all of the runs have.
    """

    def __init__(self, measured: list[Measured]):
        first = measured[0]
        self.norm = first.row["norm"]
        self.epsilon = first.row["epsilon"]
        self.examples = len(first.robust)
        self._measured: dict[tuple[str, str], Measured] = {}
        for each in measured:
            key = each.record.name, each.row["attack"]
            self._measured.setdefault(key, each)  # Other seeds of the attack.
        self.records = list(
            {m.record.name: m.record for m in measured}.values()
        )
        self.attacks = list(dict.fromkeys(m.row["attack"] for m in measured))
        self.shared = [
            attack
            for attack in self.attacks
            if all((r.name, attack) in self._measured for r in self.records)
        ]

    def row(self, record: RunRecord, attack: str) -> dict | None:
        """Returns the row of the results of a run under an attack, or None."""
        found = self._measured.get((record.name, attack))
        return found and found.row

    def clean(self, record: RunRecord) -> np.ndarray:
        """Returns which examples a run classifies correctly, a bool array."""
        return next(
            each.clean
            for (name, _), each in self._measured.items()
            if name == record.name
        )

    def worst_case(self, record: RunRecord) -> np.ndarray | None:
        """Returns which examples resist all shared attacks, or None."""
        if not self.shared:
            return None
        robust = [self._measured[record.name, a].robust for a in self.shared]
        return np.all(robust, axis=0)

    def is_about(self, other: "Comparison") -> bool:
        """Whether this one compares only runs that the other one compares."""
        names = {record.name for record in other.records}
        return (
            is_same_radius(self.norm, self.epsilon, other.norm, other.epsilon)
            and {record.name for record in self.records} <= names
        )


class Unit(NamedTuple):
    """A run, or the runs of several seeds: what a line of a table shows.

    Attributes:
        name: String.
        records: List of `RunRecord`s, one per seed.
    """

    name: str
    records: list

    @property
    def method(self) -> str | None:
        """The name of the method; None of an evaluation alone."""
        return self.records[0].method

    @property
    def is_group(self) -> bool:
        """Whether there are several seeds."""
        return len(self.records) > 1

    @property
    def training_seconds(self) -> float | None:
        """The mean seconds of a training; None if unknown."""
        each = [training_seconds(record) for record in self.records]
        known = [seconds for seconds in each if seconds is not None]
        return statistics.mean(known) if known else None


def units(records: Sequence[RunRecord]) -> list[Unit]:
    """Joins the runs of several seeds.

    Args:
        records: `RunRecord`s.

    Returns:
        A list of `Unit`s, in the order of the report.
    """
    return [Unit(*item) for item in grouped(records).items()]


def training_seconds(record: RunRecord) -> float | None:
    """Returns the seconds of a training, so far if it has not ended.

    Args:
        record: A `RunRecord`.
    """
    if record.config is None:
        return None
    if "training_seconds" in record.results:
        return record.results["training_seconds"]
    known = [s for row in record.timing if (s := row.get("seconds"))]
    return sum(known) if known else None


def dataset(record: RunRecord) -> str | None:
    """Returns the name of a run's data set; None if the files do not say."""
    if record.config is None:
        return record.data.get("dataset")
    return record.config["data"]["dataset"]


def comparisons(
    records: Sequence[RunRecord], least: int = 2
) -> list[Comparison]:
    """Returns what can be compared, the most telling one first.

    Args:
        records: `RunRecord`s.
        least: Integer, how many runs a comparison has at least. Defaults to
            `2`.

    Returns:
        A list of `Comparison`s. At a radius, there are several if runs were
        measured on different examples.
    """
    groups: list[list[Measured]] = []
    for each in (m for record in records for m in _measurements(record)):
        for group in groups:
            if _is_comparable(each, group[0]):
                group.append(each)
                break
        else:
            groups.append([each])
    every = sorted(map(Comparison, groups), key=_rank)
    kept = []
    for found in every:
        covered = any(found.is_about(before) for before in kept)
        if len(found.records) >= least and not covered:
            kept.append(found)
    return kept


def families(found: Sequence[Comparison]) -> list[list[Comparison]]:
    """Groups comparisons of the same runs, at several radii.

    Args:
        found: `Comparison`s.

    Returns:
        A list of lists, in the order of the first of each.
    """
    by_names = {}
    for comparison in found:
        names = tuple(record.name for record in comparison.records)
        by_names.setdefault(names, []).append(comparison)
    return list(by_names.values())


def other_radii(family: list[Comparison]) -> list[Comparison]:
    """Returns the comparisons after the first that share attacks, by radius."""
    others = [each for each in family[1:] if each.shared]
    return sorted(others, key=lambda each: (each.norm, each.epsilon))


def _measurements(record):
    for row in record.results.get("attacks", []):
        outcomes = record.outcomes(row)
        robust = outcomes and outcomes.robust_under(row)
        if robust is not None:
            examples = np.stack([outcomes.index, outcomes.label])
            yield Measured(
                record, row, examples, outcomes.clean_correct, robust
            )


def _is_comparable(one, other):
    radii = [(m.row["norm"], m.row["epsilon"]) for m in (one, other)]
    return (
        is_same_radius(*radii[0], *radii[1])
        and np.array_equal(one.examples, other.examples)
        and _has_same_data(one, other)
    )


def _has_same_data(one, other):
    """Compares checksums of the images, or else the names of the data sets."""
    for describe in (_checksum, _dataset):
        both = describe(one), describe(other)
        if None not in both:
            return both[0] == both[1]
    return True


def _checksum(measured):
    return measured.record.settings(measured.row).get("data")


def _dataset(measured):
    return dataset(measured.record)


def _rank(comparison):
    """Sorts by runs, how many were trained at the radius, and attacks."""
    trained = sum(
        is_same_radius(comparison.norm, comparison.epsilon, *radius)
        for radius in map(_training_radius, comparison.records)
        if radius
    )
    solid = comparison.examples >= FEW_EXAMPLES
    return (
        -len(comparison.records),
        -trained,
        -bool(comparison.shared),
        not (is_ensemble(comparison.shared) and solid),
        -comparison.examples,
        comparison.epsilon,
    )


def _training_radius(record):
    """The radius of the training; of a plain one, that of its validation."""
    if record.config is None:
        return None
    options = record.config["method"]["options"]
    evaluation = record.config["evaluation"]
    if "epsilon" in options:
        return options.get("norm", "linf"), options["epsilon"]
    norm = evaluation.get("validation_norm", "linf")
    return norm, evaluation["validation_epsilon"]
