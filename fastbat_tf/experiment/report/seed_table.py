"""Shows mean and standard deviation over several seeds."""

from fastbat_tf.experiment.report import pairs
from fastbat_tf.experiment.report.blocks import NOTHING, Table
from fastbat_tf.experiment.report.comparable import Comparison, Unit, units
from fastbat_tf.experiment.report.numbers import mean_percent, seconds


def sentence(comparison: Comparison, unit: Unit) -> str:
    """Says in a sentence how several seeds of the same settings differ.

    Args:
        comparison: The `Comparison`.
        unit: A `Unit` of it, with several seeds.
    """
    robust = pairs.shares(comparison, unit, pairs.ROBUST)
    clean = pairs.shares(comparison, unit, pairs.CLEAN)
    return (
        f"Over {len(robust)} seeds, {unit.name} has {mean_percent(robust)} "
        f"accuracy under {pairs.attack_name(comparison)} and "
        f"{mean_percent(clean)} clean accuracy (mean and sample standard "
        "deviation)."
    )


def blocks(comparison: Comparison) -> list:
    """Returns the table over seeds; nothing if every run has one seed."""
    every = units(comparison.records)
    if not any(unit.is_group for unit in every):
        return []
    has_worst = len(comparison.shared) > 1
    headings = ["run", "method", "seeds", "training", "clean"]
    headings += ["worst case"] * has_worst
    rows = [(*headings, *comparison.attacks)]
    for unit in every:
        spent = unit.training_seconds
        cells = [unit.name, unit.method or NOTHING, str(len(unit.records))]
        cells.append(NOTHING if spent is None else seconds(spent))
        cells.append(mean_percent(pairs.shares(comparison, unit, pairs.CLEAN)))
        if has_worst:
            cells.append(
                mean_percent(pairs.shares(comparison, unit, pairs.ROBUST))
            )
        for attack in comparison.attacks:
            shares = under(comparison, unit, attack)
            cells.append(mean_percent(shares) if shares else NOTHING)
        rows.append(tuple(cells))
    return [
        Table(
            rows,
            f"Accuracy at {pairs.radius_name(comparison)} over seeds, on the "
            f"same {comparison.examples:,} examples: mean \N{PLUS-MINUS SIGN} "
            "sample standard deviation in percentage points. Training: mean of "
            "one seed.",
        )
    ]


def under(comparison: Comparison, unit: Unit, attack: str) -> list[float]:
    """Returns the accuracy of each seed under an attack.

    Args:
        comparison: A `Comparison`.
        unit: A `Unit` of it.
        attack: Name of an attack.

    Returns:
        List of shares; `[]` if the attack was not run on every seed.
    """
    rows = [comparison.row(record, attack) for record in unit.records]
    if None in rows:
        return []
    return [row["robust_accuracy"] for row in rows]
