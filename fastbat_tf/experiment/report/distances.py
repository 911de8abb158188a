"""How far away are adversarial images?"""

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fastbat_tf.experiment.report import (
    charts,
    measured,
    missing,
    suggestions,
)
from fastbat_tf.experiment.report.blocks import Picture, Table, Text, of_each
from fastbat_tf.experiment.report.numbers import interval, norm_name, percent
from fastbat_tf.experiment.report.record import RunRecord, grouped
from fastbat_tf.runtime.formatting import distance, radius

QUESTION = "How far away are adversarial images?"
FLAG = "--distances=100"


def blocks(records: Sequence[RunRecord]) -> list:
    """Returns the blocks of this section.

    Args:
        records: `RunRecord`s.
    """
    return of_each(grouped(records), _unit)


def _unit(unit, name, number):
    """Returns the blocks of a run, or of the first seed that has distances."""
    known = [record for record in unit if record.results.get("distances")]
    if not known:
        return _missing(unit)
    record = known[0]
    # The newest of each norm.
    rows = {row["norm"]: row for row in record.results["distances"]}
    made = []
    if len(unit) > 1:
        made.append(
            Text(f"Of one of {len(unit)} seeds, {record.name}.", "note")
        )
    for norm, row in rows.items():
        made.append(Text(_answer(row)))
        if row["found"]:
            trained = measured.training_radius(record)
            is_shown = trained is not None and trained[0] == norm
            file = f"distances-{number}-{norm}"
            epsilon = trained[1] if is_shown else None
            made.append(_picture(row, file, name, epsilon))
        made.append(_table(row))
    return made


def _answer(row):
    if not row["attacked"]:
        return "Not known: no image is classified correctly."
    if not row["found"]:
        return (
            f"{row['attack']} found no adversarial image for any of "
            f"{row['attacked']} images, at no distance: a sign of masked "
            "gradients."
        )
    text = f"{row['attack']} found an adversarial image for "
    text += f"{row['found']:,} of {row['attacked']:,} correctly classified ones"
    if row["median"] is None:
        return f"{text}, fewer than half."
    at = distance(row["median"], row["norm"])
    return (
        f"The median distance is {at} ({norm_name(row['norm'])}): half of the "
        "correctly classified images have an adversarial one that is no "
        f"further away. {text}. The true distances may be smaller."
    )


def _missing(unit):
    record = unit[0]
    if not record.results:
        return missing.results(record)
    command = suggestions.evaluate(record, _attacks(unit))
    return [
        Text(
            "Not known: the distances were not measured, as they cost as much "
            "as fab-t on all images. This measures them:"
        ),
        Text(f"{command} {FLAG}", "code"),
    ]


def _attacks(unit):
    found = measured.quoted(unit)
    return found[0].attacks if found else ["pgd-10-1"]


def _scale(norm):
    """The unit of an axis of distances: gray levels, if they are fractions."""
    return 255 if norm == "linf" else 1


def _picture(row, file, name, epsilon):
    norm, histogram = row["norm"], row["histogram"]
    scale = _scale(norm)
    edges = scale * np.array(histogram["edges"])
    made, (upper, lower) = charts.figure(2, height=4.6, sharex=True)
    upper.stairs(histogram["counts"], edges, fill=True, color=charts.SKY)
    upper.set_ylabel("images")
    upper.yaxis.set_major_locator(MaxNLocator(integer=True))
    lower.plot(edges, histogram["robust_accuracy"], color=charts.BLUE)
    lower.set_ylabel("robust accuracy")
    lower.yaxis.set_major_formatter(PercentFormatter(1, 0))
    lower.set_ylim(bottom=0)
    lower.set_xlim(left=0)
    unit = "1/255" if norm == "linf" else "of images in [0, 1]"
    lower.set_xlabel(f"distance, epsilon ({norm_name(norm)}, {unit})")
    dashed = ""
    if epsilon is not None and scale * epsilon <= edges[-1]:
        for axes in (upper, lower):
            axes.axvline(scale * epsilon, color=charts.BLACK, linestyle="--")
        dashed = " Dashed: the epsilon of the training."
    low, high = (distance(value, norm) for value in row["quartiles"])
    return Picture(
        file,
        charts.svg(made, file),
        "svg",
        alt=f"Distances of the nearest adversarial images of {name}: median "
        f"{distance(row['median'], norm)}, quartiles {low} and {high}.",
        caption="Above: the distances of the nearest adversarial images of "
        "correctly classified images, in bins of equal width. Below: the share "
        "of all images that are further away, which is the robust accuracy "
        f"under {row['attack']} at each epsilon.{dashed}",
    )


def _table(row):
    norm = row["norm"]
    low, high = row["quartiles"]
    rows = [("measured", "value", "95% interval")]
    for text, value in (
        ("a quarter is within", low),
        ("half is within (median)", row["median"]),
        ("three quarters are within", high),
    ):
        rows.append((text, distance(value, norm), ""))
    rows.append(("without any", str(row["attacked"] - row["found"]), ""))
    rows += [
        (
            f"robust accuracy at {radius(at['epsilon'], norm)}",
            percent(at["robust_accuracy"]),
            interval(at["confidence_interval"]),
        )
        for at in row["radii"]
    ]
    return Table(
        rows,
        f"Distances ({norm_name(norm)}) of the nearest adversarial images that "
        f"{row['attack']} found, of {row['attacked']:,} correctly classified "
        f"images; robust accuracy of all {row['examples']:,} images.",
    )
