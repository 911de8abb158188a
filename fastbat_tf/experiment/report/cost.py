"""What did it cost, and how do I repeat it?"""

import statistics
from collections.abc import Callable
from itertools import cycle

from fastbat_tf.experiment.report import charts, commands, labels
from fastbat_tf.experiment.report.blocks import NOTHING, Picture, Table, Text
from fastbat_tf.experiment.report.comparable import training_seconds, units
from fastbat_tf.experiment.report.numbers import seconds
from fastbat_tf.experiment.report.record import RunRecord

QUESTION = "What did it cost, and how do I repeat it?"
NAME = "seconds-an-epoch"
# Epochs after the first, which compiles, that differ by less look alike.
VARIES = 1.25
MANY = 30  # Epochs, too many to mark each.


def blocks(records: list[RunRecord]) -> list:
    """Returns the blocks of this section.

    Args:
        records: List of `RunRecord`s.
    """
    made = [Text(_answer(records)), *_tables(records), *_chart(records)]
    return made + _repeat(records)


def _answer(records):
    trained = [r for r in records if training_seconds(r) is not None]
    if not trained and any(record.config for record in records):
        return "No epoch of the training has ended yet."
    if not trained:
        spent = sum(map(_evaluation_seconds, records))
        return (
            f"The evaluation took {seconds(spent)}; what the training took is "
            "not in these files."
        )
    by_time = sorted(trained, key=training_seconds)
    cheapest, dearest = by_time[0], by_time[-1]
    said = f"Training took {_spent(cheapest)}"
    if len(trained) > 1:
        said = f"Training took from {_spent(cheapest)} to {_spent(dearest)}"
    return f"{said}. The commands below repeat it."


def _spent(record):
    so_far = "" if record.has_ended else " so far"
    spent = f"{seconds(training_seconds(record))}{so_far}"
    each = _epoch_seconds(record)
    rate = f", {seconds(statistics.median(each))} an epoch" if each else ""
    device = _environment(record).get("device")
    where = f", on {device}" if device else ""
    return f"{spent} ({record.name}{rate}{where})"


def _tables(records):
    """Returns a table of what differs, and one of what all runs share."""
    rows = _rows(_ORIGINS, records)
    for name in dict.fromkeys(n for r in records for n in _versions(r)):
        cells = [_versions(record).get(name, NOTHING) for record in records]
        rows.append((name, *cells))
    shared = [
        (heading, cells[0])
        for heading, *cells in rows
        if len(cells) > 1 and len(set(cells)) == 1
    ]
    names = {heading for heading, _ in shared}
    rows = _rows(_COSTS, records) + [r for r in rows if r[0] not in names]
    caption = (
        "Seconds an epoch: the median, with the shortest and the longest "
        "epoch. Peak memory: the most in any epoch."
    )
    if any(NOTHING in row for row in rows):
        caption += f" {NOTHING}: not in the files."
    headings = "", *(record.name for record in records)
    made = [Table([headings, *rows], caption)]
    if shared:
        made.append(Table([("", "all runs"), *shared], "What all runs share."))
    return made


def _rows(kinds, records):
    rows = []
    for heading, describe in kinds.items():
        cells = [describe(record) for record in records]
        if any(cells):
            rows.append((heading, *(cell or NOTHING for cell in cells)))
    return rows


def _training(record):
    spent = training_seconds(record)
    if spent is None:
        return ""
    return seconds(spent) + ("" if record.has_ended else " so far")


def _epochs(record):
    return str(len(record.timing)) if record.timing else ""


def _epoch(record):
    each = _epoch_seconds(record)
    if not each:
        return ""
    median = seconds(statistics.median(each))
    return f"{median} ({seconds(min(each))} to {seconds(max(each))})"


def _epoch_seconds(record):
    return _column(record, "seconds")


def _column(record, name):
    each = [row.get(name) for row in record.timing]
    return [value for value in each if value is not None]


def _first_step(record):
    each = _column(record, "first_step_seconds")
    return seconds(each[0]) if each else ""


def _memory(record):
    each = _column(record, "peak_gigabytes")
    return f"{max(each):.2f} GB" if each else ""


def _evaluation(record):
    spent = _evaluation_seconds(record)
    return seconds(spent) if spent else ""


