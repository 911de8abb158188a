"""Did it overfit?"""

from collections.abc import Sequence
from typing import NamedTuple

from fastbat_tf.experiment.report import missing, training_chart
from fastbat_tf.experiment.report.blocks import NOTHING, Picture, Table, Text
from fastbat_tf.experiment.report.epochs import (
    ALARM,
    ALIGNMENT,
    CLEAN,
    FGSM,
    GAP,
    LEARNING_RATE,
    ROBUST,
    ROLLBACK,
    SHARE,
    Epochs,
)
from fastbat_tf.experiment.report.numbers import percent
from fastbat_tf.experiment.report.record import RunRecord, grouped

QUESTION = "Did it overfit?"
MOST_ROWS = 12  # Of the table of epochs.
NO, UNKNOWN = "no", "not known"
CATASTROPHIC, ROBUSTLY = "yes, catastrophically", "yes, robustly"
PLAIN, PERHAPS = "yes, to the training images", "perhaps, catastrophically"


class Answer(NamedTuple):
    """What the history of a run says.

    Attributes:
        short: String, the answer in a few words.
        text: String, one or two sentences with the numbers.
    """

    short: str
    text: str


def blocks(records: Sequence[RunRecord]) -> list:
    """Returns the blocks of this section.

    Args:
        records: `RunRecord`s.
    """
    if len(records) == 1 and not records[0].history:
        return missing.history(records[0])
    units = grouped(records)
    found = [Text(_opening(records, units))]
    if len(records) > 1:
        found.append(_summary(records))
    for number, (name, unit) in enumerate(units.items(), start=1):
        if len(units) > 1:
            found.append(Text(name, "heading"))
            if len(unit) == 1 and unit[0].history:
                found.append(Text(answer(unit[0]).text))
        found += _unit(unit, name, f"overfitting-{number}")
    return found


def _opening(records, units):
    if len(records) == 1:
        return answer(records[0]).text
    said = []
    for name, unit in units.items():
        shorts = [answer(record).short for record in unit]
        texts = {short: shorts.count(short) for short in shorts}
        if len(texts) == 1:
            said.append(f"{name}: {shorts[0]}")
        else:
            counted = ", ".join(
                f"{k} ({_count(n, 'seed')})" for k, n in texts.items()
            )
            said.append(f"{name}: {counted}")
    return "; ".join(said) + "."


def answer(record: RunRecord) -> Answer:
    """Says whether a training has overfitted, and in which way.

    Args:
        record: A `RunRecord`.
    """
    if not record.history:
        return Answer(UNKNOWN, missing.history(record)[0].text)
    history = Epochs(record)
    if not history.has_attack:
        return _judge_fall(history, CLEAN, "clean", PLAIN)
    collapse = _judge_collapse(history)
    if collapse.short != NO:
        return collapse
    fall = _judge_fall(history, ROBUST, history.attack, ROBUSTLY)
    if fall.short == NO:
        return Answer(NO, f"{collapse.text} {fall.text.removeprefix('No: ')}")
    return Answer(
        fall.short, f"{fall.text} Not catastrophically: {_lower(collapse.text)}"
    )


def _lower(text):
    text = text.removeprefix("No: ")
    return text[0].lower() + text[1:] if text[1:2].islower() else text


def _judge_collapse(history):
    """Tells catastrophic overfitting from the gap and the alarms."""
    attack = history.attack
    gaps = history.values(GAP)
    if not gaps:
        return _judge_without_gap(history)
    alarms = history.epochs_of(ALARM)
    if not alarms:
        widest = max(gaps.values())
        text = (
            f"No: FGSM accuracy stays within {_points(max(widest, 0))} of "
            f"{attack} accuracy; no alarm."
        )
        return Answer(NO, text)
    first = alarms[0]
    fgsm, robust = (history.values(c).get(first) for c in (FGSM, ROBUST))
    text = f"Yes, catastrophically: in epoch {first}"
    if fgsm is not None and robust is not None:
        text += (
            f", {percent(fgsm)} of the validation images withstand FGSM, but "
            f"{percent(robust)} {attack} (a gap of {_points(gaps[first])})"
        )
    text += f"; {_count(len(alarms), 'alarm')}."
    rollbacks = history.epochs_of(ROLLBACK)
    shares = history.values(SHARE)
    if rollbacks:
        text += f" The training was rolled back {_times(len(rollbacks))}"
        if shares:
            last = shares[max(shares)]
            text += f", and ended with {100 * last:.3g}% of epsilon"
        text += "."
    elif history.was_stopped:
        text += " The alarm ended the training."
    chosen = history.best_epoch
    if chosen and chosen not in alarms:
        text += f" The chosen weights, of epoch {chosen}, raise no alarm."
    elif chosen:
        text += f" The chosen weights are of epoch {chosen}, with an alarm."
    return Answer(CATASTROPHIC, text)


