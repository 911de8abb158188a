"""Says which of two runs is better, and how sure that is."""

import itertools
import statistics
from typing import NamedTuple

from fastbat_tf.experiment.report import paired
from fastbat_tf.experiment.report.blocks import NOTHING, Table, Text
from fastbat_tf.experiment.report.comparable import Comparison, Unit, units
from fastbat_tf.experiment.report.numbers import listed, radius_with_norm
from fastbat_tf.experiment.report.paired import Difference, DifferenceOfSeeds

CLEAN, ROBUST = "clean", "robust"
WORDS = {
    CLEAN: ("more accurate", "clean accuracy"),
    ROBUST: ("more robust", "robustness"),
}
# With more runs, each is compared with the best one alone.
MOST = 4


class Pair(NamedTuple):
    """Two runs, or groups of seeds.

    Attributes:
        first: The `Unit` that is as good as the second, or better.
        second: The other `Unit`.
        difference: A `Difference`, or a `DifferenceOfSeeds`.
        corrected: Float, the p-value corrected for the number of pairs; None
            if nothing can be tested.
    """

    first: Unit
    second: Unit
    difference: Difference | DifferenceOfSeeds
    corrected: float | None

    @property
    def differs(self) -> bool:
        """Whether a difference can be seen."""
        if self.corrected is None:
            return self.difference.value != 0
        return self.corrected < paired.SIGNIFICANT


def shares(comparison: Comparison, unit: Unit, measure: str) -> list[float]:
    """Returns the accuracy of each seed of a run.

    Args:
        comparison: A `Comparison`.
        unit: A `Unit`, one of its runs.
        measure: `CLEAN`, or `ROBUST` for the worst case.
    """
    outcomes = _outcomes(comparison, unit, measure)
    return [float(each.mean()) for each in outcomes]


def mean_share(comparison: Comparison, unit: Unit, measure: str) -> float:
    """Returns the accuracy of a run, the mean of its seeds."""
    return statistics.mean(shares(comparison, unit, measure))


def ranked(comparison: Comparison, measure: str) -> list[Unit]:
    """Returns the runs, the best one first."""
    return sorted(
        units(comparison.records),
        key=lambda unit: -mean_share(comparison, unit, measure),
    )


def pairs(comparison: Comparison, measure: str) -> list[Pair]:
    """Compares every run with every other one.

    Args:
        comparison: A `Comparison`.
        measure: `CLEAN`, or `ROBUST`, which needs an attack that all share.

    Returns:
        A list of `Pair`s, those of the best run first.
    """
    both = list(itertools.combinations(ranked(comparison, measure), 2))
    differences = [_compare(comparison, *pair, measure) for pair in both]
    tested = [d.p for d in differences if d.p is not None]
    corrected = iter(paired.holm(tested))
    return [
        Pair(*pair, each, None if each.p is None else next(corrected))
        for pair, each in zip(both, differences, strict=True)
    ]


def _outcomes(comparison, unit, measure):
    find = comparison.clean if measure == CLEAN else comparison.worst_case
    return [find(record) for record in unit.records]


def _compare(comparison, first, second, measure):
    if first.is_group or second.is_group:
        return paired.compare_seeds(
            shares(comparison, first, measure),
            shares(comparison, second, measure),
        )
    (one,) = _outcomes(comparison, first, measure)
    (other,) = _outcomes(comparison, second, measure)
    return paired.compare(one, other)


def attack_name(comparison: Comparison) -> str:
    """Names the attacks that all runs share, and the radius.

    Example: `"the worst case of fgsm and pgd-10-1 at 8/255 (L∞)"`.
    """
    names = comparison.shared
    where = radius_name(comparison)
    if len(names) == 1:
        return f"{names[0]} at {where}"
    return f"the worst case of {listed(names)} at {where}"


def radius_name(comparison: Comparison) -> str:
    """Writes the radius of a comparison with its norm, as `8/255 (L∞)`."""
    return radius_with_norm(comparison.epsilon, comparison.norm)


