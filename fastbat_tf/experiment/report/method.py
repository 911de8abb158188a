"""What did the method do?"""

import math
from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator

from fastbat_tf.experiment.report import charts, labels, missing
from fastbat_tf.experiment.report.blocks import Picture, Table, Text
from fastbat_tf.experiment.report.epochs import SHARE, Epochs
from fastbat_tf.experiment.report.numbers import listed
from fastbat_tf.experiment.report.record import RunRecord, grouped
from fastbat_tf.methods import METHODS

QUESTION = "What did the method do?"
PREFIX = "robust_"
GRADIENT_NORM = f"{PREFIX}gradient_norm"
NORM_MEANING = "length of the gradient of the weights, before clipping"
UNKNOWN_MEANING = "logged by the method, which does not say what it means"
ARROW = " \N{RIGHTWARDS ARROW} "
# Heights, in inches.
PANEL, LINE = 1.35, 0.16


def blocks(records: Sequence[RunRecord]) -> list:
    """Returns the blocks of this section.

    Args:
        records: `RunRecord`s.
    """
    units = grouped(records)
    made = [
        _unit(unit, name, f"method-{number}")
        for number, (name, unit) in enumerate(units.items(), start=1)
    ]
    if len(units) == 1:
        return made[0]
    found = [Text(_opening(units))]
    for name, blocks_of_unit in zip(units, made, strict=True):
        found += [Text(name, "heading"), *blocks_of_unit]
    return found


def meanings(history: Epochs) -> dict[str, str]:
    """Returns what each column of a method's own reports means.

    Args:
        history: A `Epochs`.

    Returns:
        Dict of strings by column, in the order in which the method declares
        them.
    """
    spec = METHODS.get(history.record.method)
    declared = spec.reports if spec else {}
    found = {
        f"{PREFIX}{report}": meaning for report, meaning in declared.items()
    }
    for column in dict.fromkeys(c for row in history.rows for c in row):
        is_own = column not in (GRADIENT_NORM, SHARE)
        if column.startswith(PREFIX) and is_own:
            found.setdefault(column, UNKNOWN_MEANING)
    return {c: meaning for c, meaning in found.items() if history.has(c)}


def _opening(units):
    telling, silent = [], []
    for name, unit in units.items():
        histories = _histories(unit)
        has_reports = histories and meanings(histories[0])
        (telling if has_reports else silent).append(name)
    said = []
    if telling:
        verb = "reports" if len(telling) == 1 else "report"
        said.append(f"{listed(telling)} {verb} what the method did")
    if silent:
        verb = "has" if len(silent) == 1 else "have"
        said.append(f"{listed(silent)} {verb} no reports of a method's own")
    return "; ".join(said) + "."


def _histories(unit):
    return [Epochs(r, len(unit) == 1) for r in unit if r.history]


def _unit(unit, name, picture):
    """Returns the blocks of a run, or of several seeds."""
    first = unit[0]
    histories = _histories(unit)
    if not histories:
        return missing.history(first)
    own = meanings(histories[0])
    columns = dict(own)
    if histories[0].has(GRADIENT_NORM):
        columns[GRADIENT_NORM] = NORM_MEANING
    found = [Text(_sentence(histories, own, columns))]
    if not columns:
        return found
    names = ", ".join(map(_readable, columns))
    caption = f"Means over each epoch of {name}, as in history.csv."
    if histories[0].is_single:
        caption += " The green line is the epoch whose weights were kept."
    else:
        caption += f" One line for each of {len(histories)} seeds."
    return [
        *found,
        Picture(
            picture,
            _draw(histories, columns, picture),
            "svg",
            f"By epoch: {names}.",
            caption,
        ),
        _table(histories, columns),
    ]


