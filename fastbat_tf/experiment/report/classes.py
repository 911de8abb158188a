"""Which classes pay?"""

from collections.abc import Sequence

import numpy as np

from fastbat_tf.experiment.report import (
    class_charts,
    measured,
    missing,
    suggestions,
)
from fastbat_tf.experiment.report.blocks import Picture, Table, Text
from fastbat_tf.experiment.report.class_counts import ClassCounts
from fastbat_tf.experiment.report.numbers import (
    confidence_interval,
    interval,
    percent,
    radius_with_norm,
)
from fastbat_tf.experiment.report.record import RunRecord, grouped

QUESTION = "Which classes pay?"
MOST_CLASSES = 20  # That are all shown, and fit a confusion matrix.
EXTREMES = 10  # Of the worst classes, and of the best, if there are more.
CONFUSIONS = 15
FEW = 20  # Examples of a class; with fewer, one of them is over 5 points.


def blocks(records: Sequence[RunRecord]) -> list:
    """Returns the blocks of this section.

    Args:
        records: `RunRecord`s.
    """
    units = grouped(records)
    answers, made = [], []
    for number, (name, unit) in enumerate(units.items(), start=1):
        shown = _find(unit)
        answers.append(f"{name}: {_short(shown)}")
        made.append(Text(name, "heading"))
        made += _unit(unit, name, f"classes-{number}", shown)
    if len(units) == 1:
        return made[1:]
    answer = "The class with the lowest robust accuracy: "
    return [Text(f"{answer}{'; '.join(answers)}."), *made]


def _find(unit):
    """Returns a seed, what section 1 quotes of it, and its counts; or None."""
    found = measured.quoted(unit)
    pairs = list(zip(unit, found, strict=False))
    if not found:  # Not all seeds were measured, or not in the same way.
        quoted = [(record, measured.quoted([record])) for record in unit]
        pairs = [(record, ones[0]) for record, ones in quoted if ones]
    for record, one in pairs:
        counts = ClassCounts.read(record, one)
        if counts is not None:
            return record, one, counts
    return None


def _short(shown):
    if shown is None:
        return "not known"
    *_, counts = shown
    worst = counts.order[0]
    return f"{_call(counts, worst)} ({percent(counts.robust[worst])})"


def _unit(unit, name, picture, shown):
    """Returns the blocks of a run, or of one of several seeds."""
    if shown is None:
        return _missing(unit[0]) + _worst_classes(unit[0])
    record, one, counts = shown
    size = radius_with_norm(one.epsilon, one.norm)
    attack = f"{', '.join(one.attacks)} at {size}"
    found = [Text(_answer(counts))]
    if len(unit) > 1:
        text = f"Of one of {len(unit)} seeds, {record.name}."
        found.append(Text(text, "note"))
    few = counts.examples[counts.order].min()
    if few < FEW:
        text = (
            f"A class has as few as {few} images here, of which each is "
            f"{100 / few:.3g} points: more images tell more."
        )
        found.append(Text(text, "note"))
    if record.class_names is None:
        text = "The names of the classes are unknown; they are numbers."
        found.append(Text(text, "note"))
    found += _accuracies(counts, name, picture, attack)
    found += _worst_classes(record)
    if counts.confusion is None:
        return found + _without_predictions(record, one)
    return found + _confusions(counts, name, picture, attack)


def _answer(counts):
    worst, best = counts.order[0], counts.order[-1]
    if len(counts.order) == 1:
        return (
            f"There is one class alone, {_call(counts, worst)}: "
            f"{percent(counts.robust[worst])} of its images are robust."
        )
    ties = int((counts.robust[counts.order] == counts.robust[worst]).sum()) - 1
    text = f"{_call(counts, worst)} pays most"
    if ties:
        others = _count(ties, "other", "others")
        text = f"{_call(counts, worst)} and {others} pay most"
    text += f": {percent(counts.robust[worst])} robust accuracy"
    if not ties:
        text += f", {percent(counts.clean[worst])} clean"
    if counts.robust[best] == counts.robust[worst]:
        return f"All alike: {percent(counts.robust[best])} each."
    spread = counts.robust[best] - counts.robust[worst]
    return (
        f"{text}. {_call(counts, best)} is the most robust: "
        f"{percent(counts.robust[best])}, {100 * spread:.2f} points more."
    )


def _call(counts, number):
    name = counts.names[number]
    return f"class {name}" if name.isdecimal() else name


def _count(number, one, several):
    return f"{number} {one if number == 1 else several}"


