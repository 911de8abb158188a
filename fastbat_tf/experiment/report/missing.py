"""What to say where a run lacks something: why, and which command adds it."""

import pathlib

from fastbat_tf.experiment.report import suggestions
from fastbat_tf.experiment.report.blocks import Text
from fastbat_tf.experiment.report.record import RunRecord

TRAIN = "python main.py --method=fastbat --dataset=cifar10"


def history(record: RunRecord) -> list[Text]:
    """Returns the blocks that stand for the history of a training.

    Args:
        record: A `RunRecord` without one.
    """
    if record.config is None:
        return [
            Text(
                f"Not known: {record.name} is an evaluation alone, without the "
                "history of a training. A training has one:"
            ),
            Text(TRAIN, "code"),
        ]
    return [
        Text("Not known yet: no epoch of this training has ended."),
        *continuing(record),
    ]


def results(record: RunRecord) -> list[Text]:
    """Returns the blocks that stand for the results of evaluations.

    Args:
        record: A `RunRecord` without any.
    """
    text = Text("Not known yet: nothing was measured.")
    if record.has_ended:
        command = suggestions.evaluate(record, ["pgd-10-1"])
        return [text, Text(command, "code")]
    return [text, *continuing(record)]


def elsewhere(record: RunRecord) -> str:
    """Returns where a run's outcomes are that a report does not read, or "".

    Args:
        record: A `RunRecord` with results.
    """
    found = [
        str(pathlib.Path(str(row["outcomes"])).parent)
        for row in record.results.get("attacks", [])
        if "outcomes" in row and record.directory(row) is None
    ]
    if not found:
        return ""
    return (
        "Some outcomes of its images are outside of its directory, where a "
        f"report does not look for them: add {found[0]}, relative to the run, "
        "to --runs."
    )


def continuing(record: RunRecord) -> list[Text]:
    """Returns the blocks that say how an unfinished training continues.

    Args:
        record: A `RunRecord` of a training.
    """
    command = record.config and record.config.get("command")
    if not command:
        return [Text("The command that started it continues it.", "note")]
    return [
        Text("The command that started it continues it:", "note"),
        Text(command, "code"),
    ]