def sentence(comparison: Comparison, pair: Pair, measure: str) -> str:
    """Says in a sentence which of two runs is better.

    Args:
        comparison: The `Comparison`.
        pair: A `Pair` of it.
        measure: `CLEAN` or `ROBUST`.
    """
    better, quality = WORDS[measure]
    first, second = named(pair.first), named(pair.second)
    difference = pair.difference
    low, high = difference.interval
    numbers = f"95%: {points(low)} to {points(high)}"
    if pair.corrected is not None:
        numbers += f", {p_value(pair.corrected)}"
    by = f"{points(difference.value)} points"
    if pair.differs:
        return f"{first} is {better} than {second} by {by} ({numbers})."
    return (
        f"No difference in {quality} between {first} and {second} can be seen "
        f"with {comparison.examples:,} images{_seeds(pair)}: {by} ({numbers})."
    )


def named(unit: Unit) -> str:
    """Names a run; of several seeds, says how many."""
    if unit.is_group:
        return f"{unit.name} ({len(unit.records)} seeds)"
    return unit.name


def points(share: float) -> str:
    """Writes a difference of shares in percentage points.

    Example:

    >>> points(0.0321)
    '3.2'
    """
    return minus(f"{100 * share:.1f}").replace("\N{MINUS SIGN}0.0", "0.0")


def minus(text: str) -> str:
    """Writes a minus sign instead of a hyphen."""
    return text.replace("-", "\N{MINUS SIGN}")


def p_value(p: float) -> str:
    """Writes a p-value.

    Example:

    >>> p_value(0.0031), p_value(1e-9)
    ('p = 0.003', 'p < 0.001')
    """
    return "p < 0.001" if p < 0.0005 else f"p = {p:.3f}"


def _seeds(pair):
    return (
        " and these seeds"
        if pair.first.is_group or pair.second.is_group
        else ""
    )


def blocks(comparison: Comparison, is_said: bool = False) -> list:
    """Returns sentences about the best run, and tables of all pairs.

    Args:
        comparison: A `Comparison` of two `Unit`s or more.
        is_said: Whether the page says already which of two is more robust.
            Defaults to `False`.
    """
    made = []
    measures = [ROBUST, CLEAN] if comparison.shared else [CLEAN]
    for measure in measures:
        every = pairs(comparison, measure)
        best = [pair for pair in every if pair.first == every[0].first]
        is_said_above = is_said and measure == ROBUST and len(every) == 1
        is_short = len(every) == 1 or (measure == ROBUST and len(best) == 2)
        if is_short and not is_said_above:
            made += [Text(sentence(comparison, p, measure)) for p in best]
        chosen = every if len(best) < MOST else best
        made.append(_table(comparison, measure, every, chosen))
    return made


def _table(comparison, measure, every, chosen):
    rows = [
        (
            *("pair", "difference", "95% interval"),
            *("only first", "only second", "p", "verdict"),
        )
    ]
    rows += [_row(pair, measure) for pair in chosen]
    what = "Clean accuracy"
    if measure == ROBUST:
        what = f"Accuracy under {attack_name(comparison)}"
    caption = (
        f"{what}, of the first minus that of the second run, in percentage "
        f"points, on the same {comparison.examples:,} images."
    )
    tests = {type(pair.difference) for pair in chosen}
    if Difference in tests:
        caption += (
            " Only first, only second: how many images one of the two gets "
            "right. Intervals: Bonett and Price (2012); p: McNemar's exact "
            "test."
        )
    if DifferenceOfSeeds in tests:
        caption += (
            " Over seeds: Welch's t-test of two means; of a mean and a single "
            "run, the test of Crawford and Howell (1998)."
        )
    caption += f" A difference is seen if p is below {paired.SIGNIFICANT:g}."
    if len(every) > 1:
        caption += (
            f" p is corrected for {len(every)} pairs (Holm, 1979), intervals "
            "are not."
        )
    return Table(rows, caption)


def _row(pair, measure):
    difference = pair.difference
    low, high = difference.interval
    counts = NOTHING, NOTHING
    if isinstance(difference, Difference):
        counts = str(difference.only_first), str(difference.only_second)
    p = NOTHING
    if pair.corrected is not None:
        p = p_value(pair.corrected).removeprefix("p = ").removeprefix("p ")
    return (
        f"{named(pair.first)} \N{MINUS SIGN} {named(pair.second)}",
        minus(f"{100 * difference.value:.2f}"),
        f"{points(low)} to {points(high)}",
        *counts,
        p,
        f"first is {WORDS[measure][0]}"
        if pair.differs
        else "no difference seen",
    )