def _missing(record):
    if not record.results:
        return missing.results(record)
    return [
        Text(
            missing.elsewhere(record)
            or "Not known: the outcomes of the images (outcomes.npz) are not "
            "there, only their sums. A new evaluation writes them:"
        ),
        Text(suggestions.evaluate(record, ["pgd-10-1"]), "code"),
    ]


def _without_predictions(record, one):
    return [
        Text(
            "There are no confusion matrices: an earlier version of the "
            "program did not keep the predicted classes. A new evaluation "
            "does:",
            "note",
        ),
        Text(
            suggestions.evaluate(
                record,
                one.attacks,
                epsilons=[one.epsilon],
                norm=one.norm,
            ),
            "code",
        ),
    ]


def _accuracies(counts, name, picture, attack):
    """Returns the accuracies by class, as a chart and as a table."""
    shown = counts.order
    caption = (
        "Share of the images of each class. Lines: 95% intervals of robust "
        "accuracy."
    )
    if len(shown) > MOST_CLASSES:
        shown = [*shown[:EXTREMES], *shown[-EXTREMES:]]
        caption = (
            f"The {EXTREMES} worst and the {EXTREMES} best of "
            f"{len(counts.order)} classes; below, how many classes have which "
            "accuracy."
        )
    table = [("class", "images", "clean", "robust", "95% interval")]
    for k in shown:
        robust = int(counts.robust_count[k])
        bounds = confidence_interval(robust, int(counts.examples[k]))
        table.append(
            (
                counts.names[k],
                f"{counts.examples[k]:,}",
                percent(counts.clean[k]),
                percent(counts.robust[k]),
                interval(bounds),
            )
        )
    return [
        Picture(
            picture,
            class_charts.draw_accuracies(counts, shown, picture),
            "svg",
            f"Clean and robust accuracy of {name} by class.",
            f"{caption} Robust: against {attack}.",
        ),
        Table(table, f"By robust accuracy, lowest first; against {attack}."),
    ]


def _worst_classes(record):
    """Returns the table of the worst class under each attack, if known."""
    results = record.results
    every = [*results.get("attacks", []), *results.get("worst_case", [])]
    # Rows of earlier versions have none.
    known = [row for row in every if "worst_class" in row]
    if not known:
        return []
    rows = [
        (
            *("attack", "epsilon", "robust", "worst class", "images"),
            *("clean", "robust", "95% interval"),
        )
    ]
    for row in known:
        worst = row["worst_class"]
        rows.append(
            (
                row["attack"],
                radius_with_norm(row["epsilon"], row["norm"]),
                percent(row["robust_accuracy"]),
                worst.get("name") or f"class {worst['label']}",
                f"{worst['examples']:,}",
                percent(worst["clean_accuracy"]),
                percent(worst["robust_accuracy"]),
                interval(worst["confidence_interval"]),
            )
        )
    caption = (
        "The class with the lowest robust accuracy under each attack, beside "
        "the robust accuracy of all classes. The interval is of that class "
        "alone: the lowest of several tends to be too low."
    )
    return [Table(rows, caption)]


def _confusions(counts, name, picture, attack):
    """Returns the confusion matrices, and what is confused most."""
    found = []
    used = counts.used
    if len(used) <= MOST_CLASSES:
        picture = f"{picture}-confusion"
        found.append(
            Picture(
                picture,
                class_charts.draw_confusions(counts, used, picture),
                "svg",
                f"Confusion matrices of {name}, clean and under attack.",
                "Of the images of each class (row), the share that is "
                "predicted as each class (column), in percent: rows add up to "
                f"100. Under attack: {attack}.",
            )
        )
    rows = [("true class", "predicted class", "clean", "under attack")]
    shares = [
        matrix / counts.examples.clip(1)[:, None] for matrix in counts.confusion
    ]
    attacked = counts.confusion[1].copy()
    np.fill_diagonal(attacked, 0)
    for place in np.argsort(-attacked, axis=None, kind="stable")[:CONFUSIONS]:
        row, column = np.unravel_index(place, attacked.shape)
        if attacked[row, column]:
            rows.append(
                (
                    counts.names[row],
                    counts.names[column],
                    *(percent(share[row, column]) for share in shares),
                )
            )
    if len(rows) > 1:
        caption = (
            "What is confused most under attack: the share of the images of "
            "the true class that is predicted as the other one."
        )
        found.append(Table(rows, caption))
    else:
        found.append(Text("Under attack, no class is confused.", "note"))
    return found