def _sentence(histories, own, columns):
    first = histories[0]
    spec = METHODS.get(first.record.method)
    name = first.record.method
    if spec and spec.summary:
        name += f" ({spec.summary})"
    said = []
    for column in columns:
        start, _, end = (
            _number(_mean(histories, column, which)) for which in range(3)
        )
        change = start if start == end else f"{start}{ARROW}{end}"
        said.append(f"{_readable(column)} {change}")
    changes = ", ".join(said)
    seeds = "" if first.is_single else f", mean of {len(histories)} seeds"
    epochs = max(len(history.rows) for history in histories)
    span = f"epoch 1 to {epochs}" if epochs > 1 else "in its only epoch"
    if own:
        return f"{name}, {span}{seeds}: {changes}."
    text = f"{name} has no reports of its own"
    return f"{text}; {span}{seeds}: {changes}." if changes else f"{text}."


def _readable(column):
    return column.removeprefix(PREFIX).replace("_", " ")


def _epochs(history, column):
    """Returns the first, the best and the last epoch, or those nearest."""
    known = list(history.values(column))
    best = history.best_epoch
    nearest = min(known, key=lambda epoch: abs(epoch - (best or known[-1])))
    return min(known), nearest, max(known)


def _mean(histories, column, which):
    values = [
        history.values(column)[_epochs(history, column)[which]]
        for history in histories
        if history.has(column)
    ]
    return sum(values) / len(values)


def _number(value):
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}", value < 0)


def _draw(histories, columns, name):
    """Draws a small chart for each column."""
    wide = min(2, len(columns))
    high = math.ceil(len(columns) / wide)
    room = charts.WIDTH / wide - 0.6
    titles = {
        column: labels.wrap(meaning, room)
        for column, meaning in columns.items()
    }
    lines = max(title.count("\n") for title in titles.values()) + 2
    figure, axes = charts.figure(
        high,
        wide,
        height=high * (PANEL + LINE * lines + 0.2) + 0.3,
        sharex=True,
        squeeze=False,
    )
    axes = list(axes.flat)
    epochs = [row["epoch"] for h in histories for row in h.rows]
    labels.label_epochs(axes[0], min(epochs), max(epochs))
    for place, (column, title) in enumerate(titles.items()):
        panel = axes[place]
        # The empty line is that of the name, which is bold.
        panel.set_title(f"\n{title}", loc="left", fontsize=labels.TEXT_SIZE)
        above = labels.SPACING * labels.TEXT_SIZE * (title.count("\n") + 1)
        panel.annotate(
            _readable(column),
            (0, 1),
            xytext=(0, above + 6),  # The distance of a title.
            xycoords="axes fraction",
            textcoords="offset points",
            weight="bold",
            fontsize=labels.TEXT_SIZE,
        )
        _plot(panel, histories, column)
        is_lowest = place + wide >= len(columns)
        panel.set_xlabel("epoch" if is_lowest else "")
        panel.tick_params(labelbottom=is_lowest)
    for panel in axes[len(columns) :]:
        panel.set_visible(False)
    return charts.svg(figure, name)


def _plot(axes, histories, column):
    for history in histories:
        values = history.values(column)
        axes.plot(
            [row["epoch"] for row in history.rows],
            [values.get(row["epoch"], math.nan) for row in history.rows],
            color=charts.BLUE,
            lw=1.2 if history.is_single else 0.8,
            alpha=1.0 if history.is_single else 0.6,
            marker="o" if len(history.rows) <= charts.MOST_MARKERS else None,
            ms=3,
        )
        if history.is_single and history.best_epoch:
            axes.axvline(
                history.best_epoch, color=charts.GREEN, lw=1, ls=(0, (4, 3))
            )
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.yaxis.set_major_formatter("{x:g}")


def _table(histories, columns):
    first = histories[0]
    heads = ["report", "meaning", "first epoch", "best epoch", "last epoch"]
    if first.is_single:
        shown = _epochs(first, next(iter(columns)))
        heads[2:] = [
            f"{h} ({e})" for h, e in zip(heads[2:], shown, strict=True)
        ]
    rows = [tuple(heads)]
    for column, meaning in columns.items():
        values = [_number(_mean(histories, column, k)) for k in range(3)]
        rows.append((_readable(column), meaning, *values))
    caption = "Means over an epoch."
    if not first.is_single:
        caption += f" Means over {len(histories)} seeds."
    return Table(rows, caption)
