"""How do runs compare?"""

import math

from fastbat_tf.experiment import differences
from fastbat_tf.experiment.report import (
    commands,
    comparable,
    cost_chart,
    missing,
    pairs,
    seed_table,
)
from fastbat_tf.experiment.report.blocks import NOTHING, Table, Text
from fastbat_tf.experiment.report.comparable import Comparison
from fastbat_tf.experiment.report.numbers import (
    confidence_interval,
    interval,
    listed,
    percent,
    seconds,
)
from fastbat_tf.experiment.report.record import RunRecord
from fastbat_tf.runtime.formatting import radius

QUESTION = "How do runs compare?"
# Named beside the table: they are to differ.
OF_NO_INTEREST = ("seed",)


def blocks(records: list[RunRecord]) -> list:
    """Returns the blocks of this section.

    Args:
        records: List of `RunRecord`s.
    """
    if len(records) == 1:
        path = records[0].path
        return [
            Text(
                "There is one run on this page, so nothing is compared; this "
                "command writes a page about two or more:"
            ),
            Text(
                f"{commands.PROGRAM} --mode=report --runs={path},OTHER_RUN",
                "code",
            ),
        ]
    families = comparable.families(comparable.comparisons(records))
    made = [_answer(records, families), *_settings(records)]
    for number, family in enumerate(families):
        made += _family(family, families[:number], number)
    return made + _not_compared(records, families)


def _answer(records, families):
    if not families:
        return Text(
            f"None of these {len(records)} runs can be compared: no two of "
            "them were measured at the same radius on the same examples."
        )
    headline = families[0][0]
    if not headline.shared:
        return Text(
            f"Which of the {len(headline.records)} runs is the most robust is "
            "not known: no attack was run on all of them at "
            f"{pairs.radius_name(headline)}. A measurement with the same "
            "--attacks decides it."
        )
    ranking = pairs.ranked(headline, pairs.ROBUST)
    if len(ranking) == 1:
        return Text(seed_table.sentence(headline, ranking[0]))
    every = pairs.pairs(headline, pairs.ROBUST)
    best = [pair for pair in every if pair.first == ranking[0]]
    if len(best) == 1:
        said = pairs.sentence(headline, best[0], pairs.ROBUST)
        return Text(f"Under {pairs.attack_name(headline)}: {said}")
    return Text(_best_of_many(headline, best))


def _best_of_many(headline, best):
    unit = best[0].first
    share = pairs.mean_share(headline, unit, pairs.ROBUST)
    equal = [pair.second.name for pair in best if _is_tie(headline, pair)]
    said = (
        f"{pairs.named(unit)} has the highest accuracy of {len(best) + 1} "
        f"under {pairs.attack_name(headline)}: {percent(share)}"
    )
    if equal:
        said += f", as {listed(equal)}"
    for differs, words in (
        (True, "it is more robust than"),
        (False, "no difference can be seen from"),
    ):
        others = [
            pair.second.name
            for pair in best
            if pair.differs == differs and pair.second.name not in equal
        ]
        if others:
            said += f"; {words} {listed(others)}"
    return f"{said}."


def _is_tie(headline, pair):
    first, second = (
        pairs.mean_share(headline, unit, pairs.ROBUST)
        for unit in (pair.first, pair.second)
    )
    return math.isclose(first, second)


def _family(family, before, number):
    """Returns the blocks of the same runs at one radius or more."""
    headline = family[0]
    made = [main_table(headline)]
    others = comparable.other_radii(family)
    if others:
        made.append(_other_radii(headline, others))
    names = {record.name for record in headline.records}
    earlier = [{record.name for record in each[0].records} for each in before]
    if any(names <= each for each in earlier):
        return made
    if len(comparable.units(headline.records)) > 1:
        made += pairs.blocks(headline, is_said=not before)
    made += seed_table.blocks(headline)
    return made + cost_chart.blocks(
        headline, f"cost-of-robustness-{number + 1}"
    )


def main_table(comparison: Comparison) -> Table:
    """Returns the table of all runs of a comparison.

    Args:
        comparison: A `Comparison`.
    """
    has_worst = len(comparison.shared) > 1
    headings = ["run", "method", "training", "clean"]
    headings += ["worst case"] * has_worst
    # The first columns are seen without scrolling.
    attacks = sorted(
        comparison.attacks, key=lambda a: a not in comparison.shared
    )
    rows = [(*headings, *attacks)]
    for record in comparison.records:
        spent = comparable.training_seconds(record)
        cells = [record.name, record.method or NOTHING]
        cells.append(NOTHING if spent is None else seconds(spent))
        cells.append(_share(comparison.clean(record)))
        if has_worst:
            cells.append(_share(comparison.worst_case(record)))
        for attack in attacks:
            row = comparison.row(record, attack)
            cells.append(_measured(row) if row else NOTHING)
        rows.append(tuple(cells))
    caption = (
        f"Accuracy at {pairs.radius_name(comparison)} with 95% intervals, all "
        f"on the same {comparison.examples:,} examples."
    )
    if has_worst:
        caption += f" Worst case: of {listed(comparison.shared)} together."
    if len(comparison.shared) < len(comparison.attacks):
        caption += f" {NOTHING}: not measured."
    return Table(rows, caption)


