"""Which attack broke what?"""

import numpy as np
from matplotlib.ticker import PercentFormatter

from fastbat_tf.experiment.report import charts, labels, measured
from fastbat_tf.experiment.report.blocks import NOTHING, Picture, Table, Text
from fastbat_tf.experiment.report.measured import Measurement
from fastbat_tf.experiment.report.numbers import (
    interval,
    listed,
    percent,
    radius_with_norm,
    seconds,
)
from fastbat_tf.experiment.report.record import RunRecord

QUESTION = "Which attack broke what?"
NAME = 2.5  # Of an attack beside its bar, in inches.
HEADINGS = (
    *("attack", "attacked", "broken", "robust accuracy"),
    *("95% interval", "seconds"),
)


def blocks(records: list[RunRecord]) -> list:
    """Returns the blocks of this section.

    Args:
        records: List of `RunRecord`s.
    """
    made = []
    for number, record in enumerate(records, start=1):
        if len(records) > 1:
            made.append(Text(record.name, "heading"))
        made += _run(record, f"stages-{number}")
    return made


def _run(record, file):
    chosen = measured.quoted([record])
    if not chosen:
        return [Text("No attack has been measured yet.", "note")]
    at = radius_with_norm(chosen[0].epsilon, chosen[0].norm)
    made = []
    ensembles = [row for row in chosen[0].rows if row.get("stages")]
    for number, row in enumerate(ensembles, start=1):
        name = f"{file}-{number}"
        made.append(Text(_story_of_stages(row, at)))
        made.append(_waterfall(row, name, at))
        caption = f"The stages of {row['attack']} at {at}: each attacks what "
        made.append(_stages_table(row, f"{caption}those before it left."))
    if len(chosen[0].rows) > 1:
        made += _compare(record, chosen[0], file, at)
    elif not ensembles:
        made.append(Text(_story_of_one(chosen[0].rows[0], at)))
    made.append(_everything(record))
    return made


def _left(row):
    """The number of images that are robust."""
    return round(row["robust_accuracy"] * row["examples"])


def _broken(row):
    return row["attacked"] - _left(row)


def _story_of_stages(row, at):
    text = (
        f"At {at}, {row['attack']} broke {_broken(row)} of {row['attacked']} "
        "correctly classified images"
    )
    useful = [s for s in row["stages"] if _broken(s)]
    idle = [s["attack"] for s in row["stages"] if not _broken(s)]
    if useful:
        counts = [f"{s['attack']} {_broken(s)}" for s in useful]
        text += f": {', '.join(counts)}"
    return f"{text}; {listed(idle)} broke nothing more." if idle else f"{text}."


def _story_of_one(row, at):
    return (
        f"At {at}, {row['attack']} broke {_broken(row)} of {row['attacked']} "
        "correctly classified images. It is the only attack there; an "
        "ensemble, such as autoattack, shows its stages here."
    )


