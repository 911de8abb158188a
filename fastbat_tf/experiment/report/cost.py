"""What did it cost, and how do I repeat it?"""

import statistics
from collections.abc import Callable

from fastbat_tf.experiment.report import charts, commands, point_labels
from fastbat_tf.experiment.report.blocks import Picture, Table, Text
from fastbat_tf.experiment.report.comparable import training_seconds, units
from fastbat_tf.experiment.report.numbers import seconds
from fastbat_tf.experiment.report.point_labels import Label
from fastbat_tf.experiment.report.record import RunRecord

QUESTION = "What did it cost, and how do I repeat it?"
NOTHING = "\N{EN DASH}"
NAME = "seconds-an-epoch"
# Epochs after the first, which compiles, that differ by less look alike.
VARIES = 1.25
MANY = 30  # Epochs, too many to mark each.


def blocks(records: list[RunRecord]) -> list:
    """Returns the blocks of this section.

    Args:
        records: List of `RunRecord`s.
    """
    made = [Text(_answer(records)), _table(records)]
    made += _chart(records)
    for unit in units(records):
        if len(records) > 1:
            made.append(Text(unit.name, "heading"))
        made += _repeat(unit)
    return made


def _answer(records):
    trained = [r for r in records if training_seconds(r) is not None]
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


def _table(records):
    rows = [("", *(record.name for record in records))]
    for heading, describe in _ROWS.items():
        cells = [describe(record) for record in records]
        if any(cells):
            rows.append((heading, *(cell or NOTHING for cell in cells)))
    for name in dict.fromkeys(n for r in records for n in _versions(r)):
        cells = [_versions(record).get(name, NOTHING) for record in records]
        rows.append((name, *cells))
    caption = (
        "Seconds an epoch: the median, with the shortest and the longest "
        "epoch. Peak memory: the most in any epoch."
    )
    if any(NOTHING in row for row in rows):
        caption += f" {NOTHING}: not in the files."
    return Table(rows, caption)


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


_ROWS = {
    "Training": _training,
    "Epochs": _epochs,
    "Seconds an epoch": _epoch,
    "First step, with compilation": _first_step,
    "Evaluation": _evaluation,
    "Peak memory": _memory,
    "Device": _from_environment("device"),
    "Kind": _from_environment("kind"),
    "Replicas": _from_environment("replicas"),
    "CPU cores": _from_environment("cores"),
    "Platform": _from_environment("platform"),
    "XLA": _xla,
    "Seed": _seed,
    "Started": _started,
    "Directory": lambda record: str(record.path),
}


def _chart(records):
    """Draws the seconds of each epoch, if they vary."""
    drawn = [r for r in records if _varies(_epoch_seconds(r))]
    if not drawn:
        return []
    made, axes = charts.figure(height=2.8)
    ends = []
    colors = dict(zip(records, point_labels.colors(len(records)), strict=True))
    for record in drawn:
        color = colors[record]
        rows = [row for row in record.timing if row.get("seconds") is not None]
        axes.plot(
            [row["epoch"] for row in rows],
            [row["seconds"] for row in rows],
            color=color,
            marker="o" if len(rows) < MANY else "",
            markersize=3,
        )
        last = rows[-1]
        ends.append(Label(record.name, last["epoch"], last["seconds"], color))
    axes.set_ylim(bottom=0)
    point_labels.write(axes, ends)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("Epoch")
    axes.set_ylabel("Seconds")
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


def _repeat(unit):
    """Returns the commands of a run, or of several seeds."""
    made = []
    trained = [record for record in unit.records if record.config is not None]
    if trained:
        made += _training_command(trained)
    lost = False
    for record in unit.records:
        for command in commands.of_evaluations(record):
            if command is None:
                lost = True
            else:
                made.append(Text(command, "code"))
    if lost:
        made.append(
            Text(
                f"{unit.name}: the files of an evaluation do not say which "
                "model it measured, or with which surrogate, so its command "
                "cannot be told.",
                "note",
            )
        )
    return made


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
    said = "To repeat the training"
    if "--run_dir" in command:
        said += ", with another --run_dir"
    if not is_recorded:
        said += " (the run does not record its command; this one is made of "
        said += "its settings)"
    config = commands.config_of(records[0])
    if config is not None and not config.runtime.deterministic:
        said += "; the bits are the same only with --deterministic"
    return [Text(f"{said}:"), Text(command, "code")]