def _evaluation_seconds(record):
    return sum(row["seconds"] for row in record.results.get("attacks", []))


def _environment(record):
    return (record.config or {}).get("environment") or {}


def _from_environment(name: str) -> Callable[[RunRecord], str]:
    def describe(record):
        value = _environment(record).get(name)
        return "" if value is None else str(value)

    return describe


def _xla(record):
    value = _environment(record).get("xla")
    return {None: "", True: "on", False: "off"}.get(value, str(value))


def _seed(record):
    return str(record.config["training"]["seed"]) if record.config else ""


def _started(record):
    started = (record.config or {}).get("started") or ""
    return started.replace("T", " ").replace("Z", " UTC")


def _versions(record):
    return (record.config or {}).get("versions") or {}


_COSTS = {
    "training": _training,
    "epochs": _epochs,
    "seconds an epoch": _epoch,
    "first step, with compilation": _first_step,
    "evaluation": _evaluation,
    "peak memory": _memory,
}
_ORIGINS = {
    "device": _from_environment("device"),
    "kind": _from_environment("kind"),
    "replicas": _from_environment("replicas"),
    "CPU cores": _from_environment("cores"),
    "platform": _from_environment("platform"),
    "XLA": _xla,
    "seed": _seed,
    "started": _started,
    "directory": lambda record: str(record.path),
}


def _chart(records):
    """Draws the seconds of each epoch, if they vary."""
    drawn = [r for r in records if _varies(_epoch_seconds(r))]
    if not drawn:
        return []
    made, axes = charts.figure(height=2.8)
    ends, epochs = [], []
    for color, record in zip(cycle(charts.COLORS), records, strict=False):
        if record not in drawn:
            continue
        rows = [row for row in record.timing if row.get("seconds") is not None]
        axes.plot(
            [row["epoch"] for row in rows],
            [row["seconds"] for row in rows],
            color=color,
            marker="o" if len(rows) < MANY else "",
            markersize=3,
        )
        ends.append((rows[-1]["seconds"], record.name, color))
        epochs += [row["epoch"] for row in rows]
    axes.set_ylim(bottom=0)
    axes.set_ylabel("seconds")
    labels.label_epochs(axes, min(epochs), max(epochs))
    labels.label_ends(made, axes, ends)
    listed = "; ".join(f"{r.name} {_epoch(r)}" for r in drawn)
    return [
        Picture(
            NAME,
            charts.svg(made, NAME),
            "svg",
            f"Seconds of each epoch: median, shortest and longest: {listed}.",
            "Seconds of each epoch of the training. The first one includes "
            "compilation.",
        )
    ]


def _varies(each):
    later = each[1:]
    return len(later) > 1 and max(later) > VARIES * min(later)


def _repeat(records):
    """Returns the commands of all runs, and what to know about them."""
    every = units(records)
    made = _introduction(records)
    for unit in every:
        if len(every) > 1:
            made.append(Text(unit.name, "heading"))
        if unit.records[0].config is not None:
            made += _training_command(unit.records)
        made += _evaluation_commands(unit)
    return made


def _introduction(records):
    configs = [commands.config_of(record) for record in records]
    known = [config for config in configs if config is not None]
    if not known:
        return []
    said = "To repeat a training beside the first, give it another --run_dir."
    if not all(config.runtime.deterministic for config in known):
        said += " The bits are the same only with --deterministic."
    return [Text(said)]


def _training_command(records):
    command, is_recorded = commands.of_training(records)
    if command is None:
        return [
            Text(
                "No command of this version makes these settings; config.json "
                "lists them.",
                "note",
            )
        ]
    if is_recorded:
        return [Text(command, "code")]
    return [
        Text(
            "The run does not record its command; this one is made of its "
            "settings:",
            "note",
        ),
        Text(command, "code"),
    ]


def _evaluation_commands(unit):
    found = [c for r in unit.records for c in commands.of_evaluations(r)]
    made = [Text(command, "code") for command in found if command is not None]
    if None in found:
        made.append(
            Text(
                f"{unit.name}: the files of an evaluation do not say which "
                "model it measured, or with which surrogate, so its command "
                "cannot be told.",
                "note",
            )
        )
    return made