def _waterfall(row, name, at):
    stages = row["stages"]
    examples = row["examples"]
    clean = row["attacked"] / examples
    names = ["clean", *(s["attack"] for s in stages), "robust"]
    made, axes = charts.figure(height=0.8 + 0.38 * len(names))
    axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
    before = clean
    axes.barh(0, clean, color=charts.MUTED, height=0.6)
    labels = [percent(clean)]
    ends = [clean]
    for k, stage in enumerate(stages, start=1):
        left = stage["robust_accuracy"]
        axes.barh(
            k, before - left, left=left, color=charts.VERMILION, height=0.6
        )
        lost = f"\N{MINUS SIGN}{100 * (before - left):.2f} points"
        if not _broken(stage):
            lost = "nothing"
        labels.append(f"{lost}, {seconds(stage['seconds'])}")
        ends.append(before)
        before = left
    axes.barh(len(names) - 1, before, color=charts.BLUE, height=0.6)
    labels.append(percent(before))
    ends.append(before)
    for k, (end, label) in enumerate(zip(ends, labels, strict=True)):
        axes.annotate(
            label, (end, k), (5, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    # Room for the labels on the right.
    axes.set_xlim(0, max(clean, 0.05) * 1.45)
    axes.set_xlabel("accuracy")
    axes.grid(axis="y", visible=False)
    story = ", ".join(
        f"{n} {text}" for n, text in zip(names, labels, strict=True)
    )
    return Picture(
        name,
        charts.svg(made, name),
        "svg",
        alt=f"From clean to robust accuracy under {row['attack']}: {story}.",
        caption=f"From clean to robust accuracy at {at}: what each stage of "
        f"{row['attack']} takes away, and its seconds.",
    )


def _stages_table(row, caption):
    rows = [HEADINGS, *map(_line, row["stages"])]
    rows.append((f"all of {row['attack']}", *_line(row)[1:]))
    return Table(rows, caption)


def _line(row):
    return (
        row["attack"],
        str(row["attacked"]),
        str(_broken(row)),
        percent(row["robust_accuracy"]),
        interval(row["confidence_interval"]),
        f"{row['seconds']:.1f}",
    )


def _compare(record, one: Measurement, file, at):
    """What each attack broke that others did not."""
    names, broken = [], []
    for row in one.rows:
        outcomes = record.outcomes(row)
        robust = outcomes and outcomes.robust_under(row)
        if robust is None:
            return []
        names.append(row["attack"])
        broken.append(outcomes.clean_correct & ~robust)
    broken = np.array(broken)
    anyone = broken.any(axis=0)
    made = [Text(_story_of_attacks(names, broken, at))]
    made.append(_bars(names, broken, f"{file}-attacks", at))
    headings = ("broken by", "images", "only by it")
    rows = [(*headings, *(f"not by {name}" for name in names))]
    for name, mine in zip(names, broken, strict=True):
        only = mine & (broken.sum(axis=0) == 1)
        others = [str(int((mine & ~other).sum())) for other in broken]
        others[names.index(name)] = NOTHING
        rows.append((name, str(int(mine.sum())), str(int(only.sum())), *others))
    rows.append(("any of them", str(int(anyone.sum())), "", *[""] * len(names)))
    made.append(
        Table(
            rows,
            f"Images that each attack broke at {at}, of "
            f"{broken.shape[1]:,}: how many of them no other attack broke, and "
            "how many each other attack did not break.",
        )
    )
    return made


def _story_of_attacks(names, broken, at):
    counts = broken.sum(axis=1)
    total = int(broken.any(axis=0).sum())
    best = int(counts.argmax())
    text = f"At {at}, the attacks together broke {total} images"
    complete = [n for n, c in zip(names, counts, strict=True) if c == total]
    if len(complete) == len(names):
        return f"{text}, each of them all."
    if complete:
        each = " each" if len(complete) > 1 else ""
        return f"{text}; {listed(complete)}{each} broke all of them."
    missed = total - int(counts[best])
    return (
        f"{text}; {names[best]} broke most of them, and missed {missed} that "
        "others broke."
    )


def _bars(names, broken, name, at):
    made, axes = charts.figure(height=0.8 + 0.38 * len(names))
    counts = broken.sum(axis=1)
    only = (broken & (broken.sum(axis=0) == 1)).sum(axis=1)
    places = np.arange(len(names))
    axes.barh(places, counts - only, color=charts.SKY, height=0.6)
    axes.barh(
        places,
        only,
        left=counts - only,
        color=charts.VERMILION,
        height=0.6,
        label="by no other",
    )
    for place, count in zip(places, counts, strict=True):
        axes.annotate(
            str(int(count)),
            (count, place),
            (5, 0),
            textcoords="offset points",
            va="center",
        )
    axes.set_yticks(places, [labels.cut(name, NAME) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, max(counts.max(), 1) * 1.15)
    axes.set_xlabel("broken images")
    axes.grid(axis="y", visible=False)
    if only.any():
        made.legend(loc="outside upper left")
    story = ", ".join(
        f"{n} {int(c)}, {int(o)} of them by no other"
        for n, c, o in zip(names, counts, only, strict=True)
    )
    return Picture(
        name,
        charts.svg(made, name),
        "svg",
        alt=f"Images broken by each attack at {at}: {story}.",
        caption=f"Images that each attack broke at {at}. The part on the "
        "right, if any: those that no other attack broke.",
    )


def _reached(row):
    """How often an attack toward a class reaches it."""
    count, rate = row["target_examples"], row["target_success_rate"]
    share = f"{percent(rate)} of these {count} reach it"
    bounds = interval(row["target_confidence_interval"])
    name = f"... toward class {row['target']}"
    return name, "", "", str(count), str(round(rate * count)), share, bounds, ""


def _everything(record):
    """All results of the files, as they are there."""
    rows = [("attack", "epsilon", "images", *HEADINGS[1:])]
    results = record.results
    for row in (*results["attacks"], *results["worst_case"]):
        at = radius_with_norm(row["epsilon"], row["norm"])
        name = row["attack"]
        if "attacks" in row:
            name = f"{name} of {', '.join(row['attacks'])}"
        rows.append((name, at, str(row["examples"]), *_line(row)[1:]))
        if row.get("target_success_rate") is not None:
            rows.append(_reached(row))
    return Table(rows, "All results of attacks, as results.json has them.")