def _judge_without_gap(history):
    """Judges by the robust accuracy alone."""
    robust = history.values(ROBUST)
    unknown = (
        "FGSM accuracy was not measured, as the guard was off "
        "(--on_overfitting=warn measures it in a training)"
    )
    if history.attack == "FGSM":
        unknown = (
            "a network that overfits to FGSM withstands it, so FGSM alone "
            "cannot tell (--validation_attack=pgd-10-1 does, in a training)"
        )
    if not robust:
        return Answer(UNKNOWN, f"Not known: {unknown}.")
    attack = history.attack
    best, last = max(robust.values()), robust[max(robust)]
    ends = f"{attack} accuracy ends at {percent(last)}"
    if best > history.noise(best) and last < best / 2:
        return Answer(
            PERHAPS,
            f"Perhaps, catastrophically: {ends}, less than half of its best, "
            f"{percent(best)}; {unknown}.",
        )
    return Answer(
        NO,
        f"No sign of it: {ends}, and {percent(best)} is its best; {unknown}.",
    )


def _judge_fall(history, column, name, kind):
    """Tells whether an accuracy falls while that of the training rises."""
    values, training = (
        history.values(c) for c in (column, history.training_column)
    )
    if not values:
        return Answer(UNKNOWN, f"Not known: {column} has no values.")
    best, last = max(values, key=lambda e: (values[e], -e)), max(values)
    fall = values[best] - values[last]
    rise = None
    if best in training and last in training:
        rise = training[last] - training[best]
    ends = f"{name} accuracy ends at {percent(values[last])}"
    if not history.has_attack:
        ends = f"{ends} (this training has no attack to overfit to)"
    if last == best:
        return Answer(NO, f"No: {ends}, its best.")
    below = f"{_points(fall)} below its best, in epoch {best}"
    noise = history.noise(values[best])
    if fall <= noise:
        return Answer(
            NO, f"No: {ends}, {below}: not more than chance ({_points(noise)})."
        )
    if rise is None or rise <= 0:
        return Answer(
            NO, f"No: {ends}, {below}, but training accuracy did not rise."
        )
    adverb = kind.partition(", ")[2]
    return Answer(
        kind,
        f"Yes, {adverb}: {ends}, {below}, while training accuracy rose by "
        f"{_points(rise)} to {percent(training[last])}.",
    )


def _unit(unit, name, picture):
    """Returns the chart and the table of a run, or of several seeds."""
    several = len(unit) > 1
    histories = [
        Epochs(record, is_single=not several)
        for record in unit
        if record.history
    ]
    if not histories:
        return missing.history(unit[0])
    chart = Picture(
        picture,
        training_chart.draw(histories, picture),
        "svg",
        f"Accuracies of {name} by epoch, and signs of overfitting.",
        _caption(histories),
    )
    found = [*_missing(histories), chart]
    return found if several else [*found, _epochs(histories[0])]


def _caption(histories):
    first = histories[0]
    shown = "accuracy on the training images as the method perturbs them"
    if not first.has_attack:
        shown = "accuracy on the training images"
    text = (
        f"Validation accuracy by epoch; {first.validation}. Dashed and gray: "
        f"{shown}."
    )
    if first.is_single:
        return f"{text} The green line is the epoch whose weights were kept."
    return f"{text} One line for each of {len(histories)} seeds."