def _share(outcomes):
    count, right = len(outcomes), int(outcomes.sum())
    bounds = interval(confidence_interval(right, count))
    return f"{percent(right / count)} ({bounds})"


def _measured(row):
    bounds = interval(row["confidence_interval"])
    return f"{percent(row['robust_accuracy'])} ({bounds})"


def _other_radii(headline, others):
    """Returns the table of the other radii, which are often more than runs."""
    rows = [("epsilon", *(record.name for record in headline.records))]
    for each in others:
        cells = [_share(each.worst_case(record)) for record in headline.records]
        rows.append((pairs.radius_name(each), *cells))
    attacks = {}
    for each in others:
        written = radius(each.epsilon, each.norm)
        attacks.setdefault(listed(each.shared), []).append(written)
    shared = "; ".join(
        f"{', '.join(radii)}: {names}" for names, radii in attacks.items()
    )
    counts = sorted({each.examples for each in others})
    examples = " or ".join(f"{count:,}" for count in counts)
    return Table(
        rows,
        "Worst case at the other radii with 95% intervals, of the attacks "
        f"that all runs share ({shared}), on the same {examples} examples.",
    )


def _not_compared(records, families):
    """Says why a run is not compared, and which command helps."""
    compared = {r.name for family in families for r in family[0].records}
    references = _references(records, families)
    made = []
    for record in records:
        if record.name in compared:
            continue
        is_reference = any(record is other for other, _ in references)
        others = [each for each in records if each is not record]
        if not is_reference or not any(_may_share(record, o) for o in others):
            made += _reason(record, references)
    return made


def _references(records, families):
    """Returns runs as which others may be measured, each with its rows."""
    found = {}
    for comparison in [family[0] for family in families] or (
        comparable.comparisons(records, least=1)
    ):
        record = comparison.records[0]
        rows = [comparison.row(record, name) for name in comparison.attacks]
        known = [row for row in rows if row is not None]
        found.setdefault(comparable.dataset(record), (record, known))
    return list(found.values())


def _reason(record, references):
    name, rows = record.name, record.results.get("attacks")
    if not rows:
        command, _ = commands.of_training([record], run_dir=str(record.path))
        said = (
            f"{name} is not compared: it has not been measured yet. Its own "
            "command continues it, and measures it at the end"
        )
        return _with_command(said, command)
    if not any(map(record.outcomes, rows)):
        said = (
            f"{name} is not compared: its outcomes.npz is missing, which says "
            "which images it gets right. A new measurement writes it"
        )
        if elsewhere := missing.elsewhere(record):
            said = f"{name} is not compared. {elsewhere} So does this"
        return _with_command(said, commands.to_measure_as(record, record, rows))
    said = (
        f"{name} is not compared: no other run was measured at the same "
        "radius on the same examples"
    )
    for other, wanted in references:
        if other is not record and _may_share(record, other):
            command = commands.to_measure_as(record, other, wanted)
            said += f". This measures it as {other.name} was"
            return _with_command(said, command)
    return _with_command(said, None)


def _may_share(record, other):
    """Whether both are of the same data set, as far as that is known."""
    both = comparable.dataset(record), comparable.dataset(other)
    return None in both or both[0] == both[1]


def _with_command(said, command):
    if command is None:
        return [Text(f"{said}.", "note")]
    return [Text(f"{said}:", "note"), Text(command, "code")]


def _settings(records):
    """Returns the table of the settings that differ."""
    units = comparable.units([r for r in records if r.config is not None])
    known = [(unit, commands.config_of(unit.records[0])) for unit in units]
    unknown = [record.name for record in records if record.config is None]
    made = []
    if unknown:
        made.append(
            Text(
                f"The settings of {listed(unknown)} are not known: an "
                "evaluation alone does not tell how its model was trained.",
                "note",
            )
        )
    for unit, config in known:
        if config is None:
            made.append(
                Text(
                    f"{unit.name}: the settings in its config.json are not "
                    "those of this version; it was made by another one.",
                    "note",
                )
            )
    known = [(unit, config) for unit, config in known if config is not None]
    if len(known) < 2:
        return made
    found = differences.differences([config for _, config in known])
    rows = [
        (f"--{name}", *(NOTHING if text is None else text for text in texts))
        for name, texts in found.items()
        if name not in OF_NO_INTEREST
    ]
    seeds = "; ".join(f"{unit.name}: {_seeds(unit)}" for unit, _ in known)
    if not rows:
        return [
            Text("All settings are the same."),
            Text(f"Seeds: {seeds}.", "note"),
            *made,
        ]
    headings = ("setting", *(unit.name for unit, _ in known))
    caption = (
        "Settings that differ, as one types them, with defaults filled in. "
        f"{NOTHING}: does not apply. Seeds: {seeds}."
    )
    return [Table([headings, *rows], caption), *made]


def _seeds(unit):
    seeds = [record.config["training"]["seed"] for record in unit.records]
    return ", ".join(map(str, seeds))