def _missing(histories):
    """Says what the charts lack, and why."""
    found = []
    for history in histories:
        name = "" if history.is_single else f"{history.record.name}: "
        if history.is_unfinished:
            text = f"{name}{len(history.rows)} of {history.planned} epochs yet."
            found += [Text(text, "note"), *missing.continuing(history.record)]
        holes = sorted(
            {
                row["epoch"]
                for row in history.rows
                for column in ("loss", CLEAN, ROBUST)
                if column in row and row["epoch"] not in history.values(column)
            }
        )
        if holes:
            listed = ", ".join(map(str, holes[:5]))
            more = ", ..." if len(holes) > 5 else ""
            text = (
                f"{name}Some values of {_count(len(holes), 'epoch')} are not "
                f"finite and are left out: {listed}{more}."
            )
            found.append(Text(text, "note"))
    first = histories[0]
    if first.has_attack and not any(h.has(GAP) for h in histories):
        text = (
            "There is no FGSM accuracy, gap, or gradient alignment: the guard "
            "against catastrophic overfitting was off. A training with "
            "--on_overfitting=warn has them."
        )
        if first.attack == "FGSM":
            text = "There is no gap: FGSM is the validation attack itself."
        found.append(Text(text, "note"))
    if not any(h.has(LEARNING_RATE) for h in histories):
        text = (
            "There is no learning rate: an earlier version of the program did "
            "not record it. A training from now on does."
        )
        found.append(Text(text, "note"))
    return found


def _summary(records):
    """A row for each run: the chosen and the last epoch."""
    heads = "run", "overfitted?", "best epoch", "clean", "robust"
    rows = [(*heads, "robust, last epoch", "largest gap", "alarms")]
    for record in records:
        history = Epochs(record)
        best, robust = history.best_epoch, history.values(ROBUST)
        gaps = history.values(GAP)
        has_guard = history.has(ALARM)
        rows.append(
            (
                record.name,
                answer(record).short,
                str(best or NOTHING),
                _cell(history, CLEAN, best),
                _cell(history, ROBUST, best),
                percent(robust[max(robust)]) if robust else NOTHING,
                f"{100 * max(gaps.values()):.2f}" if gaps else NOTHING,
                str(len(history.epochs_of(ALARM))) if has_guard else NOTHING,
            )
        )
    return Table(
        rows,
        "Validation accuracy in the best epoch and in the last; the gap in "
        "points.",
    )


def _epochs(history):
    """A row for some epochs: the first, the best, the last, and alarms."""
    columns = [
        (CLEAN, "clean", percent),
        (FGSM, "FGSM", percent),
        (ROBUST, history.attack, percent),
        (history.training_column, "training", percent),
        (GAP, "gap", lambda value: f"{100 * value:.2f}"),
        (ALIGNMENT, "alignment", lambda value: f"{value:.3f}"),
        (LEARNING_RATE, "learning rate", lambda value: f"{value:.3g}"),
        (SHARE, "epsilon in use", lambda value: f"{100 * value:.3g}%"),
    ]
    columns = [c for c in columns if history.has(c[0])]
    marks = {}
    for event, word in ((ALARM, "alarm"), (ROLLBACK, "rollback")):
        for epoch in history.epochs_of(event):
            marks.setdefault(epoch, []).append(word)
    if history.best_epoch:
        marks.setdefault(history.best_epoch, []).append("best")
    heads = ("epoch", *(name for _, name, _ in columns), "")
    rows = [heads]
    for epoch in _chosen_epochs(history, marks):
        rows.append(
            (
                str(epoch),
                *(_cell(history, c, epoch, form) for c, _, form in columns),
                ", ".join(marks.get(epoch, [])),
            )
        )
    some = len(rows) - 1 < len(history.rows)
    caption = "Some of the epochs; all are in history.csv." if some else ""
    return Table(rows, caption or "The epochs, as in history.csv.")


def _chosen_epochs(history, marks):
    epochs = [row["epoch"] for row in history.rows]
    if len(epochs) <= MOST_ROWS:
        return epochs
    alarms = sorted(set(marks) - {history.best_epoch})
    chosen = {epochs[0], epochs[-1], *alarms[: MOST_ROWS // 3]}
    chosen |= {history.best_epoch} & set(epochs)
    free = MOST_ROWS - len(chosen)
    step = (len(epochs) - 1) / (free + 1)
    chosen |= {epochs[round(step * (k + 1))] for k in range(free)}
    return sorted(chosen)


def _cell(history, column, epoch, form=percent):
    value = history.values(column).get(epoch)
    return NOTHING if value is None else form(value)


def _points(share):
    return f"{100 * share:.2f} points"


def _count(number, word):
    return f"{number} {word}" + ("" if number == 1 else "s")


def _times(number):
    return {1: "once", 2: "twice"}.get(number, f"{number} times")
